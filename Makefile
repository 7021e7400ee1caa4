# attnlab. `make reproduce` and `make test` do all the set-up they need; `make help` says what else there is.
# PYTHON=/path/to/python3.12 chooses an interpreter; else uv is used if it is there, else the first Python >= 3.12 found.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
STUDY ?= active-dormant
PRESET ?= laptop
SETUP := VENV="$(VENV)" PYTHON="$(PYTHON)" bash tools/setup.sh

.PHONY: help reproduce test slow lint types notebooks wheel bench programs floors lock clean

help:
	@echo "make reproduce   install, then run a study: STUDY=$(STUDY) PRESET=$(PRESET)"
	@echo "make test        install with the developers' tools, then the fast tests"
	@echo "make slow        the full reproductions; make bench: speed ratios (ONLY=, AGAINST=commit)"
	@echo "make programs    lower every paper preset for TPU and CUDA; make lint types notebooks wheel floors"

$(VENV)/.user: pyproject.toml
	@$(SETUP) user

$(VENV)/.dev: pyproject.toml
	@$(SETUP) dev

reproduce: $(VENV)/.user
	$(BIN)/attnlab reproduce $(STUDY) --preset $(PRESET)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=40

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/python -m pyright

notebooks: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m notebook

wheel: $(VENV)/.dev
	bash tools/check_wheel.sh $(BIN)/python

bench: $(VENV)/.dev
ifdef AGAINST
	$(BIN)/python -m tests.bench.against $(AGAINST) --only "$(ONLY)"
else
	$(BIN)/python -m tests.bench --only "$(ONLY)"
endif

programs: $(VENV)/.dev
	JAX_PLATFORMS=cpu $(BIN)/attnlab programs --lower

floors:
	bash tools/floors.sh

lock:
	uv export -q --format requirements.txt --no-emit-project --no-header -o requirements.lock
	uv export -q --format requirements.txt --no-emit-project --no-header --extra dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .jax_cache
