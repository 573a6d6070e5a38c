# Two commands: `make demo` runs the main job in a new environment, `make test` runs everything that CI runs.

PYTHON ?= python3
VENV ?= .venv
# Of the thousands of modules that pip would compile, most are never imported; Python compiles the others as it needs them.
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints.txt
RUN = $(VENV)/bin
export HF_HUB_OFFLINE = 1
# The small model gains nothing from a second thread, and on a busy machine its steps wait long for it.
export OMP_NUM_THREADS ?= 1
# One process more than CI has cores, for tests wait a part of their time; a file's tests stay together, for they share
# its servers.
TEST_PROCESSES ?= 3
# Where it is set, each of the many processes that tests start compiles this package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint check-types check-layers system-packages unit wheel binder bench readme-picture clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.base $@

demo: $(VENV)/.base  ## draw "a red circle on a blue background" with the built-in model, and show the report
	$(RUN)/omnirt run "a red circle on a blue background" --steps 20 --seed 7 --out demo-output

test: $(VENV)/.dev  ## everything that CI runs: the unit tests, and the rest beside them
	@$(MAKE) --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) \
		unit lint check-types check-layers wheel binder

lint: $(VENV)/.dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/codespell

check-types: $(VENV)/.dev
	$(RUN)/mypy
	$(RUN)/mypy tests/typing

check-layers: $(VENV)/.dev
	$(RUN)/lint-imports --no-logo

system-packages:  ## Chromium and Prometheus for the tests that drive them, where this may install them
	@if command -v chromium > /dev/null && command -v promtool > /dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		(apt-get install -y --no-install-recommends chromium prometheus > /dev/null 2>&1) || \
		(apt-get update > /dev/null && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y --no-install-recommends chromium prometheus > /dev/null) || \
		echo "chromium and prometheus could not be installed: their tests are skipped"; \
	else echo "install chromium and prometheus to run the tests that drive them; they are skipped"; fi

unit: system-packages $(VENV)/.dev
	$(RUN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

wheel: $(VENV)/.dev  ## build the wheel and try what is in it
	rm -rf dist
	$(RUN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(RUN)/python tests/try_wheel.py dist

binder: $(VENV)/.dev  ## what Binder does, in a new environment, and the first notebook there
	$(RUN)/python tests/try_binder.py

bench: $(VENV)/.dev  ## every benchmark, one after the other
	for script in benchmarks/[a-z]*_*.py; do $(RUN)/python $$script || exit 1; done

readme-picture: $(VENV)/.base  ## make the picture that the README shows
	$(RUN)/omnirt run "a yellow star on a purple background" --steps 20 --seed 3 --report-png docs/report.png

clean:
	rm -rf $(VENV) dist build demo-output test-artifacts
