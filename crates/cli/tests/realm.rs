//! A whole realm from the outside: the binary, its worker, its ledger.

use std::collections::BTreeMap;

use crate::common::http::send;
use crate::common::{Done, Place, Realm, signal};
use rustix::process::Signal;
use serde_json::Value;

fn submit(place: &Place, realm: &Realm, more: &[&str]) -> Done {
    submit_at(place, &realm.url, more)
}

fn submit_at(place: &Place, url: &str, more: &[&str]) -> Done {
    let mut arguments = vec!["--json", "submit", "echo", "--realm", url];
    arguments.extend(more);
    place.run(&arguments)
}

fn balance(place: &Place, realm: &Realm) -> (u128, u128) {
    let account = place.run(&["--json", "account", "--realm", &realm.url]).good().lines();
    let assets = account[0]["assets"].as_array().unwrap();
    let grant = assets.iter().find(|asset| asset["asset"] == "grant").unwrap();
    (units(&grant["balance"]), units(&grant["held"]))
}

fn units(amount: &Value) -> u128 {
    amount.as_str().unwrap().parse().unwrap()
}

fn transfers(place: &Place, realm: &Realm) -> Vec<Value> {
    place.run(&["--json", "account", "--realm", &realm.url, "transfers"]).good().lines()
}

/// What came in less what went out is what the account holds.
#[track_caller]
fn check_sums(place: &Place, realm: &Realm) -> u128 {
    let mut sums: BTreeMap<String, u128> = BTreeMap::new();
    for row in transfers(place, realm) {
        *sums.entry(row["kind"].as_str().unwrap().to_owned()).or_default() += units(&row["amount"]);
    }
    let sum = |kind: &str| sums.get(kind).copied().unwrap_or_default();
    let (balance, held) = balance(place, realm);
    assert_eq!(balance + held, sum("grant") - sum("capture") - sum("fee"), "{sums:?}");
    assert_eq!(held, sum("hold") - sum("capture") - sum("fee") - sum("void") - sum("expire"));
    balance
}

