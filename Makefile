# Two commands for a newcomer: `make demo` and `make test`. Each makes what it needs, a virtual
# environment included, from nothing but Python 3.11 or newer with pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint docs lock clean

demo: $(VENV)/.core
	$(BIN)/cervicyte demo --out demo-run

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

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
	rm -rf $(VENV) demo-run build dist src/*.egg-info
