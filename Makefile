# Two commands for a fresh machine with Python >= 3.11: `make demo` and `make test`.
# `make test TENSORFLOW=no` leaves the TensorFlow backend out, on a machine that shall not have it (1.5 GB).
PYTHON ?= python3
PYTHONS ?= $(PYTHON)
TENSORFLOW ?= yes
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TF_VENV  := .venv-tensorflow
TF_READY := $(TF_VENV)/.ready
DOCS_VENV  := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready
SITE       := build/site
CHI_VENV  := .venv-ptychi
CHI_READY := $(CHI_VENV)/.ready
export PYTHONHASHSEED ?= 0
export HYPOTHESIS_PROFILE ?= ci

# The released Ptychodus client with what it needs to start without a window; our own packages are seen through.
CLIENT       := .venv-ptychodus
CLIENT_READY := $(CLIENT)/.ready
CLIENT_NEEDS := httpx watchdog colorcet pyyaml "pydantic-ai-slim[openai]<3"

.PHONY: help install demo test check lint mypy pyright imports tests test-ptychodus test-tensorflow test-ptychi environments docs look-at-docs release-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(READY)  ## set up .venv (done by the other targets when needed)

$(READY): pyproject.toml constraints.txt
	@echo "==> setting up $(VENV) (first time: a few minutes and about 2 GB)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps ptychodus==1.7.0
	@touch $@

demo: $(READY)  ## simulate, train, reconstruct an unseen object, evaluate (about 3 minutes on 2 cores)
	@$(BIN)/python -m ptycho_adapters.demo --output-dir demo_output

test: $(READY)  ## everything CI runs; TENSORFLOW=no leaves out what needs TensorFlow
	@$(MAKE) --no-print-directory --jobs 2 environments check
	@$(MAKE) --no-print-directory tests
	@$(MAKE) --no-print-directory test-tensorflow
	@$(MAKE) --no-print-directory test-ptychi
	@echo "==> all checks passed"

check: mypy pyright lint imports

lint: $(READY)
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

mypy: $(READY)
	@echo "==> mypy"
	@$(BIN)/mypy

pyright: $(READY)
	@echo "==> pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@# Completeness of the core's types as its users see them; pyright finds the package through the python on PATH.
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes ptycho_core --ignoreexternal >$(VENV)/verifytypes.txt \
		|| { cat $(VENV)/verifytypes.txt; exit 1; }
	@grep "completeness score" $(VENV)/verifytypes.txt

imports: $(READY)
	@echo "==> import-linter"
	@$(BIN)/lint-imports --no-cache

tests: $(READY)  ## the tests alone, one process per core
	@echo "==> pytest tests property_tests"
	@$(BIN)/pytest -q --numprocesses auto --dist worksteal

$(CLIENT_READY): $(READY) shims/ptychodus/pyproject.toml
	@echo "==> setting up $(CLIENT)"
	@$(PYTHON) -m venv $(CLIENT)
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		>"$$($(CLIENT)/bin/python -c 'import site; print(site.getsitepackages()[0])')/development.pth"
	@$(CLIENT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(CLIENT_NEEDS)
	@$(CLIENT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e . -e shims/ptychodus
	@touch $@

test-ptychodus: $(CLIENT_READY)  ## all four reconstructors inside the released Ptychodus client (nightly; 12 minutes of processor time)
	@echo "==> pytest shims/ptychodus/tests"
	@OMP_NUM_THREADS=1 $(CLIENT)/bin/python -m pytest -q shims/ptychodus/tests -p no:cacheprovider -W default \
		-o pythonpath="shims/ptychodus/tests" --numprocesses auto --dist worksteal --durations=10

ifeq ($(TENSORFLOW),no)
environments: $(CHI_READY)

test-tensorflow:
	@echo "==> the TensorFlow backend is left out: TENSORFLOW=no"
else
environments: $(CHI_READY) $(TF_READY)

test-tensorflow: $(TF_READY)  ## the tests of the TensorFlow backend, in an environment and a process of their own
	@echo "==> pytest tests/tensorflow_backend (make test TENSORFLOW=no leaves it out)"
	@$(TF_VENV)/bin/python -m pytest -q tests/tensorflow_backend --numprocesses auto --dist worksteal
endif

# On top of the other environment: what differs lies in this one alone, above all TensorFlow and the h5py that it wants.
$(TF_READY): $(READY) constraints-tensorflow.txt
	@echo "==> setting up $(TF_VENV) (first time: a minute and 1.5 GB)"
	@$(PYTHON) -m venv $(TF_VENV)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>"$$($(TF_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(TF_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-tensorflow.txt \
		tensorflow-cpu h5py
	@touch $@

# On top of the other environment too; nothing of it is needed to use or to test the library.
$(DOCS_READY): $(READY) pyproject.toml constraints.txt
	@echo "==> setting up $(DOCS_VENV) (first time: half a minute and 100 MB)"
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>"$$($(DOCS_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	@touch $@

docs: $(DOCS_READY)  ## the documentation site, as files in build/site; links and anchors that lead nowhere are errors
	@echo "==> sphinx"
	@OMP_NUM_THREADS=1 $(DOCS_VENV)/bin/python -m sphinx -q -W --keep-going -b html docs $(SITE)
	@echo "==> open $(SITE)/index.html"

look-at-docs: docs  ## every page of the site in headless Chromium, light, dark and on a phone, with pictures in build/looks
	@OMP_NUM_THREADS=1 $(BIN)/python docs/tools/look.py $(SITE) build/looks

release-check: $(READY)  ## a clean wheel, alone in an empty environment for each of PYTHONS, reconstructs and runs the demo
	@PYTHONS="$(PYTHONS)" BUILDER=$(BIN)/python bash benchmarks/release_check.sh

test-ptychi: $(CHI_READY)  ## the tests beside pty-chi, and files that PtyLab, emdfile and nexusformat write, in their own environment
	@echo "==> pytest tests/ptychi_solver, and files of other programs"
	@$(CHI_VENV)/bin/python -m pytest -q tests/ptychi_solver
	@$(CHI_VENV)/bin/python -m pytest -q tests/files/test_nexus.py tests/files/test_ptylab.py tests/files/test_electron_files.py -k s_own

# On top of the other environment: a torchvision of another build than torch would keep Lightning from being imported there.
$(CHI_READY): $(READY) constraints-ptychi.txt
	@echo "==> setting up $(CHI_VENV)"
	@$(PYTHON) -m venv $(CHI_VENV)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>"$$($(CHI_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(CHI_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-ptychi.txt
	@touch $@

clean:  ## remove the environments and everything generated
	rm -rf $(VENV) $(CLIENT) $(TF_VENV) $(CHI_VENV) $(DOCS_VENV) demo_output build docs/reference .mypy_cache .ruff_cache .pytest_cache .hypothesis
