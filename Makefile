# `make` or `make help` lists what there is to do.
TAXI  ?= green
MONTH ?= 2019-01
PYTHON ?= python3

BIN  := .venv/bin
# The plain kind of editable install, which costs each start of Python 10 ms less.
PIP  := $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable
# SCHEDULER=central sends the work to the `make ui` of another terminal.
SCHEDULER ?= local
LOAD  = $(if $(filter central,$(SCHEDULER)),LUIGI_CONFIG_PATH=central.cfg )$(BIN)/luigi --module pipeline LoadTripdata --taxi $(TAXI) --month $(MONTH)

.DEFAULT_GOAL := help
.PHONY: help load demo docs sources ui test graph screenshots bench lock clean

help:  ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  e.g. make load TAXI=yellow MONTH=2020-01"

load: .venv/installed  ## set up, then load a month (TAXI=green MONTH=2019-01) into PostgreSQL
	@$(LOAD) || { code=$$?; case $$code in \
	  10|25) echo "Another worker has it in hand, or has just done it: run again to see." >&2 ;; \
	  *) echo "Not loaded: the line above that begins with ERROR says why." >&2 ;; esac; exit $$code; }
	@$(BIN)/pipeline status --taxi $(TAXI) --month $(MONTH)

demo: .venv/installed  ## load, model and report on the real months in samples/, apart from anything else, in demo/
	@$(BIN)/pipeline demo

docs: .venv/installed  ## write dbt's pages on the models, with their lineage, as one file
	@$(BIN)/pipeline dbt docs generate --static --no-use-colors
	@echo "The page is $${PIPELINE__STORAGE__ROOT:-data}/dbt/target/static_index.html"

sources: .venv/installed  ## write the models' sources (dbt/models/sources.yml) from the dataset specs again
	@$(BIN)/python -m pipeline.transform.sources

ui: .venv/installed  ## start the central scheduler, whose pages show what runs (then: make load SCHEDULER=central)
	@$(BIN)/pipeline ui

test: .venv/tested  ## set up, then lint, type-check and run every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

graph: .venv/installed  ## draw README's graph of the tasks again
	$(BIN)/python docs/graph.py

screenshots: .venv/installed  ## take those of docs/screenshots again (needs Chromium)
	$(BIN)/python docs/screenshots/make.py

bench: .venv/installed  ## measure against the yardsticks (some minutes)
	$(BIN)/python -m benchmarks

lock: .venv/tested  ## pin what the image installs to the newest versions that setup.cfg allows (requirements.lock)
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.13 --python-platform linux \
		--custom-compile-command 'make lock' --output-file requirements.lock setup.cfg

clean:  ## remove the environment and the demo, not your data
	rm -rf .venv demo

.venv/installed: setup.cfg pyproject.toml
	@echo 'Setting up .venv: a minute, once ...'
	@$(PYTHON) -m venv .venv
	@$(PIP) .
	@$(BIN)/python -m compileall -q pipeline  # as pip does for what is not editable
	@touch $@

.venv/tested: .venv/installed
	@$(PIP) '.[test]'
	@touch $@
