PYTHON ?= python3
BASE ?= main
RECIPES := $(notdir $(wildcard recipes/*))
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONSAFEPATH  # with which a stage would not find the modules beside it

help:
	@sed -n 's/^\([a-z$$()A-Z]*\):.*## /make \1: /p' Makefile | sed 's/$$(RECIPES)/$(RECIPES)/'

# DVC cannot read a dvc.lock that is torn, because a kill or a full disk hit while it was written, or has conflict markers:
# then the one in git is taken, or it is made anew.
repro: .venv/installed  ## runs download, train, evaluate and predict, as far as they are not up to date
	@changed="$$(git ls-files --others --modified dvc.lock)" && test -z "$$changed" || \
		.venv/bin/python tools/check.py --lock || { test $$? = 3 && { git checkout -- dvc.lock || rm dvc.lock; }; }
	.venv/bin/dvc repro

$(RECIPES): .venv/installed  ## runs that recipe as an experiment; OPTIONS="-S train.seed=1" changes a value, SEEDS=3 runs three seeds
	.venv/bin/$(if $(SEEDS),python tools/seeds.py $(SEEDS),dvc exp run) $$(cat recipes/$@) $(OPTIONS)

export: .venv/installed  ## adds the stage that writes the model as one file for use elsewhere, and runs it
	.venv/bin/dvc exp run -S 'export.formats=[onnx]' $(OPTIONS)

report: repro .venv/installed-tests  ## draws report.html: this workspace beside main, or beside another commit with BASE=COMMIT
	.venv/bin/python tools/report.py $(BASE)

check: .venv/installed  ## finds corrupt files here, or in the remote with OPTIONS=--remote; OPTIONS=--remove removes them
	@.venv/bin/python tools/check.py $(OPTIONS)

test: .venv/installed-tests  ## checks format, lint, types and every promise of docs/promises.md
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyrefly check
	.venv/bin/pytest

bench: repro  ## prints tables of times, memory and growth; OPTIONS=--short only shows that all of it runs
	.venv/bin/python benchmarks/bench.py $(OPTIONS)

# pip installs uv, and uv the rest: faster, with progress, and going on after a broken download. The environment may be moved.
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make repro PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv: a minute or more, 6 GB"
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt >.venv/uv.txt
	.venv/bin/python -m pip install --quiet --require-hashes --requirement .venv/uv.txt
	.venv/bin/uv venv --quiet --relocatable --allow-existing --python $(PYTHON) .venv
	.venv/bin/uv pip install --python .venv --compile-bytecode --require-hashes --requirement requirements.txt
	@$(STAMP)

.venv/installed-tests: .venv/installed tests/requirements.txt
	.venv/bin/uv pip install --python .venv --compile-bytecode --require-hashes --requirement tests/requirements.txt
	@$(STAMP)

# The time of the newest file that it is made from, for a clock may have been ahead.
STAMP = touch -r "$$(ls -t $^ | head -n 1)" $@

.PHONY: help repro $(RECIPES) export report check test bench
