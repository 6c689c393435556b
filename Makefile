# Two commands do all the set-up: `make serve` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
NATIVE_SOURCES := CMakeLists.txt $(wildcard native/*.py native/src/*)
DATA ?= data
SECONDS ?= 60
COVERAGE := --cov --cov-report=
SANITIZED := build/sanitize
NEXT := .venv-next
# What a later Python could break; the longest tests of processes, which it could not, run in the reference only.
NEXT_TESTS := tests/native tests/service tests/model_build/test_bundle.py tests/test_import_table.py
NOT_NEXT := api/openapi api/test_keys.py api/test_bad_input.py api/test_event_loop.py test_failures.py parent/test_fleet.py api/test_page_in_browser.py

.PHONY: help serve test test-next lint format docs findings fuzz-native demo-models release-check clean

help:
	@echo "make serve        environment, native build, start the service on the embedded models"
	@echo "make test         environment, native build, lint, types, the whole test suite, test coverage"
	@echo "make test-next    the service without FastDeploy, on Python 3.12 or later; make test does it too"
	@echo "make lint         ruff and mypy only"
	@echo "make fuzz-native  the native module built with sanitizers, fed arbitrary input (SECONDS=$(SECONDS))"
	@echo "make demo-models  train and export the embedded models again (DATA=$(DATA))"
	@echo "make docs         the documentation site, in build/site"
	@echo "make findings     which surprising behaviour of other libraries has changed; installs them in a temporary folder"
	@echo "make release-check  sdist and wheel, installed and serving; RELEASE=--allow-unreleased between releases"

serve: $(VENV)/.ready
	$(VENV)/bin/ernie-serve

# The others run in two processes, a file in one of them.
# The service's tests run the inference libraries, the others Paddle; in one process the two bring each other down.
# Coverage costs 5 to 10 % of CPU time. `COVERAGE_PROCESS_START=pyproject.toml make test` also counts the lines that the
# service's processes execute, and then the service's tests take 25 to 50 % more CPU time.
test: lint
	$(PY) -m pytest $(COVERAGE) tests/service
	$(PY) -m pytest $(COVERAGE) --cov-append --numprocesses 2 --dist loadfile --ignore=tests/service
	@if ./setup.sh --next --find >/dev/null || [ -n "$$CI" ]; then $(MAKE) --no-print-directory test-next; \
	    else echo "make test: NOT TESTED on a later Python, for the reason above."; fi
	@echo "Lines that the test processes execute, least covered files last. Not counted: processes that tests start, such as"
	@echo "those of the service, unless COVERAGE_PROCESS_START=pyproject.toml is set; C++."
	@$(PY) -m coverage report | tail -n 15

# Bundles for it are written by the reference, which has Paddle.
test-next: $(VENV)/.ready $(NEXT)/.ready
	REFERENCE_PYTHON=$(abspath $(PY)) $(NEXT)/bin/python -m pytest $(NEXT_TESTS) $(NOT_NEXT:%=--ignore=tests/service/%)

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.ready
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

demo-models: $(VENV)/.ready
	$(VENV)/bin/ernie-train demo --data $(DATA) --output output/demo --models models

release-check: $(VENV)/.ready
	$(PY) -m release.check $(RELEASE)

docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=true $(VENV)/bin/mkdocs build --strict

findings: $(VENV)/.ready
	$(PY) findings/run.py

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

$(NEXT)/.ready: pyproject.toml constraints-next.txt setup.sh $(NATIVE_SOURCES)
	./setup.sh --next $(NEXT)
	@touch $@

clean:
	rm -rf $(VENV) $(NEXT) build
