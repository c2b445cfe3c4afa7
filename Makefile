# Every target sets itself up: a machine with git, make and Python >= 3.11 (with venv) is enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MEMBERS := $(sort $(wildcard libs/*) $(wildcard services/*))
UV_VERSION := 0.13.9

.PHONY: help setup demo test nightly check bench lab e2e kube-assets lock generate clean
help:
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

setup: $(VENV)/.ready
$(VENV)/.ready: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@

demo: setup ## a day on a cluster of virtual nodes, then the table
	@$(BIN)/neap up

test: check ## everything that needs neither Docker nor a cluster
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal tests

nightly: setup ## 1,000 simulated days with troubles (NEAP_SEEDS, from NEAP_SEED on); a failing one says how to see it again
	@NEAP_SEEDS=$${NEAP_SEEDS:-1000} $(BIN)/python -m tests.sim.seeds

check: setup ## lint, types, layers, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

bench: setup ## speed as ratios measured in one run; JSON under build/
	@$(BIN)/python -m tests.bench

e2e: setup ## the compose stack in real containers; root on Debian gets a Docker engine with apt
	@tests/e2e/install-engine
	@$(BIN)/python -m pytest -q -m docker tests/e2e

lab: setup ## scenarios on a real kernel with 4 NUMA nodes, in QEMU; root on Debian gets what is missing with apt
	@tests/lab/install-lab
	@$(BIN)/python -m pytest -q -m lab tests/lab

kube-assets: ## a Kubernetes control plane and kubectl for the tests, built where a Go toolchain and its modules can be had
	@tests/kube/assets/build

generate: setup ## write the files made from the catalogue and from our kinds
	@$(BIN)/python -m neap.common.contract.generate
	@$(BIN)/python -m neap.common.kube.generate

lock: setup ## write requirements.lock anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --group dev -o requirements.lock

clean: ## remove what the targets made
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
