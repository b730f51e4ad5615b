# Bandstand's commands. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
# uv does not read pip's own variable for wheels that lie on disk.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
HOST ?= 127.0.0.1
PORT ?= 3000
ARGS ?=
# Workers of the tests; 0: none, for a debugger.
WORKERS ?= 2
TESTS := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# Not from PyPI: the browser that the tests open /docs in.
SYSTEM_PACKAGES := chromium

APT = $(if $(filter 0,$(shell id -u)),,sudo) env DEBIAN_FRONTEND=noninteractive apt-get

.DEFAULT_GOAL := help
.PHONY: help serve test test-all lint format wheels bench lock system-packages clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

serve: .venv/installed-serve ## set up, serve on PORT (3000), answer one sample, go on until Ctrl-C
	@exec $(BIN)/bandstand serve --host $(HOST) --port $(PORT) --log-format text $(ARGS)

test: .venv/installed-dev ## set up and run the tests of a change (ARGS="tests/unit -k name" for some)
	$(TESTS) -m "not release" $(ARGS)

test-all: .venv/installed-dev ## run every test: those of a release, too
	$(TESTS) $(ARGS)

lint: .venv/installed-dev ## formatting, lint and types
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: .venv/installed-dev ## format and fix what can be fixed
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

wheels: .venv/bin/uv ## build the wheels of bandstand and bandstand-client into dist
	$(BIN)/uv build --quiet --wheel --out-dir dist .
	$(BIN)/uv build --quiet --wheel --out-dir dist clients

bench: .venv/installed-dev ## run the benchmarks; tables go to benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

lock: .venv/installed-dev ## write constraints.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --python $(BIN)/python --no-header --no-annotate \
	  --no-emit-package bandstand --no-emit-package bandstand-client --no-emit-find-links --extra dev pyproject.toml \
	  | sed -E 's/\+cpu$$//' > constraints.txt.new && mv constraints.txt.new constraints.txt

system-packages: ## install what tests need beside Python packages (Debian, Ubuntu; sudo unless root)
	@command -v apt-get >/dev/null || { echo "no apt-get here: install $(SYSTEM_PACKAGES) your system's way" >&2; exit 1; }
	dpkg -s $(SYSTEM_PACKAGES) >/dev/null 2>&1 || { $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(SYSTEM_PACKAGES); }

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

.venv/bin/uv:
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), "Bandstand needs Python 3.11 (make PYTHON=…)"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'

.venv/installed-serve: pyproject.toml constraints.txt | .venv/bin/uv
	$(UV) --editable ./clients --editable '.[cpu]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/uv
	$(UV) --editable ./clients --editable '.[dev]'
	@touch $@ .venv/installed-serve
