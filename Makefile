# `make help` lists the targets.

CARGO ?= cargo
CARGO_FLAGS ?= --locked
DATA ?= .layergate
PORT ?= 8642

# Cargo's target directory, for the recipes and the programs that they start.
export TARGET_DIR := $(shell $(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

BUILD_FOR_TESTS = $(CARGO) build $(CARGO_FLAGS) --bins --examples

.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the Lambda function (bootstrap) and the tool (layergate), in release mode
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate --bins
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-tool --bins
	@echo 'Built bootstrap, layergate and docker-credential-layergate in $(TARGET_DIR)/release'

demo: ## Publish a sample image into a local stack and pull its layers, as an ECR client does
	$(BUILD_FOR_TESTS)
	$(TARGET_DIR)/debug/examples/demo

local: ## Run the whole stack on this machine, with its data in DATA, at PORT and the five next ports
	$(CARGO) run $(CARGO_FLAGS) --package layergate-tool -- local --data $(DATA) --port $(PORT)

test: ## Run the tests. Where there are hundreds of cases, run a fixed sample of them
	$(BUILD_FOR_TESTS)
	$(CARGO) test $(CARGO_FLAGS)

test-exhaustive: export EXHAUSTIVE = 1
test-exhaustive: test ## Run the tests with every case: stop each command at each of its requests

events: ## Write the files of events/, from events/requests.json and a file for each shape
	$(BUILD_FOR_TESTS)
	WRITE_EVENTS=1 $(CARGO) test $(CARGO_FLAGS) --test black_box lambda::events

lint: ## Check formatting, clippy and the documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGO_FLAGS) --no-deps --lib

# Not `advisories`: cargo-deny downloads them from GitHub, and a change under test does not cause a new advisory.
DENY ?= bans licenses sources

deny: ## Check the licence, the source and duplicate versions of every dependency; known vulnerabilities with DENY=advisories
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny@0.20.2
	$(CARGO) deny --locked --workspace check $(DENY)
	$(CARGO) deny --locked --manifest-path fuzz/Cargo.toml check \
		--allow unmatched-skip-root --allow unnecessary-skip $(DENY)

check: lint test ## Run everything that only needs Rust

.PHONY: help build demo local test test-exhaustive events lint deny check

# --- Fuzzing. cargo-fuzz needs unstable features, which RUSTC_BOOTSTRAP allows in a stable compiler.

FUZZ_SECONDS ?= 600

fuzz: ## Fuzz the function, from raw event bytes to the response, for FUZZ_SECONDS
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	mkdir -p fuzz/corpus/event
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none event \
		fuzz/corpus/event events/rest events/http events/url -- -max_total_time=$(FUZZ_SECONDS)

.PHONY: fuzz

# --- Tests with other tools. They install these tools.

test-images: ## Publish and pull images of skopeo, buildah, podman and umoci (installed by apt-get, as root)
	$(BUILD_FOR_TESTS)
	python3 -m tests.images.test_images

test-upstream: ## Publish from docker-registry in each of its configurations (installed by apt-get, as root)
	$(BUILD_FOR_TESTS)
	python3 -m tests.upstream.test_upstream

test-clients: ## Call the local stack with the AWS CLI, boto3 and the JavaScript SDK (installed into .clients)
	$(BUILD_FOR_TESTS)
	python3 -m tests.clients.test_clients

test-pull: ## Pull from the local stack with docker, containerd, podman, buildah and skopeo (installed by apt-get, as root)
	$(BUILD_FOR_TESTS)
	python3 -m tests.pull.test_pull

test-pull-through: ## Pull images of docker-registry with docker, containerd, podman and skopeo (installed by apt-get, as root)
	$(BUILD_FOR_TESTS)
	python3 -m tests.pull_through.test_pull_through

test-deployed: ## Call the API at API_URL with your own AWS credentials
ifdef API_URL
	API_URL='$(API_URL)' $(CARGO) test $(CARGO_FLAGS) --test black_box -- --ignored a_deployed_api
else
	@echo 'SKIPPED: API_URL is not set, so no deployed API was called' >&2
endif

.PHONY: test-images test-upstream test-clients test-pull test-pull-through test-deployed

# --- Deploying with SAM, and running in sam local. The tools come from PyPI, into folders that git ignores.

EVENT ?= events/rest/OK.json

# The stack to deploy, and the file with all of its parameters. DEPLOY_FLAGS are for `sam deploy` only.
ENV = default
STACK = layergate$(if $(filter-out default,$(ENV)),-$(ENV))
ENVIRONMENT = environments/$(ENV).toml
DEPLOY_FLAGS ?=
PARAMETERS = --parameter-overrides file://$(abspath $(ENVIRONMENT))

SAM_ENVIRONMENT := PATH="$(CURDIR)/.venv-sam/bin:$$PATH" SAM_CLI_TELEMETRY=0
SAM := $(SAM_ENVIRONMENT) sam
SAM_LOCAL := $(SAM_ENVIRONMENT) tests/sam/with-engine.sh sam local

sam-build: .venv-sam/installed
	.venv-sam/bin/python deploy/environment.py $(ENVIRONMENT)
	$(SAM) build $(PARAMETERS)

deploy: sam-build ## Build the function and deploy ENV (default) to the AWS account of your credentials
	.venv-sam/bin/python deploy/record_settings.py $(ENVIRONMENT)
	api_logs=$$(.venv-sam/bin/python deploy/api_logs.py $(ENVIRONMENT) $(STACK)) && \
	$(SAM) deploy --stack-name $(STACK) $(PARAMETERS) $$api_logs $(REPAIR) $(DEPLOY_FLAGS)

repair: REPAIR := Canary=false
repair: deploy ## Deploy to all callers at once, although an alarm is on

outputs: .venv-sam/installed ## Print the stack's outputs as export lines, for the tool and for clients
	@$(SAM) list stack-outputs --stack-name $(STACK) --output json | .venv-sam/bin/python deploy/outputs.py

invoke: sam-build ## Answer EVENT in a container, with the stack that `make local` runs
	. $(abspath $(DATA))/local.env && $(SAM_LOCAL) invoke Function --event $(EVENT) --skip-pull-image

start-api: sam-build ## Serve the API at port 3000 from a container, with the stack that `make local` runs
	. $(abspath $(DATA))/local.env && AUTHORIZATION=gateway $(SAM_LOCAL) start-api --skip-pull-image

lint-template: .venv-sam/installed .venv-checkov/installed ## Check the templates with SAM, cfn-lint, checkov and tests
	$(SAM) validate --lint --region us-east-1
	.venv-sam/bin/cfn-lint --include-experimental --include-checks I --non-zero-exit-code informational -- template.yaml front-door.yaml
	.venv-checkov/bin/checkov --quiet --compact --skip-download --framework cloudformation --file template.yaml front-door.yaml
	.venv-sam/bin/pytest --quiet tests/sam/test_template.py tests/sam/test_permissions.py tests/sam/test_environment.py tests/sam/test_ci.py

test-sam: sam-build ## Run every event, the AWS CLI and boto3 against the function in sam local
	$(BUILD_FOR_TESTS)
	$(SAM_ENVIRONMENT) tests/sam/run.sh

test-deploy: sam-build .venv-moto/installed ## Deploy, change and delete the stack on moto, without an AWS account
	$(BUILD_FOR_TESTS)
	.venv-moto/bin/python -m pytest --quiet tests/deploy

.venv-sam/installed: tests/sam/requirements.txt
.venv-checkov/installed: tests/sam/requirements-checkov.txt
.venv-moto/installed: tests/deploy/requirements.txt
.venv-%/installed:
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

.PHONY: sam-build deploy repair outputs invoke start-api lint-template test-deploy test-sam

# --- Measuring. What it needs is installed by apt-get, pip and npm, the last two into the bench folder of cargo's target.

BENCH := $(TARGET_DIR)/bench

$(BENCH)/tools: benches/python/requirements.txt benches/node/package.json
	command -v wrk >/dev/null && command -v docker-registry >/dev/null && command -v skopeo >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk docker-registry skopeo; }
	mkdir -p $(BENCH)/python $(BENCH)/node
	python3 -m pip install --quiet --no-warn-conflicts --root-user-action ignore --upgrade --target $(BENCH)/python --requirement benches/python/requirements.txt
	cp benches/node/package.json $(BENCH)/node
	npm --prefix $(BENCH)/node install --no-package-lock --no-audit --no-fund --silent
	touch $@

# Built separately from bench: otherwise these programs would get the features that the AWS SDK enables in their
# dependencies.
build-echo-and-load:
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-bench --no-default-features

# PART and BEFORE are environment variables of the program.
bench: build build-echo-and-load $(BENCH)/tools ## Measure all, or only PART=function, growth, clean, local, registry or pull-through; BEFORE=PATH compares with another bootstrap
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-worker --bins
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-bench --bin bench
	cp benches/python/function.py $(BENCH)/python
	cp benches/node/*.js $(BENCH)/node
	$(TARGET_DIR)/release/bench

load: build-echo-and-load ## Make 100,000 or more calls to the local stack, and check each answer
	$(CARGO) build $(CARGO_FLAGS) --release --package layergate-tool --bins
	$(TARGET_DIR)/release/load

.PHONY: build-echo-and-load bench load
