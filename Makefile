# Everything a contributor runs. `make test` needs nothing but Python (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install test test-all lint benchmark clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The default suite.
test: install
	$(BIN)/python -m pytest

# The slow tests as well.
test-all: install
	$(BIN)/python -m pytest -m ''

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: install
	$(BIN)/python benchmarks/network.py

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
