# The interpreter to build the environment with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint bench install proto programs docs clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Train a real model on a real node and show the result and the receipt
	@$(BIN)/cyxwiz demo

test: $(VENV)/.install lint ## Everything that CI checks
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

soak: $(VENV)/.install ## The full counts of the fault, fuzz and property tests
	CYXWIZ_SIM_SEEDS=5000 CYXWIZ_SETTLEMENT_RUNS=10000 HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --timeout 3600

lint: $(VENV)/.install ## Style, types, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python scripts/gen_protos.py --check
	$(BIN)/python scripts/gen_state_docs.py --check
	$(BIN)/python scripts/gen_config_docs.py --check
	$(BIN)/python scripts/gen_model_docs.py --check
	$(BIN)/python scripts/gen_program_docs.py --check

bench: $(VENV)/.install ## Figures beside their floors, as ratios in one run
	$(BIN)/python -m benchmarks

install: $(VENV)/.install ## Create .venv with everything a central, a node and the tests need

proto: $(VENV)/.install ## Regenerate the protobuf code
	$(BIN)/python scripts/gen_protos.py

programs: $(VENV)/.install ## Build the on-chain programs into cyxwiz/ledger/programs
	$(BIN)/python -m programs.build

docs: $(VENV)/.install ## Regenerate docs/states.md, config.toml and the tables of models.md and programs.md
	$(BIN)/python scripts/gen_state_docs.py
	$(BIN)/python scripts/gen_config_docs.py
	$(BIN)/python scripts/gen_model_docs.py
	$(BIN)/python scripts/gen_program_docs.py

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[node,ledger]'
	@touch $@

$(VENV)/.install: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[node,postgres,dev]'
	@touch $@ $(VENV)/.demo
