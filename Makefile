# `make` or `make help` lists the targets.
TAXI  ?= green
MONTH ?= 2019-01
PYTHON ?= python3

# uv installs the versions of requirements.lock, pip (INSTALLER=pip) the newest ones that setup.cfg allows.
INSTALLER ?= uv
export INSTALLER

BIN  := .venv/bin
# SCHEDULER=central uses the scheduler of `make ui` in another terminal.
SCHEDULER ?= local
LOAD  = $(if $(filter central,$(SCHEDULER)),LUIGI_CONFIG_PATH=central.cfg )$(BIN)/luigi --module pipeline LoadTripdata --taxi $(TAXI) --month $(MONTH)

.DEFAULT_GOAL := help
.PHONY: help load demo gcp docs sources ui test check faults containers graph screenshots bench lock clean

help:  ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  e.g. make load TAXI=yellow MONTH=2020-01"

load: .venv/installed  ## set up, then load a month (TAXI=green MONTH=2019-01) into PostgreSQL
	@$(LOAD) || { code=$$?; case $$code in \
	  10|25) echo "Another worker is loading it, or has just loaded it: run again to see." >&2 ;; \
	  *) echo "Not loaded: the line above with ERROR says why." >&2 ;; esac; exit $$code; }
	@$(BIN)/pipeline status --taxi $(TAXI) --month $(MONTH)

demo: .venv/installed  ## load, model and report on the real months in samples/, in a folder of its own, demo/
	@$(BIN)/pipeline demo

gcp: .venv/installed-gcp  ## set up, with Google's libraries and dbt's adapter for BigQuery

docs: .venv/installed  ## write dbt's documentation of the models and their lineage to one file
	@$(BIN)/pipeline dbt docs generate --static --no-use-colors
	@echo "The page is $${PIPELINE__STORAGE__ROOT:-data}/dbt/target/static_index.html"

sources: .venv/installed  ## regenerate the models' sources (dbt/models/sources.yml) from the dataset specs
	@$(BIN)/python scripts/dbt_sources.py

ui: .venv/installed  ## serve the web page and the central scheduler (then: make load SCHEDULER=central)
	@$(BIN)/pipeline ui

test: check  ## set up, lint, check types and run all tests (or some: T=tests/test_load.py)
	$(BIN)/pytest -n auto --dist worksteal --durations=15 $(T)

check: .venv/installed-test  ## lint and check types, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: .venv/installed-test  ## run random trials of the real commands with faults (TRIALS=500 SEED=1)
	cd tests && PYTHONPATH=. ../$(BIN)/python -m faults --trials $(or $(TRIALS),500) --seed $(or $(SEED),1)

containers: .venv/installed-test  ## follow docs/containers.md with this machine's container engine
	@docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 || \
		{ echo "There is no container engine with Compose here: \`docker info\` says why." >&2; exit 1; }
	$(BIN)/pytest --confcutdir=tests/containers --override-ini=python_files='check_*.py' \
		--override-ini=faulthandler_timeout=0 --durations=5 -s tests/containers

graph: .venv/installed  ## redraw the graph of the tasks in README.md
	$(BIN)/python docs/graph.py

screenshots: .venv/installed-test  ## retake the screenshots in docs/screenshots (needs Chromium and Pillow)
	$(BIN)/python docs/screenshots/make.py

bench: .venv/installed  ## run the benchmarks (some minutes)
	$(BIN)/python -m benchmarks

lock: .venv/installed-test  ## pin the newest versions that setup.cfg allows (requirements.lock)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--custom-compile-command 'make lock' --output-file requirements.lock setup.cfg

clean:  ## remove the environment and the demo, not your data
	rm -rf .venv demo

# The environment is updated when one of these files changes.
.venv/installed .venv/installed-gcp .venv/installed-test: setup.cfg pyproject.toml requirements.lock

.venv/installed:
	@scripts/set-up $(PYTHON)

.venv/installed-gcp:
	@scripts/set-up $(PYTHON) gcp

.venv/installed-test:
	@scripts/set-up $(PYTHON) gcp test
