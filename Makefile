# What a person or a machine does with this checkout; `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# PATHs may hold spaces, so nothing here is a file target
VENV := $(or $(BPCP_VENV),$(CURDIR)/.venv)
BIN := $(VENV)/bpcp/bin
DEMO := $(or $(DEMO_DIR),$(CURDIR)/demo)
SCRIPTS := run_analysis_pipeline.sh run_batchfile_pipeline.sh .ci/run bin/bpcp* bin/lib/*.bash ami_setup/*.sh ami_setup/*/*.sh ami_setup/*.bash tests/*.sh tests/ami/*.sh docs/*.sh

export BPCP_VENV := $(VENV)

.PHONY: help setup setup-dev demo test test-long check format docs unit bats e2e long locks chaos short-chaos proof bench ami-test clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

setup: ## install what a run needs (system packages, two Python environments)
	@ami_setup/install.sh

setup-dev:
	@ami_setup/install.sh --dev

demo: setup ## draw a small screen in demo/, analyse it, and count against the truth
	@bin/bpcp demo "$(DEMO)"
	@./run_analysis_pipeline.sh -d demo -p "$(DEMO)/pipelines/demo.cppipe"
	@bin/bpcp demo --check "$(DEMO)"

test: setup-dev check unit bats e2e proof ## lint, types, unit tests, commands, the real CellProfiler

test-long: setup-dev long locks short-chaos ## more runs of the real CellProfiler: variants, databases, buckets, examples, chaos

check: ## lint, formats and types, in seconds
	@"$(BIN)/ruff" check --quiet .
	@"$(BIN)/ruff" format --quiet --check .
	@"$(BIN)/mypy" --no-error-summary
	@"$(BIN)/mypy" --no-error-summary ami_setup/version_info.py
	@shellcheck -x $(wildcard $(SCRIPTS))
	@shfmt -i 2 -ci -d $(wildcard $(SCRIPTS))
	@docs/generate.sh - | diff - docs/commands.md || { echo 'docs/commands.md is not what the commands say: make docs' >&2; exit 1; }
	@PYTHONPATH=. "$(BIN)/python" docs/presets.py - | diff - docs/images.md || { echo 'docs/images.md is not what bpcp/images/presets.toml says: make docs' >&2; exit 1; }
	@echo 'check: clean'

format: ## put code into its form
	@"$(BIN)/ruff" check --quiet --fix .
	@"$(BIN)/ruff" format --quiet .
	@shfmt -i 2 -ci -w $(wildcard $(SCRIPTS))

docs: ## write docs/commands.md from the commands' own help, and the table of presets in docs/images.md
	@docs/generate.sh
	@PYTHONPATH=. "$(BIN)/python" docs/presets.py

unit: ## tests of the Python modules
	@"$(BIN)/python" -m pytest -q -n auto --dist loadfile tests/unit tests/chaos

bats: ## tests of the commands
	@bats --jobs 2 tests/bats

e2e: ## runs of the real CellProfiler: the promise, kills, failures
	@"$(BIN)/python" -m pytest -q -m 'not long' tests/e2e

long:
	@"$(BIN)/python" -m pytest -q -m 'long and not alone' -n 2 --dist loadfile tests/e2e
	@"$(BIN)/python" -m pytest -q -m 'long and alone' tests/e2e

locks:
	@tests/locks.sh

chaos: setup-dev ## harm real runs at random, and demand the clean result: SEED=… [ROUNDS=…] [ROUND=…]
	@"$(BIN)/python" tests/chaos $(if $(SEED),--seed "$(SEED)") --rounds $(or $(ROUNDS),6) $(if $(ROUND),--round "$(ROUND)")

short-chaos:
	@"$(BIN)/python" tests/chaos --seed ci --rounds 3

proof: ## prove that the tests can fail
	@tests/proof.sh

bench: setup-dev ## tables of ratios: bpcp against one plain process; S3 and a RAM disk against local files; the seconds of a check
	@bin/bpcp-bench
	@"$(BIN)/python" tests/bench/transfer.py
	@"$(BIN)/python" tests/bench/check.py

ami-test: ## build the machine image in pristine roots and use it there, as root; about 8 minutes each
	@tests/ami/pristine.sh debian-12
	@tests/ami/pristine.sh ubuntu-22.04

clean: ## remove the environments, the demo and caches
	@rm -rf .venv demo build .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
