//! A data directory whose realm was started once with a clock that was years ahead.

use mtor_core::command::OpenAccount;
use mtor_store::encode_batch;
use mtor_types::AccountId;
use mtor_types::fact::AccountKind;

use super::*;

const YEARS_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Folder) -> RealmOptions {
    let options = RealmOptions::new(folder.0.clone(), ([127, 0, 0, 1], 0).into());
    RealmOptions { embedded_worker: false, ..options }
}

fn guest(number: u8) -> Command {
    Command::OpenAccount(OpenAccount {
        account: AccountId([number; 32]),
        kind: AccountKind::Guest,
        key: KeyHash([number; 32]),
        name_secret: [7; 32],
        networks: Vec::new(),
        invite: None,
        salt: [0; 16],
    })
}

/// How far the realm's time is from this machine's.
async fn off_ms(realm: &Realm) -> u64 {
    let edge = &realm.edge;
    let now = edge.node().ask(Node::now).await.unwrap();
    let wall = shell::wall();
    now.since_ms(wall).max(wall.since_ms(now)).max(edge.now().since_ms(wall))
}

/// What one start with a wrong clock leaves behind.
fn start_ahead(folder: &Folder) {
    let identity = Identity::open(&folder.0).unwrap();
    let OpenedStore { mut log, mut node, recorded, .. } =
        open_store(&folder.0, &identity, &options(folder)).unwrap();
    let wrong = recorded.after_ms(YEARS_MS);
    assert!(!shell::jumps::finds_wrong(&folder.0, recorded, wrong).unwrap());
    node.start(wrong);
    node.handle(wrong, guest(9)).unwrap();
    let boot = node.close_batch().unwrap();
    log.append(&[encode_batch(&boot)]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_at_one_start_does_not_stick() {
    let path = std::env::temp_dir().join(format!("mtor-clock-{}", std::process::id()));
    let folder = Folder(path);
    let realm = Realm::open(options(&folder)).await.unwrap();
    realm.edge.node().call(guest(2)).await.unwrap();
    realm.run(std::future::ready(())).await;
    start_ahead(&folder);

    let realm = Realm::open(options(&folder)).await.unwrap();
    assert!(off_ms(&realm).await < 60_000, "within this start");
    // What was there is there, of that day, too, and today goes on.
    for number in [2, 9] {
        let account = AccountId([number; 32]);
        let there = move |node: &Node| node.accountant().account(account).is_some();
        assert!(realm.edge.node().ask(there).await.unwrap());
    }
    realm.edge.node().call(guest(3)).await.unwrap();
    realm.run(std::future::ready(())).await;

    // The log says it again.
    let realm = Realm::open(options(&folder)).await.unwrap();
    assert!(off_ms(&realm).await < 60_000);
    realm.edge.node().call(guest(4)).await.unwrap();
    realm.run(std::future::ready(())).await;
}
