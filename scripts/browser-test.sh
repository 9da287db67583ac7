#!/usr/bin/env bash
# A visitor in a real browser against a real realm: starts the built binary on a free port with
# data of its own, waits until it is ready, lets each test of web/browser use the page, and ends the
# realm by its process id. A realm that leaves a child behind fails here. The last line sums up:
# "N passed, N failed".
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly START_SECONDS=30
readonly READY_SECONDS=180
readonly END_SECONDS=15
# For one file of tests; a browser that hangs must not hang everything.
readonly TEST_SECONDS=600
target=${CARGO_TARGET_DIR:-target}
mtor=$target/release/mtor
shots=$target/screenshots

say() { printf 'browser-test: %s\n' "$*" >&2; }

scratch=$(mktemp -d)
realm=

# wait_until SECONDS COMMAND…: true as soon as COMMAND is, false when the time is over.
wait_until() {
  local ends=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < ends)) || return 1
    sleep 0.1
  done
}

is_over() { ! kill -0 -- "$1" 2>/dev/null; }
started() { is_over "$realm" || [[ $(wc -l <"$scratch/out") -gt 0 ]]; }

# The realm leads a process group of its own, so what it started can be told from all others.
end_realm() {
  [[ -n $realm ]] || return 0
  local pid=$realm
  realm=
  kill -TERM "$pid" 2>/dev/null || true
  if ! wait_until "$END_SECONDS" is_over "$pid"; then
    say "the realm does not end on SIGTERM within $END_SECONDS s"
    kill -KILL -- "-$pid" 2>/dev/null || true
    return 1
  fi
  wait "$pid" 2>/dev/null || true
  if ! wait_until "$END_SECONDS" is_over "-$pid"; then
    say 'the realm ended and left a child behind'
    kill -KILL -- "-$pid" 2>/dev/null || true
    return 1
  fi
}

finish() {
  local status=$?
  trap - EXIT
  end_realm || status=1
  if ((status != 0)) && [[ -s $scratch/err ]]; then
    say "the realm's last words:"
    tail -n 40 "$scratch/err" >&2
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Looked at before the realm has written to it.
: >"$scratch/out"
set -m
"$mtor" up --data "$scratch/data" --listen 127.0.0.1:0 --model tiny --voice on --json \
  </dev/null >"$scratch/out" 2>"$scratch/err" &
realm=$!
set +m

wait_until "$START_SECONDS" started || { say "no first line within $START_SECONDS s" && exit 1; }
first=$(head -n 1 "$scratch/out")
url=$(sed -n 's/.*"event" *: *"ready".*/&/; s/.*"url" *: *"\([^"]*\)".*/\1/p' <<<"$first")
if [[ $first != *'"ready"'* || -z $url ]]; then
  say "the first line should be {\"event\":\"ready\",\"url\":…}, it is: $first"
  exit 1
fi

began=$SECONDS
node --input-type=module - "$url" "$realm" "$READY_SECONDS" <<'JS'
const [url, pid, seconds] = process.argv.slice(2);
const ends = Date.now() + Number(seconds) * 1000;
let last = "nothing yet";
for (;;) {
  try {
    const models = `${url}/v1/models`;
    const answer = await fetch(models, { signal: AbortSignal.timeout(5000) });
    const list = await answer.json();
    if (list.data.length >= 2) break;
    last = JSON.stringify(list.arriving).slice(0, 600);
  } catch (error) {
    last = String(error.cause ?? error);
  }
  try {
    process.kill(Number(pid), 0);
  } catch {
    console.error("browser-test: the realm ended before it was ready");
    process.exit(1);
  }
  if (Date.now() > ends) {
    console.error(`browser-test: not ready within ${seconds} s; ${url} said: ${last}`);
    process.exit(1);
  }
  await new Promise((done) => setTimeout(done, 200));
}
JS
say "ready after $((SECONDS - began)) s at $url"

mkdir -p "$shots"
if [[ -z ${CHROMIUM:-} ]]; then
  CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
fi
export CHROMIUM

passed=0 failed=0 ran=

# run_test NEEDS FILE ARGUMENTS…: shows what the test says and adds its last line to the sum. A test
# that needs `realm` gets the realm's address, one that needs nothing (`alone`) brings a stand-in.
run_test() {
  local needs=$1 file=$2 log=$scratch/test.log began=$SECONDS status last
  local -a arguments=("${@:3}")
  ran+=" $file "
  [[ $needs != realm ]] || arguments+=(--url "$url")
  printf '\n-- %s\n' "$file"
  set +e
  timeout "$TEST_SECONDS" node "web/browser/$file" "${arguments[@]}" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e
  last=$(tail -n 1 "$log")
  say "$file took $((SECONDS - began)) s"
  if [[ ! $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    say "$file ended with status $status and without a sum"
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  if ((status != 0 && BASH_REMATCH[2] == 0)); then
    say "$file says that all is well and ends with status $status"
    failed=$((failed + 1))
  fi
}

# Each file of tests has its line here.
run_test realm ask.mjs --shot "$shots/ask.png"
run_test realm page.test.mjs --shots "$shots"
run_test realm snippets.test.mjs --mtor "$mtor"
run_test alone intents.test.mjs
run_test alone conversations.test.mjs
run_test alone arriving.test.mjs
run_test alone markdown.test.mjs
run_test realm intents.test.mjs
run_test realm hands-free.test.mjs --shots "$shots"
run_test alone account.test.mjs
run_test alone voice.test.mjs
run_test realm voice.test.mjs
run_test realm account.test.mjs

for file in web/browser/*.test.mjs; do
  if [[ $ran != *" ${file##*/} "* ]]; then
    say "$file has no line here: it would never run"
    failed=$((failed + 1))
  fi
done
end_realm || failed=$((failed + 1))
printf '\n%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
