# `make run` and `make test` are the whole set-up on a Debian or Ubuntu machine with Rust and Node.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Flags for the binary: make run ARGS="--listen 0.0.0.0:3000"
ARGS ?=
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# The browser of the browser tests; playwright's own downloads are not used.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: help
help: ## Lists these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

.PHONY: run
run: page ## Builds the page and starts everything in one process
	cargo run --release --locked -- $(ARGS)

.PHONY: page
page: prepare-build client/web/dist/index.html ## Builds the page

.PHONY: test
test: test-rust test-client test-browser test-deploy ## Installs what the tests need and runs them all

.PHONY: test-rust
test-rust: prepare-test-rust ## Tests of the crates and of the binary
	cargo test --workspace --locked

.PHONY: test-client
test-client: prepare-build client/node_modules/.package-lock.json ## Types and tests of the library and the page
	cd client && npm test

.PHONY: test-browser
test-browser: prepare-test page e2e/node_modules/.package-lock.json ## Real browsers against one process, then a cluster
	cargo build --locked
	cd e2e && export VOICEPING_BIN=$(TARGET)/debug/voiceping CHROMIUM="$(CHROMIUM)" && npm test && npm run test:cluster && npm run test:reach

.PHONY: test-deploy
test-deploy: prepare-test-deploy ## Chart, Compose file, image, alerts and dashboards; real processes as the chart starts them
	cargo build --locked
	VOICEPING_BIN=$(TARGET)/debug/voiceping $(MAKE) -C deploy test

.PHONY: chaos
chaos: prepare-test-rust ## A cluster that is broken at random for ten minutes (CHAOS_SEED, CHAOS_SECONDS, CHAOS_MEMBERS)
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} CHAOS_MEMBERS=$${CHAOS_MEMBERS:-200} \
		cargo test --locked --test cluster -- --nocapture chaos::

.PHONY: bench
bench: prepare-test page e2e/node_modules/.package-lock.json ## Every figure of docs/performance.md (BENCH="load plots": parts)
	cargo build --release --locked
	VOICEPING_BIN=$(TARGET)/release/voiceping CHROMIUM="$(CHROMIUM)" node bench/run.js

.PHONY: check
check: ## All that the continuous integration runs
	.ci/run

.PHONY: audit
audit: ## Known vulnerabilities of the dependencies (needs the network)
	cargo deny check advisories
	cd client && npm audit --omit=dev

.PHONY: clean
clean: ## Removes what was built
	cargo clean
	rm -rf client/node_modules client/*/node_modules client/web/dist e2e/node_modules e2e/out bench/out

.PHONY: prepare-build prepare-test-rust prepare-test-deploy prepare-test
prepare-build:
	@scripts/prepare.sh build
prepare-test-rust:
	@scripts/prepare.sh test-rust
prepare-test-deploy:
	@scripts/prepare.sh test-deploy
prepare-test:
	@scripts/prepare.sh test

# npm writes this file when it has installed; it is older than the lock file when it has to again.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

PAGE_SOURCES := $(shell find client/sdk/src client/web -type f \
	-not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

client/web/dist/index.html: client/node_modules/.package-lock.json $(PAGE_SOURCES)
	cd client && npm run build
	@touch $@
