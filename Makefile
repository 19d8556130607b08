# `make` alone lists everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UP_ARGS ?=

.PHONY: help install up demo test lint types rooms soak chaos bench bench-large lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv from the lock file and put the command at .venv/bin/runfeed

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else f"Runfeed needs Python 3.11 or newer, found {sys.version.split()[0]}: make install PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: install ## start everything in one process on 127.0.0.1 (UP_ARGS="--port 9000" passes options)
	@exec $(BIN)/runfeed up $(UP_ARGS)

demo: install ## make real results in a sample repository and push them to the running server
	@$(BIN)/python -m tests.demo

test: install lint types rooms ## every check and test, in minutes
	$(BIN)/python -m pytest -n 2 --dist loadscope

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

rooms: install
	$(BIN)/lint-imports

soak: install ## the long tests, whole
	RUNFEED_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 3600

chaos: install ## every role twice or more under 200 faults and 20,000 submissions; counts what was lost (15 minutes)
	$(BIN)/python -m tests.faults --submissions 20000 --faults 200

bench: install ## measure speed and memory; BENCHMARKS.md says how to read it
	$(BIN)/python -m tests.bench

bench-large: install ## the same at full size
	$(BIN)/python -m tests.bench --large

lock: ## renew requirements.lock for every supported platform, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.11 --group dev pyproject.toml -o requirements.lock
	echo hatchling | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header --python-version 3.11 --constraint requirements.lock pyproject.toml - -o infra/deploy/requirements.lock

clean: ## remove what make install made
	rm -rf $(VENV)
