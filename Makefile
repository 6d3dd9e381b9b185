# Everything is installed into VENV by the first target that needs it, and again only when
# pyproject.toml or constraints.txt have changed. Nothing outside of this folder is touched.

.PHONY: help demo test lint types tests docs bench format clean
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin

# The first of these that runs and is new enough.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

# One process for each core, each with one thread: on small tensors more threads only wait.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8

help:
	@echo "make demo     train eight optimizers on handwritten digits, in pure and in torch form;"
	@echo "              with DEMO_ARGS=--all, every optimizer there is"
	@echo "make test     lint, types and tests"
	@echo "make lint     ruff: style and format"
	@echo "make types    mypy and pyright"
	@echo "make tests    pytest; e.g. make tests PYTEST_ARGS='-x -k adam'"
	@echo "make docs     the site, in site/; a warning is an error"
	@echo "make bench    speed next to others: a table and a figure, in docs/; on a quiet machine"
	@echo "make format   mend what ruff can mend"
	@echo "make clean    remove what was built, and $(VENV)"

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

docs: $(VENV)/.for-work
	@echo "==> docs"
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.for-work
	@echo "==> measuring"
	$(BIN)/python -m benchmarks --output docs $(BENCH_ARGS)

format: $(VENV)/.for-work
	@echo "==> format"
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist site out .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
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
	$(PIP) --editable '.[examples,test,frameworks,benchmarks,docs,dev]'
	@touch $@ $(VENV)/.for-demo
