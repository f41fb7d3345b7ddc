# Every target does its own set-up, in .venv, on a machine with Python 3.11 or newer, make and a C++ compiler.
# The stamps depend on what decides an installation: while that is unchanged, nothing is installed and no network is used.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MATHJAX_VERSION := 3.2.2
MATHJAX := docs/_build/mathjax-$(MATHJAX_VERSION)/tex-svg-full.js
INSTALLED_FROM := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

# A compiler that is there and fails must not pass unseen: without the native kernels the installation and the tests fail.
export LONGWAVE_REQUIRE_NATIVE := 1

.PHONY: help demo test sanitize check format bench docs doctor clean

help:
	@echo "make demo    train S4D on sequential MNIST, stream the test images, draw pictures (runs/demo)"
	@echo "make test    all tests"
	@echo "make sanitize  the tests of the native kernels under the address and undefined-behaviour sanitizers"
	@echo "make check   ruff, pyright, import-linter"
	@echo "make format  ruff, repairing what it can"
	@echo "make bench   the benchmarks (use an idle machine)"
	@echo "make docs    the documentation, its code executed, in docs/_build/html (needs npm)"
	@echo "make doctor  versions, instruction set, what each operation takes here and why"
	@echo "make clean   remove .venv and what was built"

.venv/.demo: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[demo]'
	touch $@

.venv/.dev: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch .venv/.demo $@

.venv/.docs: $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	touch .venv/.demo $@

# MathJax is copied into the pages, so that they need no network.
$(MATHJAX):
	@command -v npm >/dev/null || { echo "make docs: npm, which fetches MathJax, is not there: install Node.js"; exit 1; }
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent mathjax@$(MATHJAX_VERSION)
	tar -xzOf $(@D)/mathjax-$(MATHJAX_VERSION).tgz package/es5/$(@F) >$@.part
	rm $(@D)/*.tgz
	mv $@.part $@

demo: .venv/.demo
	$(BIN)/longwave demo

# A process on each core does more in its time than threads do.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# The package is installed again, into a folder of its own, with other kernels; -S keeps the editable one out of sight. The
# sanitizers' runtime has to be the first library in the process. Python itself leaks by design. To a kernel a row in 16
# bits is the row in 32.
SANITIZED := build/sanitize/package
$(SANITIZED): $(INSTALLED_FROM) $(shell find src -name '*.py') | .venv/.dev
	rm -rf $@
	$(BIN)/pip install -q --no-deps --target $@ -C cmake.define.LONGWAVE_SANITIZE=ON -C build-dir=build/sanitize/objects .
	touch $@

sanitize: $(SANITIZED)
	PYTHONPATH=$(SANITIZED):$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LONGWAVE_EXAMPLES=40 \
	$(BIN)/python -S -m pytest -p no:cacheprovider tests/ops/test_drawn.py tests/ops/test_contract.py tests/ops/test_decoding.py \
		-k "decoding or drawn or (exact and cpu and not float16) or strides or no_rows"

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
	$(BIN)/python -m benchmarks.linear
	$(BIN)/python -m benchmarks.linear_scan
	$(BIN)/python -m benchmarks.selective_scan
	$(BIN)/python -m benchmarks.ssd
	$(BIN)/python -m benchmarks.wkv
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.import_time

docs: .venv/.docs $(MATHJAX)
	$(BIN)/sphinx-build -q -n -W --keep-going -d docs/_build/doctrees -D html_static_path=$(patsubst docs/%,%,$(dir $(MATHJAX))) docs docs/_build/html

doctor: .venv/.demo
	$(BIN)/longwave doctor

clean:
	rm -rf .venv build docs/_build
