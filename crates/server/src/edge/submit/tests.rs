//! An edge with its node, and no socket.

use std::time::{Duration, Instant};

use mtor_core::command::OpenAccount;
use mtor_types::fact::AccountKind;
use mtor_types::intent::Outcome;
use mtor_types::message::Slots;
use mtor_types::worker::Offer;
use mtor_types::{KeyHash, SessionId, WorkerId};

use super::*;
use crate::realm::{Realm, RealmOptions};

const CLIENT: AccountId = AccountId([2; 32]);

/// A realm with a guest, and a worker of its own that offers `echo` and never answers.
async fn realm(folder: &std::path::Path) -> Realm {
    let options = RealmOptions::new(folder.to_owned(), ([127, 0, 0, 1], 0).into());
    let realm = Realm::open(RealmOptions { embedded_worker: false, ..options }).await.unwrap();
    let edge = Arc::clone(&realm.teller().0);
    let call = async |command| edge.node().call(command).await.unwrap();
    call(Command::OpenAccount(OpenAccount {
        account: CLIENT,
        kind: AccountKind::Guest,
        key: KeyHash([5; 32]),
        name_secret: [7; 32],
        networks: Vec::new(),
        invite: None,
        salt: [0; 16],
    }))
    .await;
    let (hash, worker, owner) = (KeyHash([6; 32]), WorkerId([3; 32]), edge.identity.account());
    let token = mtor_core::command::Token { hash, owner, expires: mtor_types::Time(u64::MAX) };
    let holder = edge.holder(owner, None);
    call(Command::Enrol { token, worker, name: "w".into(), holder }).await;
    let (intent, model, price, context) = ("echo".into(), None, None, None);
    let offers =
        edge.priced(&[Offer { intent, model, slots: 4, price, context, group: None }]).taken;
    call(Command::Attach(Slots {
        worker,
        session: SessionId(u64::MAX),
        edge: edge.node_id,
        owner,
        own: false,
        proven: false,
        draining: false,
        offers,
        leases: Vec::new(),
    }))
    .await;
    realm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_work_that_is_cancelled_before_the_node_knows_it_ends_at_once() {
    let folder = std::env::temp_dir().join(format!("mtor-submit-{}", std::process::id()));
    let realm = realm(&folder).await;
    let edge = Arc::clone(&realm.teller().0);
    let submission = Submission {
        asker: Asker {
            account: CLIENT,
            branch: Branch::Account,
            holder: edge.holder(CLIENT, None),
            origin: Origin { address: [127, 0, 0, 1].into(), veiled: false },
            at_home: false,
        },
        name: "echo".into(),
        data: Bytes::from_static(b"1"),
        options: Options { durable: Some(true), ..Options::default() },
        route: Route::Stored,
    };
    let Checked { ask, meta, prior, stream, portion } = edge.check(submission).await.unwrap();
    let kind = ("echo".to_owned(), true);
    let live = Live::new(CLIENT, kind, &ask, Arc::clone(&stream), None, portion);
    edge.lives.get_or_insert(meta.id, Arc::new(live));
    // Its payload is sealed, and it was looked at whether it is still wanted; then its client goes.
    edge.cancel(meta.id);
    edge.request(meta, prior, Rank::Guest);
    let began = Instant::now();
    let ended = loop {
        if let Some(ended) = stream.ended().unwrap() {
            break ended;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on for nobody");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(ended.end.outcome, Outcome::Cancelled);
    realm.run(std::future::ready(())).await;
    std::fs::remove_dir_all(&folder).unwrap();
}
