//! Who acts: bans, proofs of an account's own key, what a day gives out, and the sysop's word.

use ed25519_dalek::{Signer, SigningKey};
use mtor_types::account::account_proof;
use mtor_types::{AccountId, RealmId};
use serde_json::{Value, json};

use crate::common::http::{Guest, Reply, send};
use crate::common::socket::{Hand, Socket};
use crate::common::worker::Owner;
use crate::common::{Done, Place, Realm, eventually};

/// `mtor sysop …` with the secret that the realm's first start told.
struct Sysop<'a> {
    place: &'a Place,
    url: String,
}

impl<'a> Sysop<'a> {
    fn of(place: &'a Place, realm: &Realm) -> Self {
        let secret = realm.ready["sysop_secret"].as_str().unwrap();
        place.write("secret", secret, 0o600);
        Self { place, url: realm.url.clone() }
    }

    fn run(&self, more: &[&str]) -> Done {
        let to = ["--json", "sysop", "--realm", &self.url, "--secret-file", "secret"];
        self.place.run(&[&to, more].concat())
    }
}

fn account_of(guest: &Guest) -> String {
    guest.ask("GET", "/v1/account", "").json()["account"].as_str().unwrap().to_owned()
}

fn opened(realm: &Realm, from: &str, body: &Value) -> Reply {
    let headers = [("x-forwarded-for", from), ("content-type", "application/json")];
    send(&realm.url, "POST", "/v1/accounts/guest", &headers, body.to_string().as_bytes())
}

/// A realm that gives so many grants a day, and one a network.
fn scarce(place: &Place, grants: &str) -> Realm {
    let more = ["--no-worker", "--trusted-proxy", "127.0.0.1/32", "--guests-per-network", "1"];
    Realm::start(
        place,
        &[&more[..], &["--grants-per-day", grants, "--guest-grant", "500"]].concat(),
    )
}

#[test]
fn a_ban_shuts_out_all_that_an_account_owns() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let sysop = Sysop::of(&place, &realm);
    let guest = Guest::new(&realm.url);
    let account = account_of(&guest);
    let mut own = Hand::join(&guest, 1, &json!([{"intent": "echo", "slots": 1}]));
    let body = r#"{"intent":"echo","data":1,"trust":"own","durable":true}"#;
    let pools = || guest.ask("GET", "/v1/pools", "").json();
    eventually(|| pools()["items"] != json!([]));
    let submitted = guest.ask("POST", "/v1/intents", body);
    assert_eq!(submitted.status, 202, "{submitted:?}");
    let intent = submitted.json()["intent"].clone();
    own.assigned();
    let mut socket = Socket::open(&realm.url, "/v1/events");
    socket.say("mtor.session.hello.v1", &json!({"api_key": guest.key}));
    socket.wait("mtor.session.ready.v1");
    let held = |guest: &Guest| guest.grant().1;
    assert_eq!(held(&guest), 1);

    sysop.run(&["ban-account", &account]).good();
    let (_, why) = own.socket.closed();
    assert!(why.contains("banned"), "its worker: {why}");
    assert_eq!(socket.wait("mtor.session.error.v1")["code"], "MT0012");
    socket.wait_closed();
    let refused = |guest: &Guest, method: &str, path: &str, body: &str| {
        assert_eq!(guest.ask(method, path, body).refusal(), (403, "MT0012".to_owned()), "{path}");
    };
    for (method, path) in [
        ("POST", "/v1/intents"),
        ("POST", "/v1/quote"),
        ("POST", "/v1/account/keys"),
        ("GET", "/v1/account/keys"),
        ("POST", "/v1/workers/tokens"),
        ("POST", "/v1/chat/completions"),
    ] {
        refused(&guest, method, path, body);
    }
    // It may look at its money, of which nothing is held any more.
    eventually(|| held(&guest) == 0);
    assert_eq!(guest.ask("GET", "/v1/account", "").json()["banned"], true);
    let path = "/v1/account/transfers";
    assert_eq!(guest.ask("GET", path, "").status, 200);
    let url = format!("/v1/intents/{}", intent.as_str().unwrap());
    refused(&guest, "GET", &url, "");

    realm.kill();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (guest, sysop) =
        (Guest { url: realm.url.clone(), ..guest }, Sysop { url: realm.url.clone(), ..sysop });
    refused(&guest, "POST", "/v1/intents", body);
    sysop.run(&["unban-account", &account]).good();
    assert_eq!(guest.ask("POST", "/v1/quote", body).status, 200);
    assert!(!guest.token().is_empty());
}

