# SPDX-License-Identifier: Apache-2.0
# The short way in; the build itself is CMake's (CMakePresets.json).
#   make          build/release/hone
#   make test     everything that needs only the build
#   make demo     a real model learns a real task from real data
#   make interop  the tests against PyTorch, Keras, PEFT and llama.cpp

BUILD   = build/release
HONE    = $(BUILD)/hone
JOBS   ?= $(shell nproc)
CHECKS  = floors budget headers symbols
PREFIX ?= /usr/local
VERSION = $(shell sed -n 's/^#define HONE_VERSION "\(.*\)"/\1/p' include/hone/base.h)
DIST    = hone-$(VERSION)-linux-$(shell uname -m)
# Tests that need the reference model run when it is in the cache.
export HONE_MODEL ?= $(shell scripts/get-smollm2 --cached)

hone: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target hone_cli

# The tests and their tools too.
everything: configure
	@cmake --build $(BUILD) --parallel $(JOBS)

configure: setup
	@cmake --preset release $(if $(wildcard $(BUILD)/build.ninja),>/dev/null)
	@ln -sf src/cli/hone $(HONE)

setup:
	@scripts/setup

test: everything
	ctest --test-dir $(BUILD) --output-on-failure --parallel $(JOBS)
	@for check in $(CHECKS); do tools/check_$$check --self-test && tools/check_$$check || exit 1; done

# The tests of what may go wrong in their long form: every place where a fault can come.
trust: everything
	HONE_TRUST=long ctest --test-dir $(BUILD) --output-on-failure -R ^trust_

demo: hone
	@HONE_BINARY=$(HONE) recipes/package-sections/demo

# A process for each file: a crash inside a peer loses one file's tests, not all.
interop: everything
	@model=$$(scripts/get-smollm2) && minilm=$$(scripts/get-minilm) && python=$$(scripts/interop-env) || \
	    exit 1; failed=0; \
	for file in tests/interop/test_*.py; do \
	    echo "$$file"; HONE_BINARY=$(CURDIR)/$(HONE) HONE_MODEL=$$model HONE_MINILM=$$minilm \
	        $$python -m pytest -q -ra -p no:cacheprovider $$file || failed=1; \
	done; exit $$failed

# The floors that know of processors, and the models on them, for 64-bit Arm under an emulator.
# (attention_map is a test of the command, which Python starts: not there.)
ARM64_TESTS = ^(base|attention|element|dispatch|dequantise|matmul|additive|tape|layer|llama|generate)
arm64: setup
	@scripts/setup arm64
	cmake --preset $@
	cmake --build build/$@ --parallel $(JOBS)
	HONE_TESTS=some ctest --test-dir build/$@ --output-on-failure --parallel $(JOBS) \
	    -R '$(ARM64_TESTS)' -E '^attention_map$$'

# The suite under the sanitizers, each in a build folder of its own.
asan tsan: setup
	cmake --preset $@
	cmake --build build/$@ --parallel $(JOBS)
	ctest --test-dir build/$@ --output-on-failure --parallel $(JOBS)

# Nothing is used before it was written. The libraries are built so too, from their sources; the
# kernels are the plain ones, for what intrinsics write is not seen.
msan: setup
	@scripts/setup ci
	scripts/msan-libs build/msan-libs
	cmake --preset $@
	cmake --build build/$@ --parallel $(JOBS)
	MSAN_OPTIONS=allocator_may_return_null=1 \
	    ctest --test-dir build/$@ --output-on-failure --parallel $(JOBS)

# Every parser under libFuzzer for SECONDS of processor time each, from its corpus on; what it finds
# stays in build/fuzz/new.
FUZZERS = adapter config csv data gguf hf hub safetensors template tokenizer
SECONDS ?= 20
fuzz: setup
	cmake --preset $@
	cmake --build --preset $@ --parallel $(JOBS)
	@printf '%s\n' $(FUZZERS) | \
	    xargs -P $(JOBS) -I '{}' tests/fuzz/run build/fuzz '{}' $(SECONDS) build/fuzz/new/'{}'

# Kernels beside the machine's own peak, and other libraries where they are installed.
bench: setup
	cmake -S . -B build/bench -G Ninja -DHONE_BENCH=ON -DHONE_TESTS=OFF
	cmake --build build/bench --parallel $(JOBS)
	@for program in build/bench/bench/bench_*; do echo "== $$program"; $$program || exit 1; done

SOURCES = $(shell find include src tests bench examples -name '*.[ch]')
format:
	@clang-format -i $(SOURCES)

# Below PREFIX (and DESTDIR before it): the command, its pages, the library. docs/install.md.
install: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target hone_cli hone hone_shared hone_pages
	cmake --install $(BUILD) --prefix $(PREFIX)
	@mv $(BUILD)/install_manifest.txt $(BUILD)/installed.txt

uninstall:
	@cmake -DMANIFEST=$(BUILD)/installed.txt -P cmake/HoneUninstall.cmake

# A Debian package.
deb: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target hone_cli hone hone_shared hone_pages
	cd $(BUILD) && cpack -G DEB -B packages
	@ls $(BUILD)/packages/*.deb

# A tarball whose command needs nothing that is installed, tried in an empty root.
dist: setup
	cmake -S . -B build/dist -G Ninja -DCMAKE_BUILD_TYPE=Release -DHONE_STATIC=ON -DHONE_TESTS=OFF
	cmake --build build/dist --parallel $(JOBS) --target hone_cli hone_pages
	rm -rf build/dist/$(DIST)
	cmake --install build/dist --prefix build/dist/$(DIST) --component command --strip
	tar -C build/dist --sort=name --owner=0 --group=0 --numeric-owner -czf build/dist/$(DIST).tar.gz $(DIST)
	tests/install/test_dist build/dist/$(DIST).tar.gz tests/fixtures

# The list of the library's functions, where it is to change.
symbols: everything
	tools/check_symbols --write

# What is written from the program's own tables.
docs: hone
	@$(HONE) --help=markdown >docs/options.md

check-format:
	@clang-format --dry-run -Werror $(SOURCES)

clean:
	rm -rf build

.PHONY: install uninstall deb dist symbols
.PHONY: hone everything configure setup test trust demo interop fuzz arm64 asan tsan msan bench format docs check-format clean