#[test]
fn a_guest_gets_an_echo_pays_one_unit_and_sees_every_transfer() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let done = submit(&place, &realm, &["--data", r#"{"a":[1,2]}"#]).good();
    let opened = done.event("account_opened");
    let completed = done.event("completed");
    assert_eq!(completed["result"], serde_json::json!({"a": [1, 2]}));
    assert_eq!(completed["cost"], serde_json::json!({"asset": "grant", "amount": "1"}));
    let receipt = done.event("settled")["receipt"].clone();

    assert_eq!(check_sums(&place, &realm), units(&opened["balance"]) - 1);
    let kinds: Vec<_> = transfers(&place, &realm).iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds[..3], ["grant", "hold", "capture"]);

    // The account is remembered, for its owner's eyes only.
    let again = submit(&place, &realm, &["--data", "1"]).good();
    assert!(again.lines().iter().all(|line| line["event"] != "account_opened"));
    use std::os::unix::fs::PermissionsExt;
    let file = place.path().join(".config/mtor/accounts.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // The receipt can be checked by anybody, and a forged one is found out.
    place.write("receipt.json", &receipt.to_string(), 0o644);
    let verify = ["receipt", "--realm", &realm.url, "verify", "receipt.json"];
    place.run(&verify).good();
    let forged = receipt.to_string().replace(r#""cost":"1""#, r#""cost":"0""#);
    assert_ne!(forged, receipt.to_string());
    place.write("receipt.json", &forged, 0o644);
    assert_eq!(place.run(&verify).code, Some(1));
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn an_account_that_was_replaced_can_be_used_again() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let account =
        |more: &[&str]| place.run(&[&["--json", "account", "--realm", &realm.url], more].concat());
    let id = |done: Done| done.lines()[0]["account"].as_str().unwrap().to_owned();
    let first = id(account(&["new"]).good());
    let second = id(account(&["new"]).good());
    assert_ne!(first, second);
    assert_eq!(id(account(&["former"]).good()), first);
    account(&["use", &first]).good();
    assert_eq!(id(account(&[]).good()), first);
    assert_eq!(id(account(&["former"]).good()), second);
    let unknown = account(&["use", &first]);
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    assert!(unknown.stderr.contains("mtor account former"), "{unknown:#?}");
}

#[test]
fn words_for_people_hold_the_answer_and_the_cost() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let done = place.run(&["submit", "echo", "--data", r#""hello""#, "--realm", &realm.url]).good();
    assert_eq!(done.stdout, "\"hello\"\n", "the result alone: {done:#?}");
    assert!(done.stderr.contains("cost 1 base unit of grant\n"), "{done:#?}");
    let stream = r#"{"x":1,"chunks":3,"delayms":1}"#;
    submit(&place, &realm, &["--stream", "--data", stream]).good();
}

#[test]
fn the_same_key_joins_and_another_body_is_a_conflict() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let first = submit(&place, &realm, &["--key", "k", "--data", "1"]).good();
    let again = submit(&place, &realm, &["--key", "k", "--data", "1"]).good();
    assert_eq!(first.event("completed")["cost"], again.event("completed")["cost"]);
    let other = submit(&place, &realm, &["--key", "k", "--data", "2"]);
    assert_eq!(other.code, Some(1), "{other:#?}");
    assert!(other.stderr.contains("MT0011"), "{other:#?}");
    let captures = transfers(&place, &realm);
    assert_eq!(captures.iter().filter(|row| row["kind"] == "capture").count(), 1);
}

#[test]
fn sixty_four_at_once_are_all_served_and_the_sums_hold() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    std::thread::scope(|scope| {
        let (place, url) = (&place, realm.url.as_str());
        let racers: Vec<_> = (0..64)
            .map(|n| scope.spawn(move || submit_at(place, url, &["--data", &n.to_string()]).good()))
            .collect();
        for (n, racer) in racers.into_iter().enumerate() {
            assert_eq!(racer.join().unwrap().event("completed")["result"], n);
        }
    });
    // One account although all began without one.
    let captures = transfers(&place, &realm);
    assert_eq!(captures.iter().filter(|row| row["kind"] == "capture").count(), 64);
    check_sums(&place, &realm);
}

#[test]
fn after_a_kill_the_balance_is_the_same_and_the_secret_is_not_shown_again() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    assert!(realm.ready["sysop_secret"].is_string(), "{}", realm.ready);
    let id = realm.ready["realm"].clone();
    submit(&place, &realm, &["--durable", "--data", "1"]).good();
    let before = check_sums(&place, &realm);
    let account = place.path().join(".config/mtor/accounts.json");
    let old_url = realm.url.clone();
    realm.kill();

    let realm = Realm::serving(&place);
    assert_eq!(realm.ready.get("sysop_secret"), None, "{}", realm.ready);
    assert_eq!(realm.ready["realm"], id);
    // Port 0 gave another address: the account moves along.
    let text = std::fs::read_to_string(&account).unwrap().replace(&old_url, &realm.url);
    std::fs::write(&account, text).unwrap();
    assert_eq!(check_sums(&place, &realm), before);
    submit(&place, &realm, &["--data", "1"]).good();
    assert_eq!(check_sums(&place, &realm), before - 1);
}

