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
	  10|25) echo "Another worker has it in hand, or has just done it: run again to see." >&2 ;; \
	  *) echo "Not loaded: the line above with ERROR says why." >&2 ;; esac; exit $$code; }
	@$(BIN)/pipeline status --taxi $(TAXI) --month $(MONTH)

demo: .venv/installed  ## load, model and report on the real months in samples/, apart from anything else, in demo/
	@$(BIN)/pipeline demo

gcp: .venv/installed-gcp  ## set up what Google Cloud needs besides: its libraries, and dbt's adapter for BigQuery

docs: .venv/installed  ## write dbt's pages on the models, with their lineage, as one file
	@$(BIN)/pipeline dbt docs generate --static --no-use-colors
	@echo "The page is $${PIPELINE__STORAGE__ROOT:-data}/dbt/target/static_index.html"

sources: .venv/installed  ## write the models' sources (dbt/models/sources.yml) from the dataset specs again
	@$(BIN)/python scripts/dbt_sources.py

ui: .venv/installed  ## start the central scheduler, whose pages show what runs (then: make load SCHEDULER=central)
	@$(BIN)/pipeline ui

test: check  ## set up, then lint, check types and run every test (some of them: T=tests/test_load.py)
	$(BIN)/pytest -n auto --dist worksteal --durations=15 $(T)

check: .venv/installed-test  ## lint and check types, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: .venv/installed-test  ## a random campaign of faults against the real commands (TRIALS=500 SEED=1)
	cd tests && PYTHONPATH=. ../$(BIN)/python -m faults --trials $(or $(TRIALS),500) --seed $(or $(SEED),1)

containers: .venv/installed-test  ## follow docs/containers.md to its end with the container engine that is here
	@docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 || \
		{ echo "There is no container engine with Compose here: \`docker info\` says why." >&2; exit 1; }
	$(BIN)/pytest --confcutdir=tests/containers --override-ini=python_files='check_*.py' --durations=5 -s tests/containers

graph: .venv/installed  ## draw README's graph of the tasks again
	$(BIN)/python docs/graph.py

screenshots: .venv/installed-test  ## take those of docs/screenshots again (needs Chromium)
	$(BIN)/python docs/screenshots/make.py

bench: .venv/installed  ## measure against the yardsticks (some minutes)
	$(BIN)/python -m benchmarks

lock: .venv/installed-test  ## pin what is installed to the newest versions that setup.cfg allows (requirements.lock)
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
