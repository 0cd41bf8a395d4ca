# The task file: the same commands at the desk and in CI. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

BIN := .venv/bin
ARGS ?=
# Many tests wait for something (a group that forms, a session that ends): more processes than two cores help.
JOBS ?= 3
PIP_COMPILE := $(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --resolver=backtracking

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(BIN)/.kernels-done ## make .venv with everything that is needed to run (PYTHON=python3.11)

$(BIN)/.setup-done: requirements.txt requirements.in pyproject.toml tools/setup.sh
	@tools/setup.sh requirements.txt
	@touch $@

# compiled code is kept beside its source and is stale when that changes: a worker should not start by compiling
$(BIN)/.kernels-done: $(BIN)/.setup-done $(shell grep -rl --include=*.py 'import njit' fleetwatch streams sinks)
	@echo "compiling the numerical kernels"
	@find fleetwatch streams sinks -name '*.nb[ic]' -delete # what a kernel calls is compiled into it, and numba looks at its own file only
	@$(BIN)/fleetwatch warm-up
	@touch $@

$(BIN)/.dev-done: $(BIN)/.kernels-done requirements-dev.txt
	@tools/setup.sh requirements-dev.txt
	@touch $@

.PHONY: demo
demo: setup ## start the whole pipeline (FOR=60: without a terminal, for so many seconds; BROKER=kafka)
	@$(BIN)/fleetwatch up $(if $(FOR),--for $(FOR) --json) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

.PHONY: dev
dev: $(BIN)/.dev-done ## add the tools for developing and testing to .venv

.PHONY: test
test: dev ## get the services that tests need and run all tests (ARGS="tests/unit -k codec")
	@tools/test_services.sh
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

.PHONY: explore
explore: dev ## look for counterexamples with new random examples (ROUNDS=20)
	@for round in $$(seq $(or $(ROUNDS),20)); do \
		$(BIN)/python -m pytest -q --durations=0 --numprocesses $(JOBS) --hypothesis-profile=explore tests/properties tests/unit $(ARGS); \
	done

.PHONY: lint
lint: dev ## check style, types and the layout of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: bench
bench: setup ## compare the worker with its peers: speed, latency, memory, stages (JSON=FILE, ARGS="--only ours")
	@$(BIN)/fleetwatch bench $(if $(JSON),--json $(JSON)) $(ARGS)

.PHONY: bench-kafka
bench-kafka: ## the same on a real Apache Kafka (ARGS="--parts latency --only ours,hand_tuned")
	@$(MAKE) bench ARGS="--broker kafka $(ARGS)" JSON=$(JSON)

.PHONY: screenshots
screenshots: dev ## take pictures of every page of the dashboard into docs/screenshots (needs Chromium)
	@$(BIN)/python tools/screenshots.py $(ARGS)

.PHONY: bench-sinks
bench-sinks: dev ## measure how fast the sinks write, and how soon (JSON=FILE, ARGS="--rounds 5")
	@tools/test_services.sh
	@PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python bench/sink_speed.py $(if $(JSON),--json $(JSON)) $(ARGS)
	@PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python bench/sink_latency.py $(if $(JSON),--json $(JSON:.json=).latency.json)

.PHONY: faults
faults: dev ## put each fault in 50 times and count what is lost or doubled (JSON=FILE, RUNS=50, ARGS="sink-disk-full")
	@tools/test_services.sh
	@$(BIN)/python -m tests.faults --runs $(or $(RUNS),50) $(if $(JSON),--json $(JSON)) $(ARGS)

.PHONY: soak
soak: setup ## watch the whole stack under a constant load (FOR=172800, BROKER=embedded, KILL=1, RESUME=1; docs/soak.md)
	@PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python -m bench.soak $(if $(FOR),--for $(FOR)) $(if $(BROKER),--broker $(BROKER)) \
		$(if $(KILL),--kill-every $(if $(filter 1,$(KILL)),600,$(KILL))) $(if $(RESUME),--resume) $(ARGS)

.PHONY: lock
lock: dev ## make the lock files again from the *.in files (UPGRADE=1: with the newest versions)
	@for name in requirements requirements-dev; do \
		$(PIP_COMPILE) $(if $(UPGRADE),--upgrade) --output-file $$name.txt $$name.in; \
		sed -i "1i # Made by \`make lock\` from $$name.in: change that file, not this one." $$name.txt; \
	done

.PHONY: clean
clean: ## remove .venv and caches (the data of `make demo` in .fleetwatch stays)
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
