# Two commands do all the set-up: `make serve` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
NATIVE_SOURCES := CMakeLists.txt $(wildcard native/*.py native/src/*)
DATA ?= ../shared/data
SECONDS ?= 60
SANITIZED := build/sanitize

.PHONY: help serve test lint format fuzz-native demo-models clean

help:
	@echo "make serve        environment, native build, start the service on the embedded models"
	@echo "make test         environment, native build, lint, types, the whole test suite"
	@echo "make lint         ruff and mypy only"
	@echo "make fuzz-native  the native module built with sanitizers, fed arbitrary input (SECONDS=$(SECONDS))"
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

# The sanitizer has to be in the process before the interpreter, and the C++ library with it, or it misses exceptions.
# The interpreter's own leaks are nobody's business here.
fuzz-native: $(VENV)/.ready
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --reinstall --refresh --target $(SANITIZED)/module \
	    -C cmake.define.ERNIE_SANITIZE=ON -C install.strip=false -C build-dir=$(SANITIZED)/objects .
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    $(PY) tests/native/fuzz.py --module $(SANITIZED)/module/native/_core*.so --seconds $(SECONDS)

# Installed again only when what it is made from has changed.
$(VENV)/.ready: pyproject.toml constraints.txt setup.sh $(NATIVE_SOURCES)
	./setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build
