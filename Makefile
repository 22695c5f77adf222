# `make help` prints the `##` comments of this file, which name what each target does.

.DEFAULT_GOAL := help
.PHONY: help run test test-brokers test-api test-package test-timescale check audit soak prove bench deb docs fmt clean
SITE ?=
# cargo may build into another directory than target/.
TARGET = $(shell cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# Most tests wait for brokers and databases, not for a core.
TEST_THREADS ?= 4

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo is built to be there soon, a real site to run for years.
run: ## start the demo: a private broker, simulated machines, and Andon; with SITE=x, the site config/sites/x.toml
	@scripts/setup.sh build
ifeq ($(SITE),)
	cargo build --profile demo --locked --bin andon
	@scripts/demo.sh "$(TARGET)/demo/andon"
else
	cargo build --release --locked --bin andon
	"$(TARGET)/release/andon" --site $(SITE) run
endif

test: ## run all tests; they start the brokers and databases they need
	@scripts/setup.sh test
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked --all-features --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
		RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --all-features --no-fail-fast; \
	fi

test-brokers: ## run Andon with every broker that can be installed here, and print a table; takes some minutes
	@scripts/setup.sh brokers
	cargo test --locked --all-features --bench interoperability

test-api: ## send what the OpenAPI document allows and forbids to a real Andon, with schemathesis; takes some minutes
	@scripts/setup.sh api
	@scripts/test-api.sh

deb: ## build the Debian package, target/package/andon_….deb
	@scripts/setup.sh package
	@scripts/package.sh

test-package: ## install, run, upgrade and purge the Debian package in a fresh Debian; needs root; takes some minutes
	@scripts/setup.sh package
	@scripts/test-package.sh

test-timescale: ## run the statements for TimescaleDB against it, in WebAssembly; needs npm and psql
	@scripts/setup.sh build
	@scripts/test-timescale.sh

check: ## check formatting, lints and documentation; warnings are errors
	@scripts/setup.sh build
	cargo fmt --check
	cargo clippy --locked --all-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --all-features --document-private-items

audit: ## check what is linked: known vulnerabilities, licences, doubles, sources
	@scripts/setup.sh audit
	@scripts/audit.sh

# The same binary as the tests, with their failpoints; benches/soak.rs explains its ANDON_SOAK_… variables.
soak: ## strike with every fault, with more messages, and print a table; takes some minutes
	@scripts/setup.sh test
	@mkdir -p target
	@cargo test --locked --all-features --bench soak 2>target/soak.log || { tail -n 40 target/soak.log; false; }

prove: ## run the fault suite with ten seeds, and print a table; takes about ten minutes
	@scripts/setup.sh test
	@scripts/prove.sh

bench: ## measure liveness and history with a million rows, deletion, and speed against mosquitto_sub; takes some minutes
	@scripts/setup.sh test
	cargo build --release --locked
	cargo bench --locked --bench liveness
	cargo bench --locked --bench history
	cargo bench --locked --bench retention
	cargo bench --locked --bench copy
	cargo bench --locked --bench commit
	cargo bench --locked --bench ingest
	cargo bench --locked --bench speed

docs: ## write docs/configuration.md from config/default.toml
	ANDON_WRITE_DOCS=1 cargo test --locked --all-features --test integration -- the_page_of_the_configuration_is

fmt: ## format the code
	cargo fmt

clean: ## delete the build and the demo's data
	cargo clean
	rm -rf data/demo
