#!/usr/bin/env bash
# Builds what is measured, measures it, and writes the tables to bench/results/. With --smoke it is
# short, and only shows them. Anything else is asked of target/release/mtor-bench-gateway itself.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

case ${1:-} in
'') smoke= ;;
--smoke) smoke=1 ;;
*) echo "usage: $0 [--smoke]" >&2 && exit 2 ;;
esac

target="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked -p mtor -p mtor-bench-gateway

cpu="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
machine="$(printf '%s %sc' "$cpu" "$(nproc)" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-')"
stamp="$(date -u +%F)-${machine%-}"
bench="$target/release/mtor-bench-gateway"
declare -A names=([run]=gateway [restart]=restart)
common=(--mtor "$target/release/mtor" --folder "$target")

for mode in run restart; do
  if [[ -n $smoke ]]; then
    "$bench" "$mode" "${common[@]}" --smoke
  else
    "$bench" "$mode" "${common[@]}" --out "bench/results/${names[$mode]}-$stamp.md"
  fi
done

# The page, where there is a browser to look with.
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
export CHROMIUM
if [[ -z $CHROMIUM ]]; then
  echo 'bench: no Chromium, so the page is not measured: install chromium, or set CHROMIUM' >&2
elif [[ -n $smoke ]]; then
  node web/browser/measure.mjs --answers 12 --runs 1
else
  node web/browser/measure.mjs --out "bench/results/page-$stamp.md"
fi

# The models, where `mtor models pull` has brought any.
models=${MTOR_MODELS:-.models}
engine=$(compgen -G "$models/xllamacpp-*.abi3.so" | tail -n 1 || true)
files=()
if [[ -z $smoke && -n $engine ]]; then
  for file in "$models"/*.gguf; do
    name=$(basename "$file" .gguf)
    name=${name%.*}
    files+=(--gguf "$name=$file")
    bench/models/speed.py --gguf "$file" --engine "$engine" --out "bench/results/engine-$name-$stamp.md"
  done
  bench/models/questions.py --mtor "$target/release/mtor" --engine "$engine" "${files[@]}"
elif [[ -z $smoke ]]; then
  echo "bench: no models in $models, so none is measured: mtor models pull" >&2
fi
