# Two commands do everything on a fresh Debian 12 or Ubuntu 24.04: `make demo` and `make test`.

MODEL ?= demo
IMAGE ?= assets/demo.png
PROMPT ?= What is in the picture?
PREFIX ?= /usr/local
TIME ?= 60
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := build
.PHONY: setup build demo test bench install format check build-asan asan fuzz clean

setup:
	@scripts/setup.sh

build: setup
	@cmake --preset release > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }; rm -f build.log
	@cmake --build --preset release -j$(JOBS)

demo: build
	@if [ "$(MODEL)" = demo ]; then \
	    echo "The built-in model is a test fixture with random weights: its answer is noise and only shows" >&2; \
	    echo "that everything runs. With real weights: make demo MODEL=path/to/InternVL2-1B IMAGE=photo.jpg" >&2; \
	fi
	build/internvl chat "$(MODEL)" -i "$(IMAGE)" -p "$(PROMPT)" --max-new-tokens 64

test: build
	@ctest --preset release -j$(JOBS)

bench: build
	build/internvl bench "$(MODEL)" -i "$(IMAGE)"

install: build
	cmake --install build --prefix "$(PREFIX)"

format:
	clang-format -i $$(git ls-files 'src/*.h' 'src/*.cpp' 'include/*.h' 'tests/*.h' 'tests/*.cpp' 'bench/*.cpp' 'examples/*.cpp')

check:
	.ci/check_includes.py
	.ci/check_style.sh
	.ci/check_symbols.sh build

build-asan: setup
	@scripts/setup.sh clang libclang-rt-dev
	cmake --preset asan
	cmake --build --preset asan -j$(JOBS)

asan: build-asan
	ctest --preset asan -j$(JOBS)

fuzz: build-asan
	scripts/fuzz.sh build-asan $(TIME)

clean:
	rm -rf build build-debug build-asan
