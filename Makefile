PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Runs download, train, evaluate and predict, as far as they are not up to date. DVC cannot read a dvc.lock that is torn, because
# a kill or a full disk hit while it was written, or has conflict markers: then the one in git is taken, or it is made anew.
repro: .venv/installed
	@test -z "$$(git ls-files --others --modified dvc.lock)" || .venv/bin/python tools/check.py --lock || \
		git checkout -- dvc.lock || rm dvc.lock
	.venv/bin/dvc repro

test: .venv/installed-tests
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyrefly check
	.venv/bin/pytest

# Finds corrupt files in the cache and the workspace, or with OPTIONS=--remote in the remote; OPTIONS=--remove removes them.
check: .venv/installed
	@.venv/bin/python tools/check.py $(OPTIONS)

# Prints tables of times, memory and growth, measured on this machine; OPTIONS=--short only shows that all of it runs.
bench: repro .venv/installed-tests
	PYTHONPATH=stages:tools .venv/bin/python benchmarks/bench.py $(OPTIONS)

# Draws report.html: this workspace beside the commit BASE.
BASE ?= main
report: repro .venv/installed-tests
	.venv/bin/python tools/report.py $(BASE)

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv: some minutes and 6 GB"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements.txt
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	@echo "Adding the packages of tests and report: a minute"
	.venv/bin/python -m pip install --quiet --require-hashes --requirement tests/requirements.txt
	touch $@

.PHONY: repro test check bench report
