# shellcheck shell=bash
# A test run as a row of named, timed stages. Sourced by scripts/test.sh, and with made-up stages by
# xtask's tests.
#
#   stages_begin DIR              logs go to DIR
#   stage NAME FORM COMMAND…      runs COMMAND; the first one that fails ends the run
#   stages_end                    the table of minutes and, last, "N passed, N failed"
#
# FORM says how to read the number of tests from the stage's output: none, nextest, libtest, vitest,
# or plain (a line "N passed, N failed"). A stage that must have run tests and shows none fails: a
# runner that silently found nothing, or changed its words, is no success.

stages_begin() {
  stage_logs=$1
  stage_rows=()
  stage_passed=0
  stage_failed=0
  stage_start=$SECONDS
  mkdir -p "$stage_logs"
}

# stage_tally FORM FILE: prints the passed and the failed tests that the log tells of.
stage_tally() {
  sed $'s/\x1b\\[[0-9;]*m//g' "$2" | awk -v form="$1" '
    # The number that stands before a word in this line.
    function before(word,    text) {
      if (!match($0, "[0-9]+ " word)) return 0
      text = substr($0, RSTART, RLENGTH)
      return text + 0
    }
    form == "nextest" && /Summary \[/ {
      passed = before("passed")
      failed = before("failed") + before("exec failed") + before("timed out")
    }
    form == "libtest" && /^test result: / { passed += before("passed"); failed += before("failed") }
    form == "vitest" && /^ *Tests  / { passed = before("passed"); failed = before("failed") }
    form == "plain" && /^[0-9]+ passed, [0-9]+ failed/ { passed = before("passed"); failed = before("failed") }
    END { print passed + 0, failed + 0 }'
}

stage_minutes() { awk -v seconds="$1" 'BEGIN { printf "%.1f", seconds / 60 }'; }

stage() {
  local name=$1 form=$2 log=$stage_logs/$1.log began=$SECONDS status passed failed
  shift 2
  printf '\n== %s\n' "$name"
  # Not under `if` or `||`: there bash would ignore a failing command inside the stage.
  set +e
  (
    set -e
    "$@"
  ) </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e

  read -r passed failed < <(stage_tally "$form" "$log")
  stage_passed=$((stage_passed + passed))
  stage_failed=$((stage_failed + failed))
  stage_rows+=("$(printf '%-14s %8s' "$name" "$(stage_minutes $((SECONDS - began)))")")
  if ((status == 0 && failed > 0)); then
    printf 'stage %s ended well and yet shows %s failed\n' "$name" "$failed"
    status=1
  elif ((status == 0 && passed == 0)) && [[ $form != none ]]; then
    printf 'stage %s shows no test that passed\n' "$name"
    status=1
  fi
  ((status == 0)) || stages_failed "$name" "$status"
}

stages_table() {
  printf '\n%-14s %8s\n' stage minutes
  ((${#stage_rows[@]} == 0)) || printf '%s\n' "${stage_rows[@]}"
  printf '%-14s %8s\n\n' total "$(stage_minutes $((SECONDS - stage_start)))"
}

stages_failed() {
  stages_table
  printf 'stage %s FAILED with status %s; its output: %s\n' "$1" "$2" "$stage_logs/$1.log"
  # A stage may fail without any test in it; the run is red all the same.
  ((stage_failed > 0)) || stage_failed=1
  printf '%s passed, %s failed\n' "$stage_passed" "$stage_failed"
  exit 1
}

stages_end() {
  stages_table
  printf '%s passed, %s failed\n' "$stage_passed" "$stage_failed"
}
