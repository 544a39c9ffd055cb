# Every target creates the environment itself; EXTRAS adds packages to it, e.g. `make setup EXTRAS=cuda12`.
PYTHON ?= python3
EXTRAS ?=
VENV ?= .venv
BIN := $(VENV)/bin

comma := ,
READY := $(VENV)/ready$(subst $(comma),-,$(addprefix -,$(EXTRAS)))

.PHONY: setup reproduce test test-system parity soak bench docs lint readme
setup: $(READY)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev$(addprefix $(comma),$(EXTRAS))]'
	@touch $@

reproduce: setup  ## the paper's Tables 1 and 2 at T=10, in minutes; PRESET=paper or seeds for more; WORKDIR=DIR
	$(BIN)/python -m experiments.reproduce $(addprefix --preset=,$(PRESET)) $(addprefix --workdir=,$(WORKDIR))

test: setup  ## contract and unit tests, in minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/system

test-system: setup  ## tests of killed processes, full disks, fresh starts, benchmarks and every command in the docs
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/system

parity: setup  ## installs PyTorch and compares with it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,torch]'
	$(BIN)/python -m pytest tests/unit/test_parity.py

soak: setup  ## tests of all faults and generated inputs, half an hour; EXTRAS=molecules,torch for their files too
	$(BIN)/python -m pytest -m 'soak or not soak' --hypothesis-profile=soak tests/system tests/unit/test_fuzz.py \
	  tests/unit/test_damaged_files.py tests/unit/test_checkpoint.py \
	  tests/unit/test_building.py

bench: setup  ## speed, compared with Flax and, where it is installed, PyTorch
	$(BIN)/python -m experiments.benchmark

docs: setup  ## the pages in docs/_build/html; a warning is an error, as is a public name that the reference lacks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b coverage docs docs/_build/coverage

lint: setup docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

readme: setup  ## updates the results in README and docs from experiments/results
	$(BIN)/python -m experiments.readme
