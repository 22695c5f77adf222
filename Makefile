# make run           the demo: private broker, simulated machines, Andon between them
# make run SITE=x    the site config/sites/x.toml, with its own broker and machines
# make test          all tests (starts the brokers and databases they need)
# make test-brokers  a table: Andon with every broker that can be installed here; takes some minutes
# make check         formatting, lints and docs, warnings as errors
# make soak          every fault with more messages, and a table; takes some minutes
# make prove         the fault suite ten times with different seeds, and a table; takes about ten minutes
# make bench         what a million machines cost, how long questions to a million readings take, and speed against
#                    mosquitto_sub; takes some minutes

.PHONY: soak prove run test test-brokers check bench fmt clean
SITE ?=
# Wherever cargo has been told to build.
ANDON = $(shell cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/andon
# Most tests wait for brokers and databases, not for a core.
TEST_THREADS ?= 4

run:
	@scripts/setup.sh build
	cargo build --release --locked
ifeq ($(SITE),)
	@scripts/demo.sh "$(ANDON)"
else
	"$(ANDON)" --site $(SITE) run
endif

test:
	@scripts/setup.sh test
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked --all-features --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
		RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --all-features --no-fail-fast; \
	fi

test-brokers:
	@scripts/setup.sh brokers
	cargo test --locked --all-features --bench interoperability

check:
	@scripts/setup.sh build
	cargo fmt --check
	cargo clippy --locked --all-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --all-features --document-private-items

# The same binary as the tests, with their failpoints; ANDON_SOAK_… are explained in benches/soak.rs.
soak:
	@scripts/setup.sh test
	@mkdir -p target
	@cargo test --locked --all-features --bench soak 2>target/soak.log || { tail -n 40 target/soak.log; false; }

prove:
	@scripts/setup.sh test
	@scripts/prove.sh

bench:
	@scripts/setup.sh test
	cargo build --release --locked
	cargo bench --locked --bench liveness
	cargo bench --locked --bench history
	cargo bench --locked --bench retention
	cargo bench --locked --bench drain

fmt:
	cargo fmt

clean:
	cargo clean
	rm -rf data/demo
