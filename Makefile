# Everything a contributor runs. `make test` needs nothing but Python (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where this is set, each process of the tests compiles all of TensorFlow anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE
# Options for pip, such as an index that holds PyTorch without CUDA: the tests need no GPU.
PIP_FLAGS ?=
# Test processes; each wants some 5 GB.
WORKERS ?= 2

.PHONY: install test test-slow test-newest campaign lint demo benchmark clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	# What is imported gets compiled then; to compile all of TensorFlow and PyTorch now takes as long as to install them.
	$(BIN)/python -m pip install --quiet --no-compile $(PIP_FLAGS) --editable '.[dev]'
	touch $@

# The default suite.
test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow --durations 30

# The fast tests of each room on another Python, with the libraries it brings, such as a newer JAX; without PyTorch.
NEWEST ?= python3
FAST := tests/test_house.py tests/rvm_jax/host tests/rvm_jax/model/test_decoder.py tests/rvm_jax/video \
	tests/rvm_jax/evaluation/test_metrics.py tests/data_pipelines/sampling tests/data_pipelines/augment \
	tests/data_pipelines/records $(addprefix tests/data_pipelines/pipelines/test_, matting.py segmentation.py workers.py) \
	tests/train/recipe tests/train/device/test_step.py $(addprefix tests/train/run/test_, checkpoint.py initial_state.py)

test-newest: $(VENV)-newest/installed
	$(VENV)-newest/bin/python -m pytest -n $(WORKERS) --dist worksteal $(FAST)

$(VENV)-newest/installed: pyproject.toml
	$(NEWEST) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --no-compile $(PIP_FLAGS) --editable '.[gs,train]' \
		dill gcp-storage-emulator pytest pytest-xdist
	touch $@

# Whole campaigns, of which `test-slow` runs a share: many kills, damaged files and jobs, before a version is released.
campaign: install
	RVM_FUZZ=600 $(BIN)/python -m pytest -m slow tests/rvm_jax/video/test_fuzz.py
	RVM_KILLS=20 $(BIN)/python -m pytest -n $(WORKERS) -m "slow or not slow" -k kill tests/train tests/data_pipelines
	RVM_JOBS=500 $(BIN)/python -m pytest -m slow tests/rvm_jax/serve/test_long_life.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# From nothing to a trained network; goes on where it was stopped.
demo: install
	$(BIN)/rvm data prepare synthetic --data-dir demo/data
	$(BIN)/rvm train demo --data-dir demo/data --out demo/run --cpu-devices 2

benchmark: install
	$(BIN)/python benchmarks/network.py
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/matting.py
	$(BIN)/python benchmarks/scoring.py

clean:
	rm -rf $(VENV) $(VENV)-newest demo .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
