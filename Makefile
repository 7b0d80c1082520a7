# Everything a newcomer needs: `make run` serves the archive, `make test` checks it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA := pacs-data
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help run test lint types unit docs bench bench-smoke look fuzz setup clean

help:
	@echo "make run     serve the archive: DICOM on 11112, viewer and DICOMweb on http://127.0.0.1:8080"
	@echo "make test    lint, types, import contracts and the whole test suite"
	@echo "make lint    ruff, codespell and the import contracts"
	@echo "make types   mypy, strict"
	@echo "make unit    the tests that need no server and no browser"
	@echo "make docs    regenerate docs/conformance.md from what is mounted"
	@echo "make bench   beside Orthanc and the limits of the machine; then hostile peers, streams, and a slow link"
	@echo "make bench-smoke   the work of each request, counted and not timed; make test does it too"
	@echo "make look    every displayable object in the real viewer, for the better part of an hour"
	@echo "make fuzz    the parsers against random bytes, for longer than the suite does"
	@echo "make setup   what they all need, into $(VENV)"
	@echo "make clean   remove the virtual environment and caches, never data"

run: $(VENV)/installed
	@$(BIN)/pacs fetch-viewer --data-dir $(DATA)
	@$(BIN)/pacs import --if-empty --data-dir $(DATA) sample_data
	@exec $(BIN)/pacs serve --data-dir $(DATA)

test: lint types
	$(BIN)/pytest -n 2 --dist loadfile -m "not browser"
	$(BIN)/pytest -m "browser and not long"

unit: $(VENV)/developing
	$(BIN)/pytest -n 2 --dist loadfile tests/unit

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports

types: $(VENV)/developing
	$(BIN)/mypy

docs: $(VENV)/installed
	$(BIN)/pacs conformance > docs/conformance.md

bench: $(VENV)/developing
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python benchmarks/hostile.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/low_bandwidth.py
	$(BIN)/python benchmarks/release.py

bench-smoke: $(VENV)/developing
	$(BIN)/pytest tests/scenarios/test_work_counts.py

look: $(VENV)/developing
	$(BIN)/pytest tests/browser/test_corpus.py

fuzz: $(VENV)/developing
	PACS_FUZZ_FACTOR=100 $(BIN)/pytest tests/fuzz tests/conformance/dicomweb/test_openapi.py --timeout 36000

setup: $(VENV)/developing

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The archive needs Python 3.11 or newer; name one with: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/developing: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