#[test]
fn a_token_of_a_banned_owner_enrols_nobody() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let sysop = Sysop::of(&place, &realm);
    let guest = Guest::new(&realm.url);
    let token = guest.token();
    sysop.run(&["ban-account", &account_of(&guest)]).good();
    place.write("token", &token, 0o600);
    let to = ["worker", "--realm", &realm.url, "--token-file", "token", "--data", "w"];
    let done = place.run(&to);
    assert!(done.code == Some(1) && done.stderr.contains("MT0012"), "{done:#?}");
}

/// The proof of a key's owner.
fn proof(realm: &Realm, key: &SigningKey) -> Value {
    let nonce = send(&realm.url, "GET", "/v1/accounts/nonce", &[], b"").json();
    let nonce = nonce["nonce"].as_str().unwrap();
    let id: RealmId = realm.ready["realm"].as_str().unwrap().parse().unwrap();
    let signature = key.sign(&account_proof(id, nonce)).to_bytes();
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"nonce": nonce, "signature": signature})
}

fn with(mut proof: Value, name: &str, value: &AccountId) -> Value {
    proof[name] = json!(value);
    proof
}

#[test]
fn a_public_key_is_its_owners_alone() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let key = SigningKey::from_bytes(&[7; 32]);
    let account = AccountId(key.verifying_key().to_bytes());
    let open = |body: &Value| opened(&realm, "127.0.0.1", body);
    let bare = open(&json!({"public_key": account}));
    assert_eq!(bare.status, 400, "{bare:?}");
    assert!(bare.body.contains("nonce"), "{bare:?}");
    let other = SigningKey::from_bytes(&[8; 32]);
    let forged = open(&with(proof(&realm, &other), "public_key", &account));
    assert_eq!(forged.refusal(), (401, "MT0008".to_owned()));
    let signed = with(proof(&realm, &key), "public_key", &account);
    let first = open(&signed);
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(
        (&first.json()["account"], &first.json()["secret_key"]),
        (&json!(account), &json!(null))
    );
    let again = open(&signed);
    assert!(
        again.status == 400 && again.body.contains("nonce"),
        "a nonce is signed once: {again:?}"
    );

    // Who has lost every API key and has the account's own gets another.
    let recover = |body: &Value| {
        let kind = [("content-type", "application/json")];
        send(&realm.url, "POST", "/v1/account/keys", &kind, body.to_string().as_bytes())
    };
    let forged = recover(&with(proof(&realm, &other), "account", &account));
    assert_eq!(forged.refusal(), (401, "MT0008".to_owned()));
    let signed = with(proof(&realm, &key), "account", &account);
    let found = recover(&signed);
    assert_eq!(found.status, 201, "{found:?}");
    assert_eq!(recover(&signed).status, 400, "once");
    let key = found.json()["api_key"].as_str().unwrap().to_owned();
    let guest = Guest { url: realm.url.clone(), key };
    assert_eq!(account_of(&guest), account.to_string());
    assert_eq!(recover(&json!({})).status, 400);
}

#[test]
fn a_nonce_of_another_start_is_asked_for_anew() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let key = SigningKey::from_bytes(&[7; 32]);
    let account = AccountId(key.verifying_key().to_bytes());
    let old = with(proof(&realm, &key), "public_key", &account);
    realm.kill();
    let realm = Realm::start(&place, &["--no-worker"]);
    assert_eq!(opened(&realm, "127.0.0.1", &old).status, 400);
    let new = with(proof(&realm, &key), "public_key", &account);
    assert_eq!(opened(&realm, "127.0.0.1", &new).status, 201);
}

#[test]
fn no_grant_left_does_not_mean_no_account() {
    let place = Place::new();
    let realm = scarce(&place, "100");
    let first = opened(&realm, "198.51.100.7", &json!({})).json();
    assert_eq!((&first["balance"], &first["no_grant"]), (&json!("500"), &json!(null)));
    let second = opened(&realm, "198.51.100.8", &json!({})).json();
    assert_eq!(second["balance"], "0");
    assert_eq!(second["no_grant"]["code"], "MT0019", "{second}");
    assert!(second["no_grant"]["retry_after_ms"].as_u64().unwrap() <= 86_400_000, "{second}");
    let victim = opened(&realm, "203.0.113.9", &json!({})).json();
    assert_eq!(victim["balance"], "500", "another network");
    let guest =
        Guest { url: realm.url.clone(), key: second["api_key"].as_str().unwrap().to_owned() };
    let empty = guest.ask_with("GET", "/v1/account", &[("x-forwarded-for", "198.51.100.8")], b"");
    assert_eq!(empty.json()["no_grant"]["code"], "MT0019");
    // From a network that has had none it is filled up.
    let filled =
        guest.ask_with("GET", "/v1/account", &[("x-forwarded-for", "192.0.2.1")], b"").json();
    assert_eq!(filled["no_grant"], json!(null));
    assert_eq!(guest.grant(), (500, 0));
    realm.kill();
    let realm = scarce(&place, "100");
    let again = opened(&realm, "198.51.100.9", &json!({})).json();
    assert_eq!(again["no_grant"]["code"], "MT0019", "a restart gives nothing anew");
}

