#!/usr/bin/env bash
# Says in the first second whether this machine can build MTOR, before anything is built.
#
#   scripts/prerequisites.sh         what `make run` needs
#   scripts/prerequisites.sh test    and what `make test` needs besides
#
# As root on a system with apt it installs what is missing. Everybody else gets one line to run.
# It changes nothing else, and says nothing when nothing is missing.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"

readonly CARGO_MIN=1.95
readonly NODE_MIN=20.19
readonly NEXTEST=0.9.143
# Build folder, page tools, models and their Python environment, with room to spare.
readonly DISK_NEED_GB=8

say() { printf 'prerequisites: %s\n' "$*" >&2; }

# at_least HAVE NEED: is version HAVE (1.95.0, v20.20, 1:1.85+ds1-1) at least NEED (major.minor)?
at_least() {
  local have=${1#v} major minor need_major need_minor
  have=${have#*:}
  have=${have%%[!0-9.]*}
  IFS=. read -r major minor _ <<<"$have.0"
  IFS=. read -r need_major need_minor _ <<<"$2"
  [[ $major =~ ^[0-9]+$ && $minor =~ ^[0-9]+$ ]] || return 1
  ((10#$major > need_major || (10#$major == need_major && 10#$minor >= need_minor)))
}

# What the page's tools run on: the 20 series, and everything from 22.12 on.
node_is_good() { at_least "$1" "$NODE_MIN" && { ! at_least "$1" 21.0 || at_least "$1" 22.12; }; }

have() { command -v "$1" >/dev/null 2>&1; }

# version_of TOOL: its version number, or nothing where it is absent or cannot run.
version_of() {
  local line
  line=$("$1" --version 2>/dev/null | head -n 1) || return 0
  line=${line#cargo }
  printf '%s' "${line%% *}"
}

# The version of PACKAGE that apt would install, or nothing.
candidate_of() {
  have apt-cache || return 0
  apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ { print $2 }'
}

have_browser() {
  [[ -n ${CHROMIUM:-} ]] || have chromium || have chromium-browser || have google-chrome
}

# Fills `missing` (names of things), `packages` (what apt calls them), `named` (both, a line each) and
# `lines` (what apt cannot mend, each with what to do).
look() {
  local purpose=$1 version candidate
  missing=() packages=() named=() lines=()
  need() {
    local name=$1
    shift
    missing+=("$name") packages+=("$@") named+=("$(printf '%s: sudo apt-get install -y %s' "$name" "$*")")
  }

  have make || need make make
  have cc || need 'a C compiler' build-essential
  # Before 3.10 it cannot run what serves the chat models.
  python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    need 'python3 (3.10 or newer) with venv' python3 python3-venv

  version=$(version_of node)
  if ! node_is_good "$version" || ! have npm; then
    candidate=$(candidate_of nodejs)
    if ! node_is_good "$candidate"; then
      lines+=("node $NODE_MIN, or 22.12 or newer, with npm is needed, found ${version:-none}: install it from https://nodejs.org")
    elif [[ $candidate == *nodesource* ]]; then
      # This packaging carries npm inside and conflicts with the separate one.
      need "node $NODE_MIN with npm" nodejs
    else
      need "node $NODE_MIN with npm" nodejs npm
    fi
  fi

  version=$(version_of cargo)
  if ! at_least "$version" "$CARGO_MIN"; then
    if at_least "$(candidate_of cargo)" "$CARGO_MIN"; then
      need "cargo $CARGO_MIN" cargo
    elif have rustup; then
      lines+=("cargo $CARGO_MIN or newer is needed, found ${version:-none}: run 'rustup update stable && rustup default stable'")
    else
      lines+=("cargo $CARGO_MIN or newer is needed, found ${version:-none}: install it with https://rustup.rs")
    fi
  fi

  if [[ $purpose == test ]]; then
    have git || need git git
    { have taskset && have setpriv; } || need util-linux util-linux
    have ip || need iproute2 iproute2
    # Speaks where the built-in voice is slower than speech.
    have flite || need flite flite
    have_browser || need chromium chromium fonts-dejavu-core
    # bench/models reads its questions with Python's own TOML.
    python3 -c 'import tomllib' 2>/dev/null ||
      lines+=("python3 3.11 or newer is needed by the tests: install it from https://www.python.org")
  fi
}

# A machine that has built once needs little more, so the disk is asked only before that.
look_disk() {
  local target=${CARGO_TARGET_DIR:-target} free_kb
  [[ -x $target/release/mtor ]] && return 0
  # The folder itself may not be there yet.
  while [[ ! -d $target ]]; do target=$(dirname "$target"); done
  free_kb=$(df -Pk "$target" | awk 'NR == 2 { print $4 }')
  if ((free_kb < DISK_NEED_GB * 1024 * 1024)); then
    lines+=("$DISK_NEED_GB GB of free disk are needed here, found $((free_kb / 1024 / 1024)): free some, or set CARGO_TARGET_DIR to a larger disk")
  fi
}

join() {
  local text
  text=$(printf ', %s' "$@")
  printf '%s' "${text:2}"
}

# Called under a condition, where bash does not stop at a failing command: hence each `return 1`.
install() {
  say "installing $(join "${missing[@]}")"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null >&2 || return 1
  # With fresh lists apt may know a node or a cargo that it did not know before.
  look "$purpose"
  ((${#packages[@]} == 0)) ||
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >&2 || return 1
  hash -r
  look "$purpose"
}

# The runner of the tests comes from cargo itself, so nobody needs to be root for it.
install_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return 0
  say 'building cargo-nextest, once (some minutes)'
  cargo install cargo-nextest --version "$NEXTEST" --locked </dev/null >&2
}

purpose=${1:-run}
case $purpose in
  run | test) ;;
  *) say "usage: $0 [run|test]" && exit 2 ;;
esac

look "$purpose"
if ((${#packages[@]} + ${#lines[@]} > 0)) && ((EUID == 0)) && have apt-get; then
  install || say 'apt-get failed: its own message stands above'
fi
look_disk

status=0
if ((${#packages[@]} > 0)); then
  status=1
  if ((EUID != 0)) && have apt-get; then
    for line in "${named[@]}"; do say "missing $line"; done
    say 'all of it in one line; then run the same make again:'
    printf 'sudo apt-get install -y %s\n' "${packages[*]}" >&2
  else
    say "missing: $(join "${missing[@]}"). Install them, then run the same make again"
  fi
fi
if ((${#lines[@]} > 0)); then
  status=1
  for line in "${lines[@]}"; do say "$line"; done
fi
((status == 0)) || exit "$status"
[[ $purpose != test ]] || install_nextest
