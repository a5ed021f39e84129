# What a Rust and SAM project's user expects. `make help` lists the targets.

CARGO ?= cargo
CARGO_FLAGS ?= --locked
DATA ?= .layergate
PORT ?= 8642

.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the Lambda function (target/release/bootstrap) and the tool (target/release/layergate)
	$(CARGO) build $(CARGO_FLAGS) --release --bin bootstrap
	$(CARGO) build $(CARGO_FLAGS) --release --bin layergate --features cli --target-dir target/cli

demo: ## Publish a sample image into a local stack and pull its layers, as an ECR client does
	$(CARGO) build $(CARGO_FLAGS) --features cli --bin layergate
	$(CARGO) run $(CARGO_FLAGS) --features cli --quiet --example demo

local: ## Run the whole stack on this machine, with its data in DATA, at PORT
	$(CARGO) run $(CARGO_FLAGS) --features cli --bin layergate -- local --data $(DATA) --port $(PORT)

test: ## Run the tests
	$(CARGO) test $(CARGO_FLAGS) --all-features

lint: ## Check formatting, clippy and the documentation
	$(CARGO) fmt --check
	$(CARGO) clippy $(CARGO_FLAGS) --all-targets --all-features -- -D warnings
	$(CARGO) clippy $(CARGO_FLAGS) --bin bootstrap -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGO_FLAGS) --no-deps --all-features

check: lint test ## Everything that needs nothing but Rust

.PHONY: help build demo local test lint check

# Measuring

BENCH := target/bench

target/bench/tools: benches/python/requirements.txt benches/node/package.json
	command -v wrk docker-registry >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk docker-registry; }
	mkdir -p $(BENCH)/python $(BENCH)/node
	python3 -m pip install --quiet --no-warn-conflicts --root-user-action ignore --upgrade --target $(BENCH)/python --requirement benches/python/requirements.txt
	cp benches/node/package.json $(BENCH)/node
	npm --prefix $(BENCH)/node install --no-package-lock --no-audit --no-fund --silent
	touch $@

bench-build:
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-bench

bench: build bench-build target/bench/tools ## Measure the function beside Python and Node, and the local stack beside CNCF's registry
	cp benches/python/function.py $(BENCH)/python
	cp benches/node/*.js $(BENCH)/node
	target/release/bench

load: bench-build ## Put 100,000 checked calls on the local stack while images come and go
	$(CARGO) build $(CARGO_FLAGS) --release --bin layergate --features cli --target-dir target/cli
	target/release/load

.PHONY: bench-build bench load
