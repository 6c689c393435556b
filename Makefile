# Two commands do all the set-up: `make serve` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
NATIVE_SOURCES := CMakeLists.txt $(wildcard native/*.py native/src/*)
DATA ?= ../shared/data

.PHONY: help serve test lint format demo-models clean

help:
	@echo "make serve        environment, native build, start the service on the embedded models"
	@echo "make test         environment, native build, lint, types, the whole test suite"
	@echo "make lint         ruff and mypy only"
	@echo "make demo-models  train and export the embedded models again (DATA=$(DATA))"

serve: $(VENV)/.ready
	$(VENV)/bin/ernie-serve

test: lint
	$(PY) -m pytest

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.ready
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

demo-models: $(VENV)/.ready
	$(VENV)/bin/ernie-train demo --data $(DATA) --output output/demo --models models

# Installed again only when what it is made from has changed.
$(VENV)/.ready: pyproject.toml constraints.txt setup.sh $(NATIVE_SOURCES)
	./setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build
