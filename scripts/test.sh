#!/usr/bin/env bash
# The whole of CI, for everybody: `make test`. Cheap failures come first. The page stands before
# cargo because the server embeds web/dist; the models stand after the build because the product
# itself fetches them. Everything is compiled with the release profile, clippy too, so that build
# scripts run once.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
export CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never NO_COLOR=1
# Tests run in their crate's folder and must find the models all the same.
export MTOR_MODELS=${MTOR_MODELS:-$PWD/.models}
target=${CARGO_TARGET_DIR:-target}
# shellcheck source=scripts/stages.sh
source scripts/stages.sh

prerequisites() { scripts/prerequisites.sh test; }
format() { cargo fmt --all --check; }
tidy() { cargo run --release --locked --quiet -p xtask -- tidy; }

page() {
  make --no-print-directory web/node_modules/.stamp
  (cd web && npm run check && CI=true npm test)
  make --no-print-directory web/dist/index.html
}

clippy() { cargo clippy --release --workspace --all-targets --locked -- -D warnings; }
build() { cargo build --release --workspace --locked; }
clients() { make --no-print-directory python node; }
models() {
  "$target/release/mtor" models pull
  "$target/release/mtor" models pull moonshine-tiny-en kokoro-82m
}
nextest() { cargo nextest run --release --workspace --locked; }
# A sample of the planted bugs: that the tests find them.
mutants() { cargo run --release --locked --quiet -p xtask -- mutants --sample; }
doctests() { cargo test --release --workspace --doc --locked; }
browser() { scripts/browser-test.sh; }

# What measures models and voice, without any.
benchmodels() { python3 bench/models/tests.py; }
benchvoice() { python3 bench/voice/tests.py; }

# Short, and red only for what does not depend on the machine's speed.
bench() {
  local bench=$target/release/mtor-bench-gateway
  "$bench" run --smoke --mtor "$target/release/mtor" --folder "$target"
  "$bench" restart --smoke --mtor "$target/release/mtor" --folder "$target"
}

stages_begin "$target/test-logs"
stage prerequisites none prerequisites
stage format none format
stage tidy none tidy
stage benchmodels plain benchmodels
stage benchvoice plain benchvoice
stage page vitest page
stage clippy none clippy
stage build none build
stage models none models
stage clients none clients
stage nextest nextest nextest
stage mutants plain mutants
stage doctests libtest doctests
stage browser plain browser
stage bench none bench
stages_end
