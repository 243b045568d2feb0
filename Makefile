# `make repro` runs the pipeline, `make test` runs the tests. Both first create .venv if it is missing
# or out of date. Python 3.11 or newer, Git and make are needed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Stages call `python3`, which must be that of .venv, whatever the PATH of the shell is.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH PYTHONHOME

INSTALLED := .venv/.installed
MEDIA := .venv-media/.installed

.PHONY: help install repro smoke test media lint format faults cluster-test clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | sort | expand -t 14

install: $(INSTALLED) ## create .venv with the versions of constraints.txt

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

repro: $(INSTALLED) ## run the stages of the pipeline that changed; STAGES=report@demo limits it to these and their inputs
	.venv/bin/dhmd config check
	.venv/bin/dhmd data manifest
	@# If a kill truncates this lock file of DVC, DVC refuses to run. The lock is no longer needed then.
	@.venv/bin/python -m json.tool .dvc/tmp/rwlock >/dev/null 2>&1 || rm -f .dvc/tmp/rwlock
	.venv/bin/dvc repro $(STAGES)
	@.venv/bin/dhmd summary

smoke: $(INSTALLED) ## run all stages in a temporary copy with one seed and one epoch, in seconds
	@.venv/bin/python -m tests.pipeline.smoke

# Each test needs one thread, so several processes run tests in parallel.
PARALLEL := -n logical --maxprocesses 4
test faults: export OMP_NUM_THREADS := 1

test: $(INSTALLED) ## run the tests
	.venv/bin/python -m pytest $(PARALLEL) --dist loadfile --no-loadscope-reorder

media: $(MEDIA) ## run the tests of videos in .venv-media, which has other package versions (Python 3.11 or 3.12)
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

format: $(INSTALLED) ## format the code and fix style errors
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

faults: $(INSTALLED) ## run the long form of tests/faults, which kills stages, fills disks and damages files
	.venv/bin/python -m pytest $(PARALLEL) --run-slow tests/faults

cluster-test: $(INSTALLED) ## test training on Slurm, which it installs and starts as root, and on Ray
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[test,ray]'
	status=0; .venv/bin/python -m pytest --run-slow tests/cluster || status=$$?; \
	    tests/cluster/start_slurm.sh stop; exit $$status

clean: ## remove the environments and the caches of the tools, but no data, models or metrics
	rm -rf .venv .venv-media .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
