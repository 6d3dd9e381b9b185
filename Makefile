# Everything is installed into VENV by the first target that needs it, and again only when
# pyproject.toml or constraints.txt have changed. Nothing outside of this folder is touched.

.PHONY: help demo test lint types tests fuzz tests-portable tests-portable-quick tests-lowest docs \
	package release-check bench format clean
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin

# The first of these that runs and is new enough.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# The oldest torch and optree that pyproject.toml allows; and nothing but funcopt's wheel.
LOWEST ?= .venv-lowest
BARE := build/bare

INSTALL := -m pip install --disable-pip-version-check --constraint
PIP := $(BIN)/python $(INSTALL) constraints.txt

FOR_TESTS := --editable '.[examples]' --group test --group frameworks --group references \
	--group benchmarks
FOR_WORK := $(FOR_TESTS) --group docs --group dev --group package

# One process for each core, each with one thread: on small tensors more threads only wait.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8

help:
	@echo "make demo     train eight optimizers on handwritten digits, in pure and in torch form;"
	@echo "              with DEMO_ARGS=--all, every optimizer there is"
	@echo "make test     lint, types and tests"
	@echo "make lint     ruff: style and format"
	@echo "make types    mypy and pyright"
	@echo "make tests    pytest; e.g. make tests PYTEST_ARGS='-x -k adam'"
	@echo "make fuzz     random programs on all engines and in both forms: SECONDS=600 SEED=7"
	@echo "make tests-portable"
	@echo "              the numerical tests as other processors run them: on each set of kernels,"
	@echo "              on 1 and 2 threads; tests-portable-quick: on two, what enlarges roundings"
	@echo "make tests-lowest  pytest with the oldest torch and optree that are allowed, in $(LOWEST)"
	@echo "make docs     the site, in site/; a warning is an error"
	@echo "make package  the wheel and the sdist, in dist/; the wheel takes a step in a bare environment"
	@echo "make release-check  package, and the README where nothing but funcopt is installed; one version"
	@echo "make bench    speed next to others: a table and a figure, in docs/; on a quiet machine"
	@echo "make format   mend what ruff can mend"
	@echo "make clean    remove what was built, $(VENV) and $(LOWEST)"

demo: $(VENV)/.for-demo
	@echo "==> training"
	$(BIN)/python examples/digits.py $(DEMO_ARGS)

test: lint types tests

lint: $(VENV)/.for-work
	@echo "==> lint"
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.for-work
	@echo "==> types"
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

tests: $(VENV)/.for-work
	@echo "==> tests"
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_ARGS)

SECONDS ?= 60
SEED ?= 0

fuzz: $(VENV)/.for-work
	@echo "==> random programs"
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

# Other processors, as far as this one can pass for them: ATen, MKL and oneDNN each choose their
# kernels by what the processor has, and round otherwise with others. A number after the name is that
# of the threads. pytest's header shows that a row computes otherwise: in the bits of a product.
ROWS = native-1 native-2 avx2-1 avx2-2 default-1 default-2
ROW_native =
ROW_avx2 = ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
ROW_default = ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41
PORTABLE_ARGS ?= -m numerical

tests-portable: $(addprefix .portable-,$(ROWS))

tests-portable-quick:
	@$(MAKE) --no-print-directory tests-portable ROWS="avx2-1 default-2" PORTABLE_ARGS="-m enlarging"

.portable-%: $(VENV)/.for-work
	@echo "==> tests as on $*"
	$(ROW_$(word 1,$(subst -, ,$*))) OMP_NUM_THREADS=$(word 2,$(subst -, ,$*)) OMP_WAIT_POLICY=passive \
		$(BIN)/pytest $(PYTEST_ARGS) $(PORTABLE_ARGS)

tests-lowest: $(LOWEST)/.for-tests
	@echo "==> tests with the oldest torch and optree"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest $(PYTEST_ARGS)

docs: $(VENV)/.for-work
	@echo "==> docs"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

package: $(VENV)/.for-work
	@echo "==> package"
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear $(BARE)
	$(BARE)/bin/python $(INSTALL) constraints.txt dist/*.whl
	for check in $(CHECKS); do $(BARE)/bin/python -I .ci/$$check.py || exit 1; done
	rm -r $(BARE)

# What runs where the wheel alone is installed.
CHECKS ?= wheel

release-check: $(VENV)/.for-work
	@echo "==> release"
	$(BIN)/python .ci/release.py
	@$(MAKE) --no-print-directory package CHECKS="wheel readme"
	@echo "==> ready: dist/"

bench: $(VENV)/.for-work
	@echo "==> measuring"
	$(BIN)/python -m benchmarks --output docs $(BENCH_ARGS)

format: $(VENV)/.for-work
	@echo "==> format"
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(LOWEST) build dist site out .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "There is no Python 3.11 or later here:" \
		"name one with make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.for-demo: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "==> installing funcopt and what the examples need"
	$(PIP) --editable '.[examples]'
	@touch $@

$(VENV)/.for-work: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "==> installing funcopt and what the tests and the docs need"
	$(PIP) --upgrade pip # for groups
	$(PIP) $(FOR_WORK)
	@touch $@ $(VENV)/.for-demo

$(LOWEST)/.for-tests: pyproject.toml constraints.txt .ci/lowest.py
	@echo "==> installing funcopt with the oldest torch and optree that it allows"
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python $(INSTALL) $(LOWEST)/constraints.txt --upgrade pip
	$(LOWEST)/bin/python $(INSTALL) $(LOWEST)/constraints.txt $(FOR_TESTS)
	@touch $@
