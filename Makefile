# Every target does its own set-up: on a fresh checkout, `make demo` is all it takes.

ISTHMUS := $(or $(CARGO_TARGET_DIR),target)/debug/isthmus

.DEFAULT_GOAL := help
.PHONY: help cargo host setup build demo test nightly soak bench fuzz lint clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cargo:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }

host: cargo
	cargo build --locked -p isthmus $(BESIDE)

setup: host ## Find or fetch what compiles the filter, and an Envoy
	$(ISTHMUS) setup

build: setup ## Compile the filter to wasm/isthmus.wasm
	$(ISTHMUS) build

demo: build ## Run a mesh of two clusters on this machine and show what the filter does
	$(ISTHMUS) demo

# Built beside what runs them, so that both have the same features of wasmtime, kube and hyper, and these are compiled once.
test: BESIDE := -p isthmus-tests
test: build ## Run every tier of tests
	tests/run

nightly: cargo ## Judge a million random requests by two evaluators; PAIRS=n and SEED=n say how many and which
	PAIRS=$(or $(PAIRS),1000000) cargo test --release --locked --package isthmus-tests --test property the_compiled_verdict -- --nocapture

bench: build ## Measure; the figures also go to target/bench.json
	cargo bench --locked --package isthmus-tests --bench figures

soak: build ## Ten million hostile requests and an hour's worth of reloads through the module; REQUESTS=n and RELOADS=n say how many
	REQUESTS=$(or $(REQUESTS),10000000) RELOADS=$(or $(RELOADS),3600) cargo test --release --locked --package isthmus-tests --test sandbox soak -- --nocapture

fuzz: cargo ## Try each fuzz target for SECONDS_EACH seconds (60); needs a nightly compiler
	.ci/fuzz

# The filter by itself: what its tests need asks for features that make whatever the host needs another, and be checked again.
ALL_BUT_FILTER := --workspace --exclude isthmus-filter

lint: cargo ## Check format, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy $(ALL_BUT_FILTER) --all-targets --locked -- -D warnings
	cargo clippy -p isthmus-filter --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc $(ALL_BUT_FILTER) --no-deps --locked --quiet
	RUSTDOCFLAGS=-Dwarnings cargo doc -p isthmus-filter --no-deps --locked --quiet
	.ci/cargo-deny check bans licenses sources

clean: cargo ## Remove what was built and fetched
	cargo clean
	rm -rf .tools .isthmus wasm/isthmus.wasm wasm/isthmus.json
