# make run   install into .venv-run (no PyTorch) and show scores, nearest sentences and topics
# make test  install into .venv with everything the tests need; lint, types, tests
#
# PYTHON=python3.12 chooses the interpreter. PyPI's PyTorch for Linux carries CUDA (gigabytes); for the small one:
#   make test PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c "import venv" 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
ifeq ($(OS),Windows_NT)
BIN = Scripts
else
BIN = bin
endif
RUN = .venv-run
DEV = .venv
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --constraint constraints.txt
SLOW_FILES = $(shell grep -lF mark.slow tests/test_*.py)
PACKAGE_FILES := $(shell find src/jinyi -type f ! -name '*.pyc')

.PHONY: run test tests beside lint types fast slow browser compat format clean

run: $(RUN)/installed
	@$(RUN)/$(BIN)/python examples/quickstart.py

# Types and the readers of other releases keep one core busy for a while: they run beside the tests.
test: lint
	@$(MAKE) --no-print-directory -j 2 tests beside

tests:
	@$(MAKE) --no-print-directory fast
	@$(MAKE) --no-print-directory slow

beside:
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory compat

lint: $(DEV)/installed
	$(DEV)/$(BIN)/ruff check .
	$(DEV)/$(BIN)/ruff format --check .

types: $(DEV)/installed
	$(DEV)/$(BIN)/mypy --strict src

fast: $(DEV)/installed
	$(DEV)/$(BIN)/pytest -q -m "not slow" -n auto --maxprocesses 4 --dist loadfile

# Without tests/compat: the target of that name runs it, with the old release too. Single tests take up to a minute:
# a worker with nothing left takes over tests of the others. Files without a slow test are not imported.
slow: $(DEV)/installed browser
	$(DEV)/$(BIN)/pytest -q -m slow -n auto --maxprocesses 4 --dist worksteal $(SLOW_FILES)

# The server's page is tested in Chromium: Debian's, where there is neither it nor Chrome with its driver.
browser:
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; \
	then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; \
	else echo "The server's page is tested in a browser. Install it: sudo apt install chromium chromium-driver, or Google Chrome with chromedriver" >&2; exit 1; fi

# Our folders opened by sentence-transformers 6 and 2.7; fetches the old release into .compat once.
compat: $(DEV)/installed
	$(DEV)/$(BIN)/python tests/compat/run.py

format: $(DEV)/installed
	$(DEV)/$(BIN)/ruff check --fix .
	$(DEV)/$(BIN)/ruff format .

clean:
	rm -rf $(RUN) $(DEV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What a user gets: a plain, non-editable install, so that missing package data shows here. Dependencies and the
# package have a stamp each; after an edit only the package is built again.
$(RUN)/dependencies: pyproject.toml constraints.txt
	test -x $(RUN)/$(BIN)/python || $(PYTHON) -m venv $(RUN)
	@echo "Installing jinyi and its dependencies into $(RUN) (once)"
	$(RUN)/$(BIN)/python $(PIP_INSTALL) .
	@touch $@

$(RUN)/installed: $(RUN)/dependencies $(PACKAGE_FILES)
	$(RUN)/$(BIN)/python $(PIP_INSTALL) --force-reinstall --no-deps .
	@touch $@

# An existing $(DEV) is used as it is: pip leaves what already satisfies pyproject.toml and constraints.txt.
$(DEV)/installed: pyproject.toml constraints.txt
	test -x $(DEV)/$(BIN)/python || $(PYTHON) -m venv $(DEV)
	@echo "Installing jinyi with its test tools into $(DEV) (once)"
	$(DEV)/$(BIN)/python $(PIP_INSTALL) --editable ".[dev,train,eval,serve]"
	@touch $@
