//! The state of an early release's data directory: its snapshot and what its log gives are one.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::path::Path;

use mtor_core::accountant::Policy;
use mtor_core::node::{NodeConfig, NodeState};
use mtor_core::{Node, limits};
use mtor_store::{Log, Snapshots, SqliteLog, decode_batch};
use mtor_types::AccountId;
use mtor_types::fact::Fact;

fn replay(log: &SqliteLog, state: NodeState) -> Node {
    let config = NodeConfig::whole(Policy::default(), AccountId([0; 32]));
    let mut node = Node::recover(config, state);
    for encoded in log.read_after(node.batch(), limits::OPEN_INTENTS_MAX).unwrap() {
        node.replay(&decode_batch(&encoded).unwrap()).unwrap();
    }
    node
}

#[test]
fn an_early_snapshot_and_its_log_give_the_same_state() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/realm-6671703/data");
    let dir = std::env::temp_dir().join(format!("mtor-formats-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // Opening a log writes to it.
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    let log = SqliteLog::open(&dir).unwrap();
    let snapshot = Snapshots::open(&dir).unwrap().load().unwrap().snapshot.expect("it has one");
    assert_eq!(snapshot.bytes.first(), Some(&1), "it is of the first format");
    let from_snapshot = replay(&log, NodeState::decode(&snapshot.bytes).unwrap());
    let from_log = replay(&log, NodeState::default());
    assert!(snapshot.batch < log.last(), "the log has a tail behind the snapshot");
    assert_eq!(from_log.batch(), log.last());
    assert_eq!(from_snapshot.digest().unwrap(), from_log.digest().unwrap());
    // Both parts hold intents in their first form.
    let batches = log.read_after(0, limits::OPEN_INTENTS_MAX).unwrap();
    let opened = |after: bool| {
        let part = batches.iter().filter(|batch| (batch.number > snapshot.batch) == after);
        let facts = part.flat_map(|batch| decode_batch(batch).unwrap().facts);
        facts.filter(|fact| matches!(fact, Fact::IntentOpenedV1 { .. })).count()
    };
    assert!(opened(false) > 0 && opened(true) > 0);
    // What is written today is read again.
    let today = from_log.encode_state().unwrap();
    let again = replay(&log, NodeState::decode(&today).unwrap());
    assert_eq!(again.digest().unwrap(), from_log.digest().unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
}
