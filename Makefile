# Everything that a developer does, on a machine with python3 and make.
# Each target first makes .venv hold what requirements/dev.lock says; when it does already, that takes no time.

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint type bench lock clean .venv .venv-bench

BIN := .venv/bin
ARGS ?=

# pytest-xdist's "auto" counts the machine's physical cores, not those that this process may use.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: .venv ## Simulate a patch of sky, ingest it, query it; leaves the warehouse in demo/
	@$(BIN)/tractlake demo $(ARGS)

# Prefect in a home of its own, without telemetry, and out of reach of a server that the shell may name.
PYTEST = home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	env -u PREFECT_API_URL DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_HOME="$$home" \
	$(BIN)/python -m pytest -n auto --dist loadgroup

test: .venv ## Run all tests, or make test ARGS="tests/test_layers.py -k demo"
	@$(PYTEST) --cov $(ARGS)

quick: .venv ## Run the everyday tests: without servers, killed processes and the pages' code
	@$(PYTEST) -m "not integration" $(ARGS)

lint: .venv ## Check style, format and import layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

type: .venv ## Check the types
	@$(BIN)/mypy

bench: .venv-bench ## Measure against the peers, in an environment of its own
	@.venv-bench/bin/python benchmarks/run.py $(ARGS)

# The installed versions are kept unless ARGS says otherwise, as in make lock ARGS=--upgrade.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links pyproject.toml

lock: .venv ## Compile requirements/*.lock from pyproject.toml
	$(COMPILE) --extra butler --extra moc --extra dev $(ARGS) --output-file requirements/dev.lock
	$(COMPILE) --extra bench --constraints requirements/dev.lock $(ARGS) --output-file requirements/bench.lock

clean: ## Remove the environments, the caches and the data of demo and benchmarks
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf .coverage .coverage.* build dist demo benchmarks/work
	find flows tasks warehouse tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

.venv:
	@requirements/install .venv dev

.venv-bench:
	@requirements/install .venv-bench bench
