# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= localhost
PORT ?= 8005
WORKERS ?= 1

# Processes that share the tests: "logical" is one for each core, up to four; 0: none but pytest's.
JOBS ?= logical

.DEFAULT_GOAL := help
.PHONY: help run test check bench autobahn chaos docs screenshots clean

help:  ## Say what there is to make.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## Start the demo on http://localhost:8005 (HOST=, PORT=, WORKERS=).
	@exec $(BIN)/hubbub demo --host $(HOST) --port $(PORT) --workers $(WORKERS)

test: $(VENV)/.dev  ## Run all tests (ARGS=, JOBS=).
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 4 --dist worksteal $(ARGS)

check: $(VENV)/.dev $(VENV)/.bench  ## Run the linters and the type checker, as CI does.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## Measure hubbub and the others in one run; writes docs/benchmarks.
	$(BIN)/python -m benchmarks $(ARGS)

autobahn: $(VENV)/.dev  ## Run all 517 Autobahn cases against hubbub and websockets.
	$(BIN)/python -m tests.autobahn $(ARGS)

chaos: $(VENV)/.dev  ## Kill, pause, cut off and fill up hubs on two and four nodes; writes docs/benchmarks.
	$(BIN)/python -m tests.chaos $(ARGS)

docs: $(VENV)/.docs  ## Build the documentation into site/.
	$(BIN)/mkdocs build --strict

screenshots: $(VENV)/.dev  ## Take the pictures of the documentation anew, by tests.
	HUBBUB_REQUIRE_ALL=1 $(BIN)/pytest tests/interop/test_tutorial.py tests/interop/test_demo.py::test_two_windows_chat_and_see_live_data
	cp artefacts/screenshots/demo.png docs/images/demo.png
	for picture in artefacts/screenshots/tutorial-*.png; do cp "$$picture" "docs/tutorial/images/$${picture##*/tutorial-}"; done

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) site build dist artefacts

# A stamp a dependency group: made anew when pyproject.toml changed.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hubbub needs Python 3.11 or newer, this is %d.%d: set PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV) (once) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,workers]'
	@touch $@

$(VENV)/.dev $(VENV)/.bench $(VENV)/.docs: $(VENV)/.%: pyproject.toml | $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --group $*
	@touch $@
