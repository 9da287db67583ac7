# One command for each thing one does here; `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps depend on each other in the order written; cargo is parallel by itself.
.NOTPARALLEL:

export LC_ALL := C
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
MTOR := $(TARGET)/release/mtor
# Handed to the program: make run ARGS="--listen 0.0.0.0:9000"
ARGS ?=

# Folders are sources too, so that a removed file rebuilds the page; web/ itself is not, because
# the build writes into it.
PAGE_SOURCES := $(shell find web -mindepth 1 \( -name node_modules -o -name dist -o -name '.*' \) \
	-prune -o -print 2>/dev/null)

.PHONY: help run prerequisites page build models python node test bench fuzz clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: build ## build what is not built and start a realm; its models come behind it
	@MTOR_MODELS="$${MTOR_MODELS:-$(CURDIR)/.models}" exec $(MTOR) up $(ARGS)

prerequisites:
	@scripts/prerequisites.sh

# The crates come over the line meanwhile: both wait for it more than for the machine. If they do
# not come, cargo says so when it builds.
web/node_modules/.stamp: web/package-lock.json
	@cargo fetch --locked --quiet --target "$$(rustc -vV | sed -n 's/^host: //p')" & crates=$$!; \
		(cd web && npm ci --no-audit --no-fund); wait $$crates || true
	@touch $@

web/dist/index.html: web/node_modules/.stamp $(PAGE_SOURCES)
	cd web && npm run build
	@touch $@

page: prerequisites web/dist/index.html ## build the web page, if its sources are newer

build: page ## build the binary and the embedding model's program
	cargo build --release --locked -p mtor -p mtor-models

models: build ## fetch what tests need, once, into .models/ or $MTOR_MODELS: tiny, embedding, hearing and speaking model, the engine
	@export MTOR_MODELS="$${MTOR_MODELS:-$(CURDIR)/.models}"; \
		$(MTOR) models pull && $(MTOR) models pull moonshine-tiny-en kokoro-82m

.venv/.stamp: scripts/python/requirements.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

python: .venv/.stamp ## the Python clients that tests use, in .venv/

scripts/node/node_modules/.stamp: scripts/node/package-lock.json
	cd scripts/node && npm ci --no-audit --no-fund
	@touch $@

node: scripts/node/node_modules/.stamp ## the JavaScript client that tests use, in scripts/node/

test: ## all that CI runs: style, page, lints, build, tests, documentation, browser
	@scripts/test.sh

fuzz: ## foreign bytes for a minute a target, or ARGS="TARGET SECONDS"; needs a C++ compiler
	@scripts/fuzz.sh $(ARGS)

bench: build ## benchmarks beside other systems; results with machine notes go to bench/results/
	@bench/run.sh $(ARGS)

clean: ## remove what was built; the fetched models stay
	cargo clean
	rm -rf web/dist web/node_modules scripts/node/node_modules .venv
