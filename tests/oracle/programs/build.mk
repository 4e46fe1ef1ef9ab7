# Build Brotli's sources into a shared library: a recipe for each object, then one link by LINKER.
SOURCES := sources/c
OBJECTS := $(patsubst $(SOURCES)/%.c,objects/%.o,$(wildcard $(SOURCES)/*/*.c))

libbuilt.so: $(OBJECTS)
	cc -shared -fuse-ld=$(LINKER) -o $@ $^

objects/%.o: $(SOURCES)/%.c
	@mkdir -p $(@D)
	cc -O1 -fPIC -MD -I$(SOURCES)/include -c -o $@ $<

clean:
	rm -rf objects libbuilt.so
