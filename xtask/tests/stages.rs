//! The row of stages that `make test` is made of, with made-up stages: what it counts, where it
//! stops, and the line it ends with.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Runs the lines between `stages_begin` and `stages_end`; gives success and the output.
fn run(lines: &str) -> (bool, String) {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let logs = std::env::temp_dir().join(format!("mtor-stages-{}-{number}", std::process::id()));
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/stages.sh");
    let script = format!(
        "set -euo pipefail\nsource '{}'\nstages_begin '{}'\n{lines}\nstages_end",
        library.display(),
        logs.display()
    );
    let done = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
    let _left = std::fs::remove_dir_all(&logs);
    (done.status.success(), String::from_utf8(done.stdout).expect("UTF-8"))
}

fn last_line(output: &str) -> &str {
    output.trim_end().lines().last().unwrap_or_default()
}

#[test]
fn the_last_line_adds_what_every_runner_said() {
    let (good, output) = run(r#"
        nextest() { printf '\e[32m Summary\e[0m [ 0.1s] 13 tests run: \e[1m13\e[0m passed (2 slow), 3 skipped\n'; }
        vitest() { echo '      Tests  12 passed (12)'; }
        docs() { echo 'test result: ok. 3 passed; 0 failed;'; echo 'test result: ok. 2 passed; 0 failed;'; }
        plain() { echo '4 passed, 0 failed'; }
        stage format none true
        stage nextest nextest nextest
        stage page vitest vitest
        stage docs libtest docs
        stage browser plain plain
    "#);
    assert!(good, "{output}");
    assert_eq!(last_line(&output), "34 passed, 0 failed");
    for row in ["stage", "format", "nextest", "page", "docs", "browser", "total"] {
        let told = |line: &&str| line.starts_with(row) && line.len() == 23;
        assert_eq!(output.lines().filter(told).count(), 1, "{row} in {output}");
    }
}

#[test]
fn the_first_failure_ends_the_run_with_its_name() {
    let (good, output) = run(r#"
        half() { false; echo 'went on after a failure'; }
        never() { echo 'reached the stage after the failure'; }
        stage first none true
        stage second none half
        stage third none never
    "#);
    assert!(!good, "{output}");
    assert!(output.contains("stage second FAILED with status 1"), "{output}");
    assert!(!output.contains("after"), "{output}");
    assert_eq!(last_line(&output), "0 passed, 1 failed");
}

#[test]
fn failed_tests_are_counted() {
    let summary = "Summary [ 0.1s] 15 tests run: 12 passed (1 flaky), 1 failed, 1 exec failed, \
                   1 timed out, 3 skipped";
    let (good, output) = run(&format!(
        "failing() {{ echo '{summary}'; return 100; }}\nstage nextest nextest failing"
    ));
    assert!(!good, "{output}");
    assert!(output.contains("stage nextest FAILED with status 100"), "{output}");
    assert_eq!(last_line(&output), "12 passed, 3 failed");
}

#[test]
fn a_runner_that_shows_no_test_or_hides_a_failure_fails() {
    for (words, closing) in [
        ("nothing here", "0 passed, 1 failed"),
        ("Tests  1 failed | 2 passed (3)", "2 passed, 1 failed"),
    ] {
        let (good, output) =
            run(&format!("quiet() {{ echo '{words}'; }}\nstage page vitest quiet"));
        assert!(!good, "{output}");
        assert_eq!(last_line(&output), closing);
    }
}

#[test]
fn no_stage_reads_the_terminal() {
    let (good, output) = run("reads() { ! read -r line; }\nstage reads none reads");
    assert!(good, "{output}");
}
