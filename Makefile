# Two targets do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check
OUT ?= demo-results

.PHONY: demo test lint benchmarks clean

demo: .venv/demo
	.venv/bin/oodml demo -o $(OUT)

test: .venv/dev
	.venv/bin/python -m pytest --numprocesses auto

lint: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

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

clean:
	rm -rf .venv demo-results dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
