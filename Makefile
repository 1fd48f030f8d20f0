# Everything a newcomer or CI runs. The only things needed before: Python >= 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait more than they compute: one worker more than a small machine has cores.
WORKERS ?= 3

# Decides, and touches nothing: every branch of it is taken by a test.
PURE := discogrid.spans discogrid.silence discogrid.rates discogrid.merkle discogrid.mounts discogrid_coordinator.events discogrid_coordinator.scheduler \
	$(addprefix discogrid_coordinator.,queues floor placement helping withdrawal leases durations ended locality policies books call_job) discogrid_agent.events \
	discogrid_agent.machine discogrid_agent.fetches discogrid_agent.outbox discogrid_agent.rules discogrid_agent.acceptance discogrid_agent.call_history \
	discogrid_agent.log_keeper discogrid_agent.log_feed discogrid_agent.charges discogrid_agent.uplink.addresses \
	discogrid_agent.uplink.off_limits discogrid_coordinator.quotas discogrid_coordinator.retention discogrid_tui.model \
	discogrid_coordinator.tracker discogrid_agent.sources discogrid.transfer.uploads \
	$(addprefix discogrid.pairing.,words addresses codes tokens spake frames sealing handshake invitations)

# The tests of what decides.
COVERING := tests/pure tests/store/test_merkle.py tests/box/test_pieces.py tests/tui/test_model.py

.PHONY: demo slirp4netns test sim chaos cpython types compiled coverage check lint format clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## a real video job on generated media, on this machine alone
	$(BIN)/discogrid demo

# What pip does not bring: the program behind tasks' networks. Debian's own, where it may be installed and is not yet; the
# tests say what a lack of it means.
slirp4netns:
	@command -v slirp4netns >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
		then apt-get update -qq && apt-get install -y -qq --no-install-recommends slirp4netns || true; \
		else echo "Tests of --network are skipped. To have them: sudo apt-get install slirp4netns"; fi

# Where Python may not keep what it has compiled (PYTHONDONTWRITEBYTECODE), every one of the thousand processes that tests
# start would compile all of it again.
compiled: $(VENV)/.dev
	$(BIN)/python -m compileall -q discogrid agent coordinator tui tests

test: compiled slirp4netns ## every test
	$(BIN)/python -m pytest -n $(WORKERS)

# One large grid to be measured, or many small ones in trouble: make sim SEED=7 AGENTS=10000 TASKS=50000, or make sim SEEDS=0..500
sim: $(VENV)/.dev ## a whole grid under a virtual clock, from a seed
	$(BIN)/python -m tests.sim $(if $(SEEDS),--seeds $(SEEDS),--seed $(or $(SEED),7)) \
		$(addprefix --agents ,$(AGENTS)) $(addprefix --tasks ,$(TASKS))

# make chaos, make chaos RUNS=10 FIRST=100, make chaos SEED=12: the last one says what it does as it does it
chaos: $(VENV)/.dev slirp4netns ## a grid of real processes and hosts in all kinds of trouble, from seeds
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),50) --first-seed $(or $(FIRST),0))

# CPython's own tests of pools and executors, by an interpreter that ships all of them: make cpython CPYTHON=python3.13
CPYTHON ?= python3.13
cpython: ## what CPython asks of multiprocessing.Pool and of concurrent.futures
	@$(CPYTHON) -c "import test._test_multiprocessing, test.test_concurrent_futures" || \
		{ echo "$(CPYTHON) ships no tests of its own. Name an interpreter that does: make cpython CPYTHON=..."; exit 1; }
	$(CPYTHON) -m venv $(VENV)/cpython
	$(VENV)/cpython/bin/python -m pip install --quiet --disable-pip-version-check -e . pytest pytest-asyncio pytest-timeout
	$(VENV)/cpython/bin/python -m pytest \
		tests/calls/test_cpython.py tests/calls/test_cpython_futures.py tests/grid/test_cpython.py tests/grid/test_cpython_futures.py

# Judged is an installed copy, as a user has it.
types: ## every public name of discogrid has a type, and which one is beyond doubt
	$(PYTHON) -m venv --clear $(VENV)/types
	$(VENV)/types/bin/python -m pip install --quiet --disable-pip-version-check . 'pyright[nodejs]'
	cd $(VENV)/types && PATH="$$PWD/bin:$$PATH" VIRTUAL_ENV="$$PWD" pyright --verifytypes discogrid --ignoreexternal

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: compiled ## the pure modules are covered, branch by branch
	$(BIN)/python -m pytest -q -n $(WORKERS) $(COVERING) \
		$(addprefix --cov=,$(PURE)) --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered

# Every test once: those that measure coverage are not run again.
check: lint types compiled coverage slirp4netns ## what CI runs
	$(BIN)/python -m pytest -n $(WORKERS) $(addprefix --ignore=,$(COVERING))

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .coverage .hypothesis
