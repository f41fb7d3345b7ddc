# Every target does its own set-up, in .venv, on a machine with Python 3.11 or newer, make and a C++ compiler.
# The stamps depend on what decides an installation: while that is unchanged, nothing is installed and no network is used.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED_FROM := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

# A compiler that is there and fails must not pass unseen: without the native kernels the installation and the tests fail.
export LONGWAVE_REQUIRE_NATIVE := 1

.PHONY: help demo test check format bench doctor clean

help:
	@echo "make demo    train S4D on sequential MNIST, stream the test images, draw pictures (runs/demo)"
	@echo "make test    all tests"
	@echo "make check   ruff, pyright, import-linter"
	@echo "make format  ruff, repairing what it can"
	@echo "make bench   the benchmarks (use an idle machine)"
	@echo "make doctor  versions, instruction set, what each operation takes here and why"
	@echo "make clean   remove .venv and build"

.venv/.demo: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[demo]'
	touch $@

.venv/.dev: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch .venv/.demo $@

demo: .venv/.demo
	$(BIN)/longwave demo

test: .venv/.dev
	$(BIN)/python -m pytest

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev
	$(BIN)/python -m benchmarks.s4d
	$(BIN)/python -m benchmarks.lti
	$(BIN)/python -m benchmarks.linear_scan
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.import_time

doctor: .venv/.demo
	$(BIN)/longwave doctor

clean:
	rm -rf .venv build
