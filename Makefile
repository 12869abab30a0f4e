# Everything lives in .venv. `make run` is all that a newcomer needs.
.DEFAULT_GOAL := help
.PHONY: help install run test test-full check bench

BIN := .venv/bin
NEEDS := pyproject.toml constraints.txt install.py
PYTEST := $(BIN)/python -m pytest -n $(or $(JOBS),2)

# The first Python that is new enough; PYTHON=... chooses another.
FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && exec $$p install.py $(1); done; \
	echo "saescope needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python" \
	>&2; exit 1

help:
	@echo "make install    make .venv and install saescope into it"
	@echo "make run        install if needed, then run everything: API, live worker, jobs worker"
	@echo "make test       the tests (JOBS=n processes, default 2)"
	@echo "make test-full  also those that take minutes, with shapes checked"
	@echo "make check      lint, format, types, import rules"
	@echo "make bench      the promises, as ratios"

install: .venv/installed
run: .venv/installed
	@$(BIN)/saescope up
test: .venv/installed-dev
	@$(BIN)/python -m tests.web.install
	@$(PYTEST) -m "not slow"
test-full: .venv/installed-dev
	@$(BIN)/python -m tests.web.install
	@CHECK_SHAPES=1 $(PYTEST) --durations=40
check: .venv/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/basedpyright
bench: .venv/installed
	@for b in precompute kills live train lookup; do $(BIN)/python -m bench.$$b || exit 1; done

.venv/installed: $(NEEDS)
	@$(call FIND_PYTHON,)
	@touch $@
.venv/installed-dev: $(NEEDS)
	@$(call FIND_PYTHON,--dev)
	@touch .venv/installed $@
