#!/usr/bin/env bash
# Builds what is measured, measures it, and writes the tables to bench/results/.
# Arguments are handed to every mode: bench/run.sh --smoke
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked -p mtor -p mtor-bench-gateway

cpu="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
machine="$(printf '%s %sc' "$cpu" "$(nproc)" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-')"
stamp="$(date -u +%F)-${machine%-}"
bench="$target/release/mtor-bench-gateway"
common=(--mtor "$target/release/mtor" --folder "$target")

"$bench" run "${common[@]}" --out "bench/results/gateway-$stamp.md" "$@"
"$bench" restart "${common[@]}" --out "bench/results/restart-$stamp.md" "$@"