#[test]
fn a_second_realm_on_the_same_data_is_refused_and_named_its_holder() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let done = place.run(&["--json", "up", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(done.stderr.contains("MT0037"), "{done:#?}");
    assert!(done.stderr.contains(&realm.pid().to_string()), "{done:#?}");
    assert!(done.stderr.contains(" GMT"), "since when, for people: {done:#?}");
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn a_taken_address_is_refused() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = place.run(&["up", "--listen", &address, "--data", "data"]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(done.stderr.contains("MT0038") && done.stderr.contains(&address), "{done:#?}");
    assert!(done.stderr.contains("--listen"), "{done:#?}");
}

#[test]
fn a_chat_without_a_model_says_how_to_get_one() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let done = place.run(&["submit", "chat", "--prompt", "hello", "--realm", &realm.url]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(done.stderr.contains("mtor up"), "{done:#?}");
}

#[test]
fn a_worker_that_dies_comes_back() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let first = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.wait_worker("ready");
    signal(first.try_into().unwrap(), Signal::KILL);
    realm.wait_worker("died");
    assert_ne!(realm.wait_worker("spawned")["pid"].as_u64(), Some(first));
    realm.wait_worker("offered");
    realm.wait_worker("ready");
    submit(&place, &realm, &["--data", "1"]).good();
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn the_worker_ends_with_its_realm() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let worker = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.wait_worker("ready");
    let pipe = std::fs::File::open(format!("/proc/{worker}/stat"));
    assert!(pipe.is_ok());
    assert_eq!(realm.stop(), Some(0));
    assert!(!std::path::Path::new(&format!("/proc/{worker}")).exists());
}

#[test]
fn the_metrics_are_those_of_their_page() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    submit(&place, &realm, &["--data", "1"]).good();
    let text = send(&realm.url, "GET", "/metrics", &[], b"").body;
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let rows: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, help)| format!("| `{name}` | {} | {help} |", types[name]))
        .collect();
    let page = include_str!("../../../docs/metrics.md");
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows, listed);
    for sample in
        ["mtor_intents_ended_total{outcome=\"completed\"} 1", "mtor_intents_settled_total 1"]
    {
        assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
    }
}

#[test]
fn a_worker_that_nobody_enrolled_is_told_what_it_lacks() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let done = place.run(&["worker", "--realm", &realm.url, "--data", "w"]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(done.stderr.contains("mtor account worker-token"), "{done:#?}");
}

#[test]
fn keys_are_added_listed_and_revoked() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let account = |more: &[&str]| {
        let mut arguments = vec!["--json", "account", "--realm", &realm.url];
        arguments.extend(more);
        place.run(&arguments)
    };
    account(&["new"]).good();
    let listed = || account(&["keys"]).good().lines();
    let first = listed();
    assert_eq!(first.len(), 1, "{first:?}");
    let added = account(&["keys", "--add"]).good().lines()[0].clone();
    assert!(added["api_key"].as_str().unwrap().starts_with("mtor_"), "{added}");
    let both = listed();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.contains(&first[0]) && both.iter().any(|row| row["key"] == added["key"]));
    account(&["keys", "--revoke", added["key"].as_str().unwrap()]).good();
    assert_eq!(listed(), first);
    let unknown = account(&["keys", "--revoke", added["key"].as_str().unwrap()]);
    assert!(unknown.stderr.contains("MT0010"), "{unknown:#?}");
    let last = account(&["keys", "--revoke", first[0]["key"].as_str().unwrap()]);
    assert!(last.stderr.contains("MT0011") && last.stderr.contains("last key"), "{last:#?}");
    assert_eq!(listed(), first);
}

#[test]
fn the_sysop_sees_and_bans() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let secret = realm.ready["sysop_secret"].as_str().unwrap();
    place.write("secret", secret, 0o600);
    let sysop = |more: &[&str]| {
        let mut arguments =
            vec!["--json", "sysop", "--realm", &realm.url, "--secret-file", "secret"];
        arguments.extend(more);
        place.run(&arguments)
    };
    let health = sysop(&["health"]).good().lines();
    assert_eq!((&health[0]["store"], &health[0]["ready"]), (&"good".into(), &true.into()));
    let workers = sysop(&["workers"]).good().lines();
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert!(sysop(&["worker-token"]).good().lines()[0]["token"].is_string());

    submit(&place, &realm, &["--data", "1"]).good();
    let accounts = sysop(&["accounts"]).good().lines();
    let guest = accounts.iter().find(|row| row["kind"] == "guest").unwrap();
    let guest = guest["account"].as_str().unwrap();
    sysop(&["ban-account", guest]).good();
    let refused = submit(&place, &realm, &["--data", "1"]);
    assert!(refused.stderr.contains("MT0012"), "{refused:#?}");
    sysop(&["unban-account", guest]).good();
    submit(&place, &realm, &["--data", "1"]).good();

    place.write("secret", "wrong", 0o600);
    assert!(sysop(&["health"]).stderr.contains("MT0008"));
}
