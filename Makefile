# Two commands: `make run` sets up and opens the app, `make test` sets up and runs every test.
# Stamp files in .venv remember what is installed, so that later starts call no pip.

PYTHON ?= python3
TORCH  := torch==2.13.0
RUN_ARGS ?=
ROWS ?=
PEERS ?=
PYTEST_ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Linux without an NVIDIA card: PyTorch's own index has a build without CUDA, 10 times smaller.
# It is only offered; where it cannot be reached, PyPI's build is taken.
ifeq ($(shell uname -s 2>/dev/null),Linux)
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
TORCH_OPTIONS := --extra-index-url https://download.pytorch.org/whl/cpu --timeout 20 --retries 0
endif
endif

SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.DEFAULT_GOAL := help
.PHONY: help run test lint bench browser clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/.app  ## set up if needed, then open the app in the browser
	$(BIN)/python -m distill_core.cli ui $(RUN_ARGS)

test: .venv/.dev browser  ## set up if needed, then run every test, browser tests included
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore=tests/e2e $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

lint: .venv/.dev  ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: .venv/.dev  ## all benchmarks of speed and size; ROWS=FILE and PEERS=PYTHON for one against peers
	$(BIN)/python tests/benchmarks/start.py
	$(BIN)/python tests/benchmarks/page.py
	$(BIN)/python tests/benchmarks/step_floor.py
	$(BIN)/python tests/benchmarks/loss_alone.py $(if $(PEERS),--liger $(PEERS))
	$(BIN)/python tests/benchmarks/teacher_cache.py
	$(BIN)/python tests/benchmarks/growth.py
	$(BIN)/python tests/benchmarks/data_ahead.py
	$(BIN)/python tests/benchmarks/quality_per_minute.py
ifeq ($(ROWS),)
	@echo "peers_step.py is skipped: it needs rows. make bench ROWS=gsm8k.jsonl PEERS=peers/bin/python"
else
	$(BIN)/python tests/benchmarks/peers_step.py --rows $(ROWS) $(if $(PEERS),--peers $(PEERS))
endif

clean:  ## remove what was built; runs/ and exports/ stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if [ -n "$$CHROMIUM_PATH" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null 2>&1 || { [ "$$(id -u)" != 0 ] && [ -z "$(SUDO)" ]; }; then \
		echo "No Chromium or Chrome found: browser tests will be skipped." >&2; exit 0; fi; \
	$(SUDO) apt-get update -qq </dev/null && \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends chromium </dev/null

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: use make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.torch: .venv/.python
	$(PIP) install --quiet --no-deps $(TORCH_OPTIONS) $(TORCH)
	@touch $@

.venv/.app: pyproject.toml constraints.txt | .venv/.torch
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/.torch
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch .venv/.app $@