#[test]
fn of_many_networks_that_take_all_they_can_another_finds_a_grant() {
    let place = Place::new();
    let more = ["--no-worker", "--trusted-proxy", "127.0.0.1/32", "--grants-per-day", "100"];
    let realm = Realm::start(&place, &more);
    let mut given = 0;
    for outer in 1..=10_u8 {
        for n in 0..30_u8 {
            let from = format!("10.{outer}.{}.{n}", n % 3);
            let opened = opened(&realm, &from, &json!({}));
            assert_eq!(opened.status, 201, "{opened:?}");
            given += u32::from(opened.json()["balance"] != "0");
        }
    }
    assert!((30..=90).contains(&given), "{given} grants for ten networks");
    let victim = opened(&realm, "203.0.113.9", &json!({})).json();
    assert_eq!(victim["balance"], "1000000");
}

#[test]
fn an_invitation_brings_a_grant_from_anywhere_once() {
    let place = Place::new();
    let realm = scarce(&place, "1");
    let sysop = Sysop::of(&place, &realm);
    assert_eq!(opened(&realm, "198.51.100.7", &json!({})).json()["balance"], "500");
    let invites = sysop.run(&["invite", "2"]).good().lines();
    let invite = |n: usize| invites[n]["invite"].as_str().unwrap().to_owned();
    let none = place.run(&["account", "new", "--invite", "nonsense", "--realm", &realm.url]);
    assert!(none.stderr.contains("MT0021") || none.stderr.contains("invitation"), "{none:#?}");
    place.run(&["account", "new", "--invite", &invite(0), "--realm", &realm.url]).good();
    let shown = place.run(&["--json", "account", "--realm", &realm.url]).good().lines();
    assert_eq!(shown[0]["assets"][0]["balance"], "500", "{shown:?}");
    let again = opened(&realm, "203.0.113.9", &json!({"invite": invite(0)}));
    assert_eq!(again.status, 401, "used: {again:?}");
    assert_eq!(sysop.run(&["invite", "--unused"]).good().lines()[0]["unused"], 1);
    sysop.run(&["invite", "--withdraw"]).good();
    let withdrawn = opened(&realm, "203.0.113.9", &json!({"invite": invite(1)}));
    assert_eq!(withdrawn.status, 401, "{withdrawn:?}");
    assert_eq!(sysop.run(&["invite"]).code, Some(2));
    assert_eq!(sysop.run(&["invite", "1001"]).code, Some(2));
}

#[test]
fn the_sysops_word_on_an_account_binds_at_once_and_after_a_restart() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let sysop = Sysop::of(&place, &realm);
    let guest = Guest::new(&realm.url);
    let account = account_of(&guest);
    let _hand = Hand::join(&realm, 1, &json!([{"intent": "echo", "slots": 1}]));
    let pools = || send(&realm.url, "GET", "/v1/pools", &[], b"").json();
    eventually(|| pools()["items"] != json!([]));
    sysop.run(&["account", &account, "--weight", "5", "--intents-max", "1"]).good();
    let submit = |guest: &Guest| {
        guest.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1,"durable":true}"#)
    };
    assert_eq!(submit(&guest).status, 202);
    let refused = submit(&guest);
    assert_eq!(refused.refusal().1, "MT0020", "{refused:?}");
    realm.kill();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (guest, sysop) =
        (Guest { url: realm.url.clone(), ..guest }, Sysop { url: realm.url.clone(), ..sysop });
    let told = guest.ask("GET", "/v1/account", "").json();
    assert_eq!((&told["weight"], &told["intents_max"]), (&json!(5), &json!(1)), "{told}");
    assert_eq!(submit(&guest).refusal().1, "MT0020");
    let rows = sysop.run(&["accounts"]).good().lines();
    assert!(rows.iter().any(|row| row["weight"] == 5 && row["account"] == account), "{rows:?}");
    sysop.run(&["account", &account, "--weight", "0", "--intents-max", "0"]).good();
    let told = guest.ask("GET", "/v1/account", "").json();
    assert_eq!((&told["weight"], &told["intents_max"]), (&json!(null), &json!(null)), "{told}");
    assert_eq!(sysop.run(&["account", &account]).code, Some(2));
    assert_eq!(sysop.run(&["account", &account, "--weight", "1001"]).code, Some(2));
}
