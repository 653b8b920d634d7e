# `make help` lists what there is. Every target installs what it needs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Processes for the tests: one per core.
JOBS ?= auto
# Small tensors: one thread a process is fastest, and processes share the cores already.
TEST_ENV := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test format lint types bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.base: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing descend into $(VENV) ..."
	@$(PIP) --editable '.[images]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the development tools ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	@echo "Installing the libraries to compare with ..."
	@$(PIP) --editable '.[bench]'
	@touch $@

demo: $(VENV)/.base ## Train on 1,797 scanned digits and write a report
	@$(BIN)/descend train digits

test: $(VENV)/.dev ## Run all tests
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(VENV)/.dev ## Check format and style
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev ## Check types
	@$(BIN)/mypy

bench: $(VENV)/.bench ## Measure speed against other libraries (takes half an hour; leave the machine alone)
	@$(BIN)/python benchmarks/training_speed.py --size both
	@$(BIN)/python benchmarks/packs.py
	@$(BIN)/python benchmarks/second_order_speed.py
	@$(BIN)/python benchmarks/time_to_target.py
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/default_quality.py

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache
