# `make repro` runs the pipeline, `make test` the tests; both make .venv first and are quick when
# nothing changed. Needs Python 3.11 or newer, git and make.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Stages call `python`: it must be this environment's, whatever the shell's PATH says first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH PYTHONHOME

INSTALLED := .venv/.installed
MEDIA := .venv-media/.installed

.PHONY: help install repro smoke test media lint format faults cluster-test clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | sort | expand -t 14

install: $(INSTALLED) ## make .venv with the exact versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@for python in python3.11 python3.12 python3.13 python3 python; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	        2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo 'make: Python 3.11 or newer with venv is needed (on Debian: apt install python3-venv)' >&2; \
	    exit 1; \
	fi; \
	if ! [ -x .venv/bin/python ]; then $$found -m venv .venv; fi
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[test]'
	@touch $@

repro: $(INSTALLED) ## run what changed of the pipeline; STAGES=report@demo: up to these stages only
	.venv/bin/dhmd config check
	.venv/bin/dhmd data manifest
	@# A kill may cut this file of DVC's, which then refuses to run; it protects nothing any more.
	@.venv/bin/python -m json.tool .dvc/tmp/rwlock >/dev/null 2>&1 || rm -f .dvc/tmp/rwlock
	.venv/bin/dvc repro $(STAGES)
	@.venv/bin/dhmd summary

smoke: $(INSTALLED) ## run all stages in a temporary copy: one seed, one epoch, seconds
	@.venv/bin/python -m tests.pipeline.smoke

# Tests need one thread each, so several processes run them side by side.
PARALLEL := -n logical --maxprocesses 4
test faults: export OMP_NUM_THREADS := 1

test: $(INSTALLED) ## run the tests
	.venv/bin/python -m pytest $(PARALLEL) --dist loadfile --no-loadscope-reorder

media: $(MEDIA) ## run the tests of videos in .venv-media, whose packages differ (Python 3.11, 3.12)
	.venv-media/bin/python -m pytest tests/media

$(MEDIA): pyproject.toml constraints-media.txt
	@for python in python3.11 python3.12 python3; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	        2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then echo 'make: Python 3.11 or 3.12 is needed for videos' >&2; exit 1; fi; \
	if ! [ -x .venv-media/bin/python ]; then $$found -m venv .venv-media; fi
	.venv-media/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints-media.txt --editable '.[media]' pytest pytest-timeout scikit-image
	@touch $@

lint: $(INSTALLED) ## check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: $(INSTALLED) ## write the style that lint checks
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

faults: $(INSTALLED) ## break the pipeline on purpose, the long form of tests/faults
	.venv/bin/python -m pytest $(PARALLEL) --run-slow tests/faults

cluster-test: $(INSTALLED) ## train by a real Slurm, which it installs and starts as root, and by Ray
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[test,ray]'
	status=0; .venv/bin/python -m pytest --run-slow tests/cluster || status=$$?; \
	    tests/cluster/start_slurm.sh stop; exit $$status

clean: ## remove the environment and the tools' caches; data, models and metrics stay
	rm -rf .venv .venv-media .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
