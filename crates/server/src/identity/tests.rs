use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

struct Data(PathBuf);

impl Data {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mtor-keys-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, purpose: &str) -> PathBuf {
        self.0.join("keys").join(purpose)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn keys_are_made_once_and_for_their_owner_only() {
    let data = Data::new("once");
    let first = Identity::open(&data.0).unwrap();
    let again = Identity::open(&data.0).unwrap();
    assert_eq!((first.realm(), first.account()), (again.realm(), again.account()));
    assert_eq!(first.blob_key(), again.blob_key());
    assert_eq!(format!("{first:?}"), format!("Identity {{ realm: {:?}, .. }}", first.realm()));
    for purpose in PURPOSES {
        let mode = std::fs::metadata(data.file(purpose)).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{purpose}");
    }
    let keys = [first.root.to_bytes(), first.signing.to_bytes(), first.lease, first.network];
    assert!(keys.iter().enumerate().all(|(i, key)| !keys[..i].contains(key)), "all differ");
}

#[test]
fn a_crash_at_the_first_start_leaves_all_or_none() {
    let data = Data::new("crash");
    std::fs::create_dir_all(data.0.join("keys.partial")).unwrap();
    std::fs::write(data.0.join("keys.partial").join(ROOT), "half").unwrap();
    let identity = Identity::open(&data.0).unwrap();
    assert_eq!(Identity::open(&data.0).unwrap().realm(), identity.realm());
    assert!(!data.0.join("keys.partial").exists());
}

#[test]
fn what_is_wrong_with_a_key_file_is_named() {
    let data = Data::new("wrong");
    Identity::open(&data.0).unwrap();
    let path = data.file(LEASE);
    let good = std::fs::read_to_string(&path).unwrap();
    let open = || Identity::open(&data.0).expect_err("refused").to_string();

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = open();
    assert!(error.contains("lease-mac has mode 0644"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();

    for bad in [
        String::new(),
        good.replace("v1", "v2"),
        good.replace(LEASE, BLOB),
        good.trim_end().to_owned() + "00\n",
        good.trim_end().to_owned() + " more\n",
        good.to_uppercase(),
    ] {
        std::fs::write(&path, bad).unwrap();
        let error = open();
        assert!(error.contains("lease-mac") && error.contains("not a key"), "{error}");
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(open().contains("not a key"));
    std::fs::remove_file(&path).unwrap();
    let error = open();
    assert!(error.contains("lease-mac is missing"), "never made anew: {error}");
}

fn plan(now: Time) -> DocumentPlan {
    DocumentPlan {
        now,
        life_ms: u64::MAX,
        sequence: 4,
        endpoints: vec!["https://realm.example".into()],
        decimals: 6,
    }
}

#[test]
fn a_document_proves_itself_for_a_week() {
    let data = Data::new("document");
    let identity = Identity::open(&data.0).unwrap();
    let now = Time(1_000_000);
    let document = identity.document(plan(now)).unwrap();
    let text = serde_json::to_string(&document).unwrap();
    let document: RealmDocument = serde_json::from_str(&text).unwrap();
    document.verify(now).unwrap();
    document.verify(now.after_ms(DOCUMENT_LIFE_MS_MAX - 1)).unwrap();
    let late = document.verify(now.after_ms(DOCUMENT_LIFE_MS_MAX));
    assert!(matches!(late, Err(DocumentError::Expired)));
    assert!(matches!(document.verify(Time(0)), Err(DocumentError::TooLong)));
    let kid = document.statement.signing_keys[0].kid;
    assert_eq!(document.signing_key(kid), Some(identity.signing_key().verifying_key()));
    assert_eq!(document.signing_key(Digest([0; 32])), None);
}

type Change<'a> = &'a dyn Fn(&mut RealmDocument);

#[test]
fn a_changed_document_is_refused() {
    let data = Data::new("forged");
    let other = Identity::open(&Data::new("other").0).unwrap();
    let identity = Identity::open(&data.0).unwrap();
    let good = identity.document(plan(Time(5))).unwrap();
    let foreign = other.document(plan(Time(5))).unwrap();
    let changes: [(&str, Change<'_>); 9] = [
        ("kind", &|document| document.statement.kind.push('x')),
        ("sequence", &|document| document.statement.sequence += 1),
        ("endpoint", &|document| document.statement.endpoints[0].push('x')),
        ("valid", &|document| document.statement.valid_until.0 -= 1),
        ("decimals", &|document| document.statement.ledger.decimals += 1),
        ("kid", &|document| document.kid = Digest([0; 32])),
        ("keys", &|document| {
            document.statement.signing_keys.clone_from(&foreign.statement.signing_keys);
        }),
        ("root", &|document| document.statement.root_key.clone_from(&foreign.statement.root_key)),
        ("signature", &|document| document.signature.clone_from(&foreign.signature)),
    ];
    for (name, change) in changes {
        let mut document = good.clone();
        change(&mut document);
        assert!(document.verify(Time(5)).is_err(), "{name}");
    }
    let text = serde_json::to_string(&good).unwrap().replacen('{', r#"{"extra":1,"#, 1);
    assert!(serde_json::from_str::<RealmDocument>(&text).is_err());
}

#[test]
fn a_lease_token_is_of_one_lease_only() {
    let identity = Identity::open(&Data::new("lease").0).unwrap();
    let (intent, attempt, worker, fence) =
        (IntentId([1; 16]), Attempt(2), WorkerId([3; 32]), Fence(4));
    let token = identity.lease_token(intent, attempt, worker, fence);
    let lease = HeldLease { intent, attempt, fence, token };
    assert!(identity.holds(worker, &lease));
    assert!(!identity.holds(WorkerId([4; 32]), &lease));
    for wrong in [
        HeldLease { intent: IntentId([2; 16]), ..lease.clone() },
        HeldLease { attempt: Attempt(3), ..lease.clone() },
        HeldLease { fence: Fence(5), ..lease.clone() },
        HeldLease { token: Digest([0; 32]), ..lease.clone() },
    ] {
        assert!(!identity.holds(worker, &wrong));
    }
    assert_ne!(identity.network_key(b"10.0.0", 1), identity.network_key(b"10.0.0", 2));
    assert_ne!(identity.network_key(b"10.0.0", 1), identity.network_key(b"10.0.1", 1));
}

#[test]
fn a_worker_proves_its_key() {
    let key = SigningKey::from_bytes(&[9; 32]);
    let worker = WorkerId(key.verifying_key().to_bytes());
    let (realm, nonce) = (RealmId([1; 32]), Digest([2; 32]));
    let sign = |proof: &[u8]| hex(&key.sign(proof).to_bytes());
    let hello = WorkerHello {
        worker,
        signature: sign(&session_proof(realm, nonce, worker)),
        leases: Vec::new(),
    };
    verify_session(realm, nonce, &hello).unwrap();
    assert!(verify_session(realm, Digest([3; 32]), &hello).is_err(), "another nonce");
    assert!(verify_session(RealmId([2; 32]), nonce, &hello).is_err(), "another realm");
    let upper = WorkerHello { signature: hello.signature.to_uppercase(), ..hello.clone() };
    assert!(verify_session(realm, nonce, &upper).is_err(), "one text form only");

    let token = "mtor_secret".to_owned();
    let signature = sign(&enrol_proof(&token, worker));
    let enrol = Enrol { token, worker, signature, name: "w".into() };
    verify_enrol(&enrol).unwrap();
    let error = verify_enrol(&Enrol { token: "other".into(), ..enrol }).unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
}

#[test]
fn a_secret_is_random_and_known_by_its_hash() {
    let (one, two) = (new_secret().unwrap(), new_secret().unwrap());
    assert_ne!(one, two);
    let bytes = bs58::decode(one.strip_prefix("mtor_").unwrap()).into_vec().unwrap();
    assert_eq!(bytes.len(), 32);
    assert_ne!(hash_secret(&one), hash_secret(&two));
    // SHA-256 of "abc", FIPS 180-2.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash_secret("abc").to_string(), abc);
}

proptest! {
    #[test]
    fn hex_has_one_text_form(bytes: [u8; 32], text in "\\PC{0,70}") {
        prop_assert_eq!(parse_hex::<32>(&hex(&bytes)), Some(bytes));
        if let Some(bytes) = parse_hex::<32>(&text) {
            prop_assert_eq!(hex(&bytes), text);
        }
    }

    #[test]
    fn arbitrary_proofs_are_refused(worker: [u8; 32], signature in "[0-9a-f]{0,130}") {
        let hello = WorkerHello { worker: WorkerId(worker), signature, leases: Vec::new() };
        prop_assert!(verify_session(RealmId([1; 32]), Digest([2; 32]), &hello).is_err());
    }

    #[test]
    fn arbitrary_documents_are_refused(root_key in "\\PC{0,44}", signature in "[0-9a-f]{128}", realm: [u8; 32]) {
        let statement = RealmStatement {
            kind: DOCUMENT_KIND.into(), realm: RealmId(realm), root_key, sequence: 1,
            signing_keys: vec![PublicKey { kid: Digest(realm), key: String::new() }],
            endpoints: Vec::new(), valid_until: Time(9),
            ledger: LedgerNames { asset: "9000".into(), decimals: 6 },
        };
        let document = RealmDocument { statement, kid: Digest(realm), signature };
        prop_assert!(document.verify(Time(1)).is_err());
    }
}
