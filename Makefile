# make demo   set up and run the quick benchmark suite, print its table, write its page
# make test   set up, check the code and run all tests
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
SETUP = $(VENV)/.installed

.PHONY: demo test check format clean

demo: $(SETUP)
	$(BIN)/step run quick --workers 2
	$(BIN)/step energy quick --by model
	$(BIN)/step report quick

test: $(SETUP) check
	$(BIN)/python -m pytest -n auto

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(SETUP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "STEP needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info step-results
