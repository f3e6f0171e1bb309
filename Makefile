# Everything a fresh machine needs: Python >= 3.10, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo install test check bench clean

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

demo: $(INSTALLED)    ## make parts, train, export, verify and find their defects
	$(BIN)/gad demo --out demo
	@echo "gad is on the path of a shell after: . $(BIN)/activate"

install: $(INSTALLED) ## create .venv with everything

test: check           ## checks, then all tests
	@# Workers of one thread: threads of two networks on the same cores wait for each other. A third
	@# one for two cores, as a third of the time tests wait for processes, servers and clocks.
	@# Tests start hundreds of processes, each of which would compile the package where the
	@# environment forbids to write byte code.
	$(BIN)/python -m compileall -q generalad tests/helpers
	@# Of thousands of tests of processes, servers and threads one may fail for the load of the others.
	@# It has to pass alone then, and its first failure stays in the output, to be mended.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 || { test $$? = 1 && \
		$(BIN)/pytest --last-failed --last-failed-no-failures none; }

check: $(INSTALLED)   ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The last numpy for Python 3.10 has other type stubs than the ones the code is written against.
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo $(BIN)/mypy; $(BIN)/mypy; else echo "mypy: skipped on Python 3.10"; fi

bench: $(INSTALLED)   ## export and pipeline against the last commit; prints, never fails on noise
	$(BIN)/python benchmarks/change.py

clean:           ## remove what make made
	rm -rf $(VENV) demo dist build

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV), which takes one to three minutes and prints nothing"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
