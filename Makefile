# `make TARGET` needs python3 (3.10 or newer) and the network, nothing else: it puts hatch and uv into .venv
# and calls the hatch script of the same name (hatch.toml). Another interpreter: make test PYTHON=python3.13
# Arguments for the script: make test ARGS="-k replay"

PYTHON ?= python3
ARGS ?=

# One folder of tools and environments for each interpreter.
TOOLS := .venv/$(notdir $(PYTHON))
BIN := $(TOOLS)/bin
READY := $(TOOLS)/ready
SCRIPTS := demo demo-entities test unit lint format types proto proto-check bench build

.PHONY: $(SCRIPTS) bootstrap clean help

$(SCRIPTS): bootstrap
	@set -e; settings="$$($(BIN)/python scripts/uv_settings.py)"; eval "$$settings"; \
	export PATH="$(CURDIR)/$(BIN):$$PATH" \
	  HATCH_DATA_DIR="$(CURDIR)/$(TOOLS)/hatch" \
	  HATCH_PYTHON="$(CURDIR)/$(BIN)/python" \
	  HATCH_ENV_TYPE_VIRTUAL_UV_PATH="$(CURDIR)/$(BIN)/uv"; \
	hatch run $@ $(ARGS)

bootstrap: $(READY)

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and f"Python 3.10 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: name another one with PYTHON=...")'
	@rm -rf "$(TOOLS)"
	@$(PYTHON) -m venv "$(TOOLS)" || { echo "$(PYTHON) cannot create environments: install its venv module (Debian: apt install python3-venv)"; rm -rf "$(TOOLS)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "hatch>=1.18" "uv>=0.8"
	@touch $@

clean:
	rm -rf .venv dist packages/*/dist

help:
	@echo "make demo           the versioning sample on our scheduler, from nothing to its results"
	@echo "make demo-entities  the entities samples: a counter, and transfers under locks"
	@echo "make test           lint, types, stubs and every test"
	@echo "make unit           the tests only; ARGS reach pytest"
	@echo "make lint format types proto proto-check bench build clean"
