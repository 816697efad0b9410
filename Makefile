# One obvious command for each thing; `make help` lists them.
#
# NAME chooses the cluster, so that several can live side by side: make demo NAME=mine
# WORKERS=0 runs the tests one after the other, in this process; else those of different clusters run side by side.
# Everything is cached under ~/.cache/modelfleet; `make clean` takes a cluster down and removes all it made.

NAME ?= modelfleet
GATEWAYS ?= 200
PYTHON3 ?= python3
WORKERS ?= $(if $(MODELFLEET_TEST_CLUSTER),0,2)
CACHE := $(HOME)/.cache/modelfleet

LOCK := $(shell sha256sum requirements/dev.txt | cut -c1-12)
VENV := $(CACHE)/venv/$(LOCK)
PYTHON := PYTHONPATH=operator:. $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv cluster install demo test lint format generate lock bench clean clean-all

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  NAME=$(NAME) chooses the cluster, GATEWAYS=$(GATEWAYS) the number of simulated gateways."

venv: $(VENV)/complete

# The folder's name is the lock file's hash, so a finished one never goes stale. One at a time builds it.
$(VENV)/complete:
	@$(PYTHON3) -c 'import sys; sys.exit("modelfleet needs Python 3.11 or newer; set PYTHON3=…") if sys.version_info < (3, 11) else None'
	@mkdir -p $(CACHE)/venv
	@set -e; exec 9>$(CACHE)/venv/.lock; flock 9; test ! -e $@ || exit 0; \
	echo "==> Python packages into $(VENV)"; \
	rm -rf $(VENV); \
	$(PYTHON3) -m venv $(VENV); \
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt; \
	touch $@

cluster: venv  ## bring the cluster up and leave it, with simulated gateways
	@$(PYTHON) -m e2e.cluster up --name $(NAME) --gateways $(GATEWAYS)

install: cluster  ## build the images and install the chart into the cluster
	@$(PYTHON) -m e2e.install --name $(NAME)

demo: venv  ## the main job end to end: from a training commit to a gateway that answers
	@$(PYTHON) -m e2e.demo --name $(NAME) --gateways $(GATEWAYS)

test: venv  ## all tests: unit, integration (real API server), e2e (real pods)
	@$(PYTHON) -m pytest --numprocesses $(WORKERS) --durations 15 $(ARGS)

lint: venv  ## format check, lint, types, layers, generated files
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(PYTHON) -m mypy
	@PYTHONPATH=operator $(VENV)/bin/lint-imports
	@$(PYTHON) -m modelfleet.api.crd --check

format: venv  ## format the code and mend what the linter can
	@$(VENV)/bin/ruff check --quiet --fix . || true
	@$(VENV)/bin/ruff format --quiet .

generate: venv  ## write crds/ (and the chart's copy) from the pydantic models
	@$(PYTHON) -m modelfleet.api.crd

lock: venv  ## pin the dependencies of pyproject.toml in requirements/, with hashes
	@for extra in operator runtime train dev; do \
	  $(VENV)/bin/uv pip compile --quiet pyproject.toml --extra $$extra --universal --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate --python-version 3.11 --output-file requirements/$$extra.txt || exit 1; \
	done

bench: venv  ## count what the operator asks and costs, beside a peer (docs/performance.md); PART=plans, requests, fleet, deployments or training
	@$(PYTHON) -m e2e.bench $(PART) --name $(NAME)-bench --gateways $(GATEWAYS) $(ARGS)

clean: venv  ## take the cluster down and remove all that it made
	@$(PYTHON) -m e2e.cluster down --name $(NAME)

clean-all: venv  ## take every cluster down and empty the cache of programs, images and packages
	@$(PYTHON) -m e2e.cluster down --all
	@$(PYTHON) -m e2e.cluster.images clean
	@rm -rf $(CACHE)
