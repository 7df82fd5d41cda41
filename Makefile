# Two commands for a newcomer: `make demo` and `make test`. Each makes what it needs, a virtual
# environment included, from nothing but Python 3.11 or newer with pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# Tests start a hundred processes, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test coverage mutation lint docs lock clean

demo: $(VENV)/.core
	$(BIN)/cervicyte demo --out demo-run

# Two workers; who is done early takes tests of the other.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal

# While you work: no browser, no database server, nothing that trains.
check: lint
	$(PYTEST) -m "not browser and not database and not slow"

# As continuous integration runs it: everything.
test: lint
	$(PYTEST)

# Everything, with the share of lines and branches that ran, in child processes too.
coverage: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term

# Change the core one token at a time and see which changes no test notices (docs/testing.md); takes an hour.
mutation: $(VENV)/.dev
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cervicyte needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv $(VENV); }

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[train,dev]'
	touch $@

# The documentation, as strict as it gets: a warning is an error. Nothing is fetched.
docs: $(VENV)/.dev
	rm -rf docs/_build docs/gallery docs/reference
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# All packages with the hashes of their files (requirements/README.md).
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes \
  --constraint constraints.txt --no-annotate --no-header --quiet
lock: $(VENV)/.dev
	$(LOCK) --python-version 3.11 --output-file requirements/core.txt
	$(LOCK) --python-version 3.11 --extra web --extra postgresql --output-file requirements/web.txt
	$(LOCK) --python-version 3.11.5 --extra train --extra dev --override requirements/without-torch.txt \
	  requirements/torch.in --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) demo-run build dist mutants src/*.egg-info
