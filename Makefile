# make demo, make train-demo, make test: all the set-up included, on a machine with Python 3.11+ and nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
DEMO := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
# pip compiles modules on one core, compileall on all. Some packages hold templates that are no valid Python: those
# errors mean nothing.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

.PHONY: demo train-demo docs docs-serve test test-browser test-all lint clean

# What users run, without what the tests need besides.
demo: $(DEMO)
	$(BIN)/han demo --out demo

train-demo: $(STAMP)
	$(BIN)/python -m research.scenes.demo --out train-demo

# One process a core, with one thread each; a file's tests stay together.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# The page, in Debian's Chromium or any other: apt-get install chromium
test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, in site/; and the same on http://127.0.0.1:8000/, built anew as pages change.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "han-retrieval needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --upgrade-deps $(VENV)
	@touch $@

$(DEMO): pyproject.toml | $(MADE)
	$(PIP) --editable ".[demo,serve]"
	@$(COMPILE)
	@touch $@

$(STAMP): pyproject.toml | $(MADE)
	$(PIP) --editable ".[dev]"
	@$(COMPILE)
	@touch $@ $(DEMO)

clean:
	rm -rf $(VENV) demo train-demo site
