#!/usr/bin/env bash
# Foreign bytes for a while: `make fuzz` takes every target for a minute, `make fuzz ARGS="sound 3600"`
# one of them for so many seconds. What it finds stays in target/fuzz/found; what it learned in
# target/fuzz/TARGET, where the next run goes on. libFuzzer on a stable compiler: the flags are those
# of its coverage.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mapfile -t targets < <(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
seconds=60
if (($# > 0)); then
  targets=("$1")
  seconds=${2:-$seconds}
fi

# Files that tests have anyway.
seeds() {
  case $1 in
    content) printf '%s\n' fuzz/seeds/content ;;
    sound) printf '%s\n' crates/sound/tests/data crates/models/tests/exec/data ;;
    *) printf 'fuzz: there is no target %s: see fuzz/Cargo.toml\n' "$1" >&2 && return 2 ;;
  esac
}

for name in "${targets[@]}"; do
  mapfile -t folders < <(seeds "$name")
  ((${#folders[@]} > 0)) || exit 2
  mkdir -p "$target/$name" "$target/found"
  flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
  flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
  flags+=' -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares'
  # A target of its own, so that the flags are not those of build scripts.
  host=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS=$flags cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
    --target-dir "$target" --target "$host" --bin "$name"
  "$target/$host/release/$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 \
    -max_len=65536 -artifact_prefix="$target/found/" "$target/$name" "${folders[@]}"
done
