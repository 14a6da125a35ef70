# Two targets do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check
OUT ?= demo-results
# What `make test-lowest` installs: this folder, or a built sdist or wheel.
PACKAGE ?= .

.PHONY: demo test test-lowest mutation lint site benchmarks clean

demo: .venv/demo
	.venv/bin/oodml demo -o $(OUT)

# COVERAGE=1 also counts lines and branches, and fails below the share of pyproject.toml.
test: .venv/dev
ifdef COVERAGE
	rm -f .coverage .coverage.*
	.venv/bin/coverage run -m pytest --numprocesses auto
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report --skip-covered --sort=cover
else
	.venv/bin/python -m pytest --numprocesses auto
endif

# The pytest command, unlike `python -m pytest`, tests the installed package, not this folder.
test-lowest: .venv-lowest/done
	.venv-lowest/bin/pip install --quiet --no-deps --force-reinstall $(PACKAGE)
	.venv-lowest/bin/pytest --numprocesses auto @.ci/selection.txt

# MINUTES of mutants; goes on when started again, with the tree as it was at first.
MINUTES ?= 10
mutation: .venv/dev
	.venv/bin/python tests/mutation/measure.py tests/mutation/scratch --minutes $(MINUTES)
	.venv/bin/python tests/mutation/table.py tests/mutation/scratch

lint: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

site: .venv/dev
	.venv/bin/python docs/generate
	.venv/bin/mkdocs build --strict

benchmarks: .venv/dev
	for script in benchmarks/*.py; do .venv/bin/python $$script || exit 1; done

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "oodml needs Python 3.11 or newer; type: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml | .venv/bin/python
	$(PIP) install --quiet -e '.[demo]'
	touch $@

.venv/dev: pyproject.toml | .venv/bin/python
	$(PIP) install --quiet -e '.[dev]'
	touch $@ .venv/demo

# NumPy 1.26 and SciPy 1.11 have no wheels for Python 3.13.
.venv-lowest/done: pyproject.toml .ci/lowest.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12) and "the lowest releases need Python 3.11 or 3.12; type: make PYTHON=python3.11 test-lowest")'
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint .ci/lowest.txt --requirement .ci/test.txt \
		'$(PACKAGE)[demo,timm,parquet,hf,umap,tune]'
	touch $@

clean:
	rm -rf .venv .venv-lowest demo-results dist site .coverage .coverage.* tests/mutation/scratch \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
