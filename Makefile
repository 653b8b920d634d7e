# `make help` lists what there is. Every target installs what it needs.

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
EXTRAS := excel,gallery,images,onnx,search,tensorboard,zstd
# Dependency groups need pip 25.1.
NEW_PIP := -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Processes for the tests: one per core.
JOBS ?= auto
# Small tensors: one thread a process is fastest, and processes share the cores already.
# Compiled files are written even where the environment forbids it: to compile every test again costs ten seconds a process.
TEST_ENV := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 PYTHONDONTWRITEBYTECODE=
# Each process starts with one half of the tests in their order, so that fixtures are shared; who is done takes from the other.
PYTEST := -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo shell test test-fast test-thorough test-lowest format api lint types bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.base: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing descend into $(VENV) ..."
	@$(BIN)/python $(NEW_PIP)
	@$(PIP) --editable '.[images]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the development tools ..."
	@$(PIP) --editable '.[$(EXTRAS)]' --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	@echo "Installing the libraries to compare with ..."
	@$(PIP) --editable '.[images]' --group bench
	@touch $@

$(LOWEST)/.test: pyproject.toml constraints.txt .ci/lowest.py
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@echo "Installing the lower bounds of all dependencies but torch into $(LOWEST) ..."
	@$(LOWEST)/bin/python $(NEW_PIP)
	@$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/requirements.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --requirement $(LOWEST)/requirements.txt "$$(grep '^torch==' constraints.txt)" --editable . --group test
	@touch $@

demo: $(VENV)/.base ## Train on 1,797 scanned digits and write a report
	@$(BIN)/descend train digits
	@echo
	@echo "What to do next:"
	@echo "  make shell                                open a shell with descend (or: . $(BIN)/activate)"
	@echo "and there:"
	@echo "  descend recipe --explain digits           print every automatic choice with its reason"
	@echo "  descend train wine                        train on another data set"
	@echo "  descend train FILE.csv --target COLUMN    train on your own table"

shell: $(VENV)/.base ## Open a shell in which the environment is active; exit leaves it
	@echo "descend is on the path of this shell; 'exit' leaves it. Help: descend --help"
	@unset MAKEFLAGS MFLAGS MAKELEVEL; \
	  VIRTUAL_ENV='$(abspath $(VENV))' PATH="$(abspath $(BIN)):$$PATH" $${SHELL:-/bin/sh}

test: $(VENV)/.dev ## Run all tests
	@$(TEST_ENV) $(BIN)/python $(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.dev ## Run all tests but those marked slow: trainings of every catalogue entry, kills, exports, scikit-learn's checks
	@$(TEST_ENV) $(BIN)/python $(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-thorough: $(VENV)/.dev ## Run all tests with four times the examples of each property, new ones in every run
	@$(TEST_ENV) HYPOTHESIS_PROFILE=thorough $(BIN)/python $(PYTEST) --timeout=3000 $(PYTEST_ARGS)

test-lowest: $(LOWEST)/.test ## Run the fast tests with the lower bounds of all dependencies but torch
	@# Old releases warn of new ones of each other.
	@$(TEST_ENV) $(LOWEST)/bin/python $(PYTEST) -m "not slow" -W default $(PYTEST_ARGS)

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

api: $(VENV)/.dev ## Update the list of public names and the types of recipes after an intended change
	@$(BIN)/python -m descend.recipe.stubs
	@$(BIN)/python -m tests.support.public_api

lint: $(VENV)/.dev ## Check format and style
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev ## Check types
	@$(BIN)/mypy

bench: $(VENV)/.bench ## Measure speed against other libraries (takes half an hour; leave the machine alone)
	@$(BIN)/python benchmarks/training_speed.py --size all
	@$(BIN)/python benchmarks/packs.py
	@$(BIN)/python benchmarks/second_order_speed.py
	@$(BIN)/python benchmarks/time_to_target.py
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/default_quality.py

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(LOWEST) .pytest_cache .hypothesis .mypy_cache .ruff_cache
