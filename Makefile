# Needs Python 3.11 or newer and make; everything else goes into .venv.
# Another Python: PYTHON=python3.12 make …

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python

# Beside the floor of 80 % for the whole: what must hold when machines do not.
CRITICAL := oracle/aggregation.py oracle/locks.py oracle/leader.py market/flush.py ingestion/breaker.py

.PHONY: help demo run test lint format bench load chaos clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    the whole oracle against simulated exchanges, no network needed"
	@echo "make run     the whole oracle against the real exchanges"
	@echo "make test    lint, types, import contracts, then the tests with coverage"
	@echo "make lint    the first half of make test"
	@echo "make bench   the benchmarks, each figure beside its floor"
	@echo "make load    the trade pipeline pressed and killed: rate, delay, failover, nothing lost"
	@echo "make chaos   the whole stack with its parts killed, against the tape of the simulator"
	@echo "make format  let ruff rewrite the files"
	@echo "make clean   remove .venv and the tools' caches; the data in .local stays"
	@echo
	@echo "Settings: .env.example. Side by side: PORT=8100 ORACLE_HOME=.local/b make demo"

demo: $(VENV)/embedded
	@exec $(BIN) -m config.stack demo

run: $(VENV)/embedded
	@exec $(BIN) -m config.stack run

# `make lint test` lints once: lint is what test begins with.
test: lint
	$(BIN) -m pytest --cov --cov-report=term
	@for file in $(CRITICAL); do \
	  $(BIN) -m coverage report --fail-under=90 --include=$$file >$(VENV)/coverage.txt 2>&1 \
	    || { cat $(VENV)/coverage.txt; echo "$$file: less than 90 % covered" >&2; exit 1; }; \
	done

lint: $(VENV)/dev
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy
	$(BIN) -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
	$(BIN) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy"
	@ENVIRONMENT=production HTTPS=true SECRET_KEY=$$($(BIN) -c "import secrets; print(secrets.token_hex(32))") \
	  DATABASE_URL=postgresql://nobody@localhost/none REDIS_URL=redis://localhost/0 \
	  $(BIN) manage.py check --deploy --fail-level WARNING

format: $(VENV)/dev
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

bench: $(VENV)/bench
	@exec $(BIN) -m bench

load: $(VENV)/bench
	@exec $(BIN) -m bench load

chaos: $(VENV)/dev
	$(BIN) -m pytest -m chaos

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A file per set of packages says that it is installed as requirements/ has it now.
$(VENV)/%: requirements/%.txt $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Name another one: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing the packages of $< into $(VENV) …"
	@test -x $(BIN) || $(PYTHON) -m venv $(VENV)
	@$(BIN) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
