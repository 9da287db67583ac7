//! `mtor up --lan`, in a network of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::common::terminal::Terminal;
use crate::common::{Place, Realm};
use serde_json::Value;

/// No interface besides loopback.
const ALONE: &str = "true";
/// One: `home0` at 192.168.77.5/24.
const HOME: &str = "ip link add home0 type veth peer name home1 && ip link set home1 up && \
    ip address add 192.168.77.5/24 dev home0 && ip link set home0 up && \
    ip route add default dev home0 metric 600";
/// Before it a bridge of containers, and after it a VPN that everything goes through.
const VPN: &str = "ip link add box0 type veth peer name box1 && ip link set box1 up && \
    ip address add 172.17.0.1/16 dev box0 && ip link set box0 up && \
    ip tuntap add dev tun0 mode tun && ip address add 10.8.0.2/24 dev tun0 && \
    ip link set tun0 up && ip route add default dev tun0 metric 50";

/// The command in a network namespace with these interfaces.
fn at_home(command: &Command, network: &str, then: &str) -> Command {
    let mut inside = Command::new("unshare");
    inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside.stdin(std::process::Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    if !rustix::process::getuid().is_root() {
        inside.arg("--map-root-user");
    }
    let script = format!("ip link set lo up && {network} || exit 7\n{then}");
    inside.args(["--net", "sh", "-c", &script, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());
    inside
}

fn refused(place: &Place, more: &[&str], network: &str) -> (Option<i32>, String) {
    let mut arguments = vec!["up", "--data", "data", "--listen", "127.0.0.1:0", "--no-worker"];
    arguments.extend(more);
    let mut command = at_home(&place.command(&arguments), network, r#"exec "$@""#);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn nobody_can_be_asked_so_it_is_refused_by_name_and_nothing_starts() {
    let place = Place::new();
    let (code, said) = refused(&place, &["--lan"], HOME);
    assert_eq!(code, Some(2), "{said}");
    for word in ["192.168.77.0/24", "interface home0", "http://192.168.77.5", "--lan=home0 --yes"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("another network"), "there is none: {said}");
    assert!(!place.path().join("data/log.db").exists());
    let (code, said) = refused(&place, &["--lan", "--yes"], ALONE);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no address in a network"), "{said}");
    assert_eq!(refused(&place, &["--yes"], HOME).0, Some(2), "nothing to agree to");
    let (code, said) = refused(&place, &["--lan=vpn0", "--yes"], HOME);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--lan=vpn0") && said.contains("home0 (192.168.77.5)"), "{said}");
}

#[test]
fn the_network_is_served_beside_loopback_and_the_consent_is_remembered() {
    let place = Place::new();
    for consent in [&["--lan", "--yes", "--no-worker"][..], &["--lan=home0", "--no-worker"]] {
        let mut up = at_home(
            &Realm::command(&place, "127.0.0.1:0", consent),
            HOME,
            // Asked from within, and the answers go to a file; then it is stopped in order.
            r#""$@" > out & pid=$!
            until grep -q '"lan"' out; do kill -0 $pid || exit 9; sleep 0.05; done
            url=$(sed -n 's/.*"event":"lan".*"url":"\([^"]*\)".*/\1/p; s/.*"url":"\([^"]*\)".*"event":"lan".*/\1/p' out)
            port=${url##*:}
            for host in 192.168.77.5 127.0.0.1; do "$1" --json pools --realm "http://$host:$port" || exit 8; done
            kill $pid; wait $pid"#,
        );
        let output = up.output().unwrap();
        let said = std::fs::read_to_string(place.path().join("out")).unwrap_or_default();
        assert!(output.status.success(), "{said}{output:?}");
        let lines: Vec<Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["event"], "ready");
        assert_eq!(lines[1]["event"], "lan");
        assert_eq!(
            (&lines[1]["interface"], &lines[1]["network"]),
            (&Value::from("home0"), &Value::from("192.168.77.0/24"),)
        );
        assert!(lines[1]["url"].as_str().unwrap().starts_with("http://192.168.77.5:"));
        std::fs::remove_file(place.path().join("out")).unwrap();
    }
    let remembered = std::fs::read_to_string(place.path().join("data/lan-consent")).unwrap();
    assert_eq!(remembered, "home0 192.168.77.0/24\n");
    let mode = |name: &str| {
        std::fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("data"), mode("data/lan-consent")), (0o700, 0o600));
    assert!(!place.path().join("data/lan-consent.new").exists());
}

#[test]
fn on_a_terminal_it_asks_once_and_only_a_yes_serves_the_network() {
    let place = Place::new();
    let arguments = ["up", "--data", "data", "--listen", "127.0.0.1:0", "--no-worker", "--lan"];
    let up = || at_home(&place.command(&arguments), HOME, r#"exec "$@""#);
    let asked = "to everybody in the network 192.168.77.0/24 (interface home0).";
    for no in ["\n", "n\n", "nobody\n"] {
        let (mut terminal, mut child) = Terminal::run(&mut up());
        terminal.wait("Go on? [y/N] ");
        assert!(terminal.shown().contains(asked), "{}", terminal.shown());
        terminal.write(no);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{}", terminal.shown());
        terminal.wait("the network is not served, and nothing was started");
        assert!(!place.path().join("data").exists(), "{no:?} left something behind");
    }
    for answer in [Some("y\n"), None] {
        let (mut terminal, mut child) = Terminal::run(&mut up());
        if let Some(answer) = answer {
            terminal.wait("Go on? [y/N] ");
            terminal.write(answer);
        }
        terminal.wait("Served in the network 192.168.77.0/24 (home0), too:");
        terminal.wait("http://192.168.77.5:");
        terminal.wait("it is plain HTTP");
        assert_eq!(terminal.shown().contains("Go on?"), answer.is_some(), "{}", terminal.shown());
        // The `exec` of the script made it the realm itself.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_vpn_is_served_only_by_name_and_the_other_networks_are_told() {
    let place = Place::new();
    let network = format!("{HOME} && {VPN}");
    let (code, said) = refused(&place, &["--lan"], &network);
    assert_eq!(code, Some(2), "{said}");
    for word in [
        "192.168.77.0/24 (interface home0)",
        "--lan=home0 --yes; another network is --lan=box0 (172.17.0.1), --lan=tun0 (10.8.0.2)",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (code, said) = refused(&place, &["--lan=tun0"], &network);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("10.8.0.0/24 (interface tun0)"), "{said}");
    assert!(!said.contains("another network"), "it was named: {said}");

    let others = "Another network instead: --lan=box0 (172.17.0.1), --lan=tun0 (10.8.0.2)";
    let mut arguments =
        vec!["up", "--data", "data", "--listen", "127.0.0.1:0", "--no-worker", "--lan"];
    for yes in [false, true] {
        arguments.extend(yes.then_some("--yes"));
        let mut up = at_home(&place.command(&arguments), &network, r#"exec "$@""#);
        let (mut terminal, mut child) = Terminal::run(&mut up);
        if yes {
            terminal.wait("Served in the network 192.168.77.0/24 (home0), too:");
            terminal.wait(others);
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        } else {
            terminal.wait("Go on? [y/N] ");
            assert!(terminal.shown().contains(others), "{}", terminal.shown());
            terminal.write("n\n");
        }
        child.wait().unwrap();
    }
}
