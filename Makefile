# Two commands are enough: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test docs fuzz check sanitize bench clean
.DEFAULT_GOAL := help

help: ## show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

.venv/ready: pyproject.toml constraints.txt $(wildcard native/* native/*/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "upscore needs Python 3.11 or later; found " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 ...")'
	@echo "setting up .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/ready ## train, evaluate and predict on images made on the spot; writes demo/
	$(BIN)/upscore demo --out demo

test: .venv/ready ## every test
	$(BIN)/python -m pytest -n 2

docs: .venv/ready ## the API reference from the docstrings, as pages in build/docs; a warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs/reference build/docs
	@echo "open build/docs/index.html"

fuzz: .venv/ready ## hostile inputs for hours, others every time: UPSCORE_FUZZ_EXAMPLES=20000 of each kind
	UPSCORE_FUZZ_EXAMPLES=$${UPSCORE_FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest -n 2 tests/fuzz

check: .venv/ready ## style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sanitize: .venv/ready ## the tests of native/ with the address and undefined-behaviour sanitizers (g++, CMake)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target build/tools nanobind
	PYTHONPATH=build/tools $(BIN)/python native/sanitized.py

bench: .venv/ready ## speed beside the peers, as JSON (installs the peers)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done

clean: ## remove .venv, runs and the demo
	rm -rf .venv demo runs build dist docs/reference/modules src/*.egg-info
