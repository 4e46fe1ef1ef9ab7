# Build zstd's sources into a shared library: a recipe for each object, then one link. SOURCES, LINKER.
OBJECTS := $(patsubst $(SOURCES)/%.c,objects/%.o,$(wildcard $(SOURCES)/common/*.c $(SOURCES)/compress/*.c))

libbuilt.so: $(OBJECTS)
	cc -shared -fuse-ld=$(LINKER) -o $@ $^

objects/%.o: $(SOURCES)/%.c
	@mkdir -p $(@D)
	cc -O1 -fPIC -DZSTD_DISABLE_ASM -MD -c -o $@ $<

clean:
	rm -rf objects libbuilt.so
