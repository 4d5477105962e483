# Everything from a clean clone: `make demo` runs the main job, `make test` the tests.
# Each target makes the virtual environment that it needs, from PyPI.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-search demo-serve test check bench bench-data bench-serve soak soak-data soak-serve faults compat-ray engines clients format clean

$(VENV)/.test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	touch $@

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/.demo-search: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo-search]'
	touch $@

$(VENV)/.demo-serve: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo-serve]'
	touch $@

$(VENV)/.bench: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

# Options go through ARGS: make demo ARGS="--search export"
demo: $(VENV)/.demo
	$(BIN)/python -m demo $(ARGS)

# PDF and HTML of Debian packages: make demo-search ARGS="how do I select a region"
demo-search: $(VENV)/.demo-search
	$(BIN)/python -m demo_search $(ARGS)

# An OCR service that is updated, and loses a process, while clients use it; its page: make demo-serve ARGS=--keep
demo-serve: $(VENV)/.demo-serve
	$(BIN)/python -m demo_serve $(ARGS)

test: $(VENV)/.test $(VENV)/.demo $(VENV)/.demo-search
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# On skate and on real Ray, in an environment of its own: the classic programs, outputs and times; and the suites of
# the core, of data and of serve, test by test. One: make compat-ray ARGS="tests/compat/data"
compat-ray: $(VENV)/.test $(VENV)/.demo $(VENV)/.bench $(VENV)-ray/.conformance
	$(BIN)/python examples/compare.py --ray-python $(VENV)-ray/bin/python
	$(BIN)/python tests/compat/compare.py --ray-python $(VENV)-ray/bin/python $(ARGS)

# The suites that hold on every engine, on all three: docs/engines.md. Less: make engines ENGINES="--engine ray"
# ARGS="--part". The benchmarks' inputs come into the user's cache folder, as for bench-data.
ENGINES ?= --engine skate --engine inline --engine ray
engines: $(VENV)/.test $(VENV)-ray/.conformance
	$(BIN)/python tests/engines.py $(ENGINES) --ray-python $(VENV)-ray/bin/python $(ARGS)

$(VENV)-ray/.conformance: pyproject.toml
	test -x $(VENV)-ray/bin/python || $(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check -e '.[ray,test]' 'ray[default,data,serve]' \
		py3langid tokenizers
	touch $@

# Libraries of other people that use Ray, each installed from PyPI into an environment of its own, unmodified under
# `skate run`: about 6 GB and half an hour the first time. One: make clients ARGS="stumpy"; again: ARGS="--keep".
clients:
	$(PYTHON) -m tests.clients --environments $(VENV)-clients $(ARGS)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

# skate.data beside multiprocessing, Ray Data, Daft, DuckDB and Polars. The first run downloads Debian and PyPI packages
# into the user's cache folder; a look: make bench-data ARGS="--quick"; the page: python -m benchmarks.data --markdown.
bench-data: $(VENV)/.bench
	$(BIN)/python -m benchmarks.data $(ARGS)

# skate.serve beside uvicorn, Ray Serve (and with HAProxy), LitServe and BentoML, in environments of their own. About ten
# minutes; a look, skate and uvicorn alone: make bench-serve ARGS="--quick"; lines: ARGS=--list.
bench-serve: $(VENV)/.bench $(VENV)-ray/.serve $(VENV)-serve-peers/.serve
	$(BIN)/python -m benchmarks.serve --ray-python $(VENV)-ray/bin/python \
		--peers-python $(VENV)-serve-peers/bin/python $(ARGS)

$(VENV)-ray/.serve:
	test -x $(VENV)-ray/bin/python || $(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check 'ray[serve]'
	touch $@

$(VENV)-serve-peers/.serve:
	test -x $(VENV)-serve-peers/bin/python || $(PYTHON) -m venv $(VENV)-serve-peers
	$(VENV)-serve-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		litserve bentoml 'uvicorn[standard]' starlette
	touch $@

# Does anything grow? And random programs whose processes end, or run out of memory, at random or at each named point,
# as often as you like.
soak: $(VENV)/.test
	$(BIN)/python -m benchmarks.soak $(ARGS)

# The same of skate.data: thousands of kills, plans and seeds, ten times the memory, 100,000 files, long plans. Hours; a
# look: make soak-data ARGS="--factor 0.02"; the names of its parts: ARGS=--list.
soak-data: $(VENV)/.test
	$(BIN)/python -m benchmarks.data.soak $(ARGS)

# The same of skate.serve: clients of all kinds and updates for half an hour; a look: make soak-serve ARGS="--minutes 2".
soak-serve: $(VENV)/.test
	$(BIN)/python -m benchmarks.serve.soak $(ARGS)

faults: $(VENV)/.test
	SKATE_FAULT_RUNS=$(or $(RUNS),2000) $(BIN)/python -m pytest -q tests/cluster/test_random_programs.py

clean:
	rm -rf $(VENV) $(VENV)-ray $(VENV)-serve-peers $(VENV)-clients demo-output demo-search-output
