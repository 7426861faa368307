# The short way in. What each target does is in scripts/ and CMakePresets.json.

.PHONY: help build run test check soak test-torch2 format clean
.DEFAULT_GOAL := help

program := build/release/trireme
configured := build/release/build.ninja

help:
	@echo "make build       install what is missing and build $(program)"
	@echo "make run         build, fetch Fashion-MNIST and train a small network on all cores"
	@echo "make test        build and run every test: release, sanitizers, fuzz targets, format"
	@echo "make check FOLDER=comm [TEST='Split*']"
	@echo "                 build and run the tests of one folder, or those of them with such names"
	@echo "make soak [MINUTES=60]"
	@echo "                 what takes longer: every number of ranks, long examples, fuzzing, repeated"
	@echo "make test-torch2 build and run the release's tests on libtorch 2.6, in a Debian 13 under .cache/"
	@echo "make format      format the sources"
	@echo "make clean       remove build/ (fetched data stays in .cache/)"

build:
	@scripts/install-dependencies.sh
	@test -f $(configured) || cmake --preset release -DTRIREME_TESTS=OFF -DTRIREME_EXAMPLES=OFF
	@cmake --build --preset release --parallel "$$(scripts/jobs.sh)" --target trireme_program

run: build
	@scripts/fetch-data.sh fashion-mnist
	@$(program) train examples/fashion-mnist.toml --overwrite

test:
	@scripts/install-dependencies.sh --test
	@scripts/test.sh

check:
	@scripts/check.sh "$(FOLDER)" "$(TEST)"

soak:
	@scripts/install-dependencies.sh --test
	@scripts/soak.sh "$(MINUTES)"

test-torch2:
	@scripts/test-torch2.sh

format:
	@git ls-files -z '*.h' '*.cpp' '*.cu' | xargs -0 -r clang-format -i

clean:
	rm -rf build
