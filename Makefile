# `make up` is all that a new machine needs; `make test` is what CI runs.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= /var/lib/pileus
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup lock guest guest-debian up down purge test check fast test-slow wheel bench conformance

help:
	@echo "make up         set everything up and start a cloud with a first server"
	@echo "make down       stop it, leave the host as it was; data stays"
	@echo "make purge      down, and remove the data"
	@echo "make test       lint, types, import rules, all tests with real QEMU and packets"
	@echo "make test-slow  the slow suites (a Debian guest with cloud-init, long fault runs)"
	@echo "make wheel      dist/pileus-VERSION.whl, to install with pip or pipx"
	@echo "make bench      the figures of docs/benchmarks.md"
	@echo "make conformance LIST=tempest.api.image   Tempest against a fresh cloud (conformance/README.md)"

setup: .cache/packages.done $(VENV)/done

.cache/packages.done: packages.txt guest/packages.txt
.cache/packages-tests.done: tests/packages.txt
.cache/packages-debian.done: guest/packages-debian.txt
.cache/packages.done .cache/packages-tests.done .cache/packages-debian.done:
	@mkdir -p .cache
	@packaging/install-packages $^
	@touch $@

$(VENV)/done: requirements/dev.txt pyproject.toml
	@echo "Python packages …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:
	@packaging/lock-requirements

guest: setup
	@bash guest/build.sh .cache/guest

guest-debian: setup .cache/packages-debian.done
	@bash guest/debian/build.sh .cache/guest

# Only these three speak of the cloud of this machine; tests and benchmarks make clouds of their own.
up down purge: export PILEUS_STATE = $(STATE)

up: guest
	@$(BIN)/pileus up
	@$(BIN)/pileus demo --image .cache/guest/disk.qcow2

down:
	@[ ! -x $(BIN)/pileus ] || $(BIN)/pileus down

purge:
	@[ ! -x $(BIN)/pileus ] || $(BIN)/pileus purge
	@rm -rf .cache $(VENV) build dist

check: setup
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports

fast: setup .cache/packages-tests.done
	@pytest tests/unit tests/life tests/api

test: guest check .cache/packages-tests.done
	@pytest --cov --cov-report=term:skip-covered -m "not slow"

test-slow: guest guest-debian .cache/packages-tests.done
	@pytest -m slow

bench: setup
	@python -m benchmarks

.cache/conformance/done: requirements/conformance.txt
	@echo "Tempest …"
	@$(PYTHON) -m venv --clear .cache/conformance
	@.cache/conformance/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/conformance.txt
	@touch $@

LIST ?= ledger
ARGUMENTS ?= --check
DRIVERS ?= fake
conformance: guest .cache/conformance/done
	@python -m conformance --drivers $(DRIVERS) $(ARGUMENTS) "$(LIST)"

wheel: setup
	@rm -rf build dist
	@python -m build --no-isolation --wheel
