# Every command of the README. All of them use .venv/ and install what they need into it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Most of a test on a control plane is waiting: two files of tests run beside each other, in their usual
# order, since those of one worker share its control plane.
BESIDE ?= --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test test-all check bench cluster gen clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 …)"; exit 1; }
	@test -x $(BIN)/python || { echo "Creating .venv …"; $(PYTHON) -m venv .venv; }
	@echo "Installing killswitch and its tools into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Watch a runaway model being stopped, held, released and restored
	@$(BIN)/python -m tests.demo

test: $(STAMP) ## Everything needed to trust a change, on a real control plane
	@$(BIN)/python -m tests.cluster.binaries
	@$(MAKE) --no-print-directory check-static
	@$(BIN)/python -m pytest $(BESIDE) -m "not slow"

test-all: $(STAMP) ## The same plus long soaks and dear controllers
	@$(BIN)/python -m tests.cluster.binaries
	@$(MAKE) --no-print-directory check-static
	@$(BIN)/python -m pytest $(BESIDE)

check: $(STAMP) check-static ## The fast inner loop: format, lint, types, layers, unit tests
	@$(BIN)/python -m pytest -q -m "not slow" tests/core tests/api tests/repo

.PHONY: check-static
check-static: $(STAMP)
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP) ## Measure: one JSON line per figure, then a table (ONLY=substring, OUT=folder for plots, FOR=seconds of pushing)
	@$(BIN)/python -m bench $(if $(ONLY),--only "$(ONLY)") $(if $(OUT),--out "$(OUT)") $(if $(FOR),--seconds "$(FOR)")

cluster: $(STAMP) ## Leave a control plane up to play with, OPERATOR=1 with killswitch; Ctrl-C ends it
	@$(BIN)/python -m tests.cluster $(if $(OPERATOR),--operator)

gen: $(STAMP) ## Write the generated files: CRDs, admission policies, chart copies, reference
	@$(BIN)/python -m killswitch.api.generate

clean: ## Remove .venv and caches of this checkout
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
