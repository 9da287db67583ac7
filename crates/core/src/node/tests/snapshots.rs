//! Snapshots: what an earlier version left is read, what a newer one left is refused by name.

use super::*;

/// The snapshot of an early release, with money, workers and open durable intents: format 1, in the
/// store's frame.
const FORMAT_1: &[u8] = include_bytes!(
    "../../../../server/tests/fixtures/realm-6671703/data/snapshot-00000000000000000079"
);
/// The same state as later versions wrote it. Never edited: a change of any section adds another file,
/// and all of them are read for ever.
const FORMAT_2: &[u8] = include_bytes!("state-2");
const FORMAT_3: &[u8] = include_bytes!("state-3");
/// As this version writes it.
const NEWEST: &[u8] = include_bytes!("state-4");
/// Before and behind the state.
const FRAME: (usize, usize) = (28, 32);

/// `MTOR_GOLDEN=write`, as in `crates/types/tests/golden.rs`, for a file that is empty so far.
#[allow(clippy::disallowed_methods, reason = "a test that writes a golden file")]
fn write_if_wished(state: &[u8]) {
    if NEWEST.is_empty() && std::env::var("MTOR_GOLDEN").is_ok_and(|wish| wish == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/node/tests/state-4");
        std::fs::write(path, state).unwrap();
    }
}

fn recover(bytes: &[u8]) -> Node {
    let state = NodeState::decode(bytes).unwrap();
    Node::recover(NodeConfig::whole(policy(), OWNER), state)
}

#[test]
fn the_first_format_is_read_and_written_as_todays() {
    let (old, new) = (&FORMAT_1[FRAME.0..FORMAT_1.len() - FRAME.1], NEWEST);
    assert_eq!(old[0], 1);
    let mut node = recover(old);
    let written = node.encode_state().unwrap();
    write_if_wished(&written);
    assert!(written == new, "the encoding changed: a section needs a version, and a file more");
    for state in [FORMAT_2, FORMAT_3, new] {
        assert_eq!(NodeState::decode(state).unwrap(), NodeState::decode(old).unwrap());
    }
    node.accountant().check_invariants().unwrap();
    node.registry().check_invariants().unwrap();
    let now = node.now();
    node.start(now);
    let open: Vec<_> = node.events().list(None).cloned().collect();
    assert_eq!(open.len(), OPEN, "its durable intents go on");
    for meta in open {
        assert_eq!((meta.band, meta.branch, meta.origin), (Band::LIST, Branch::Account, None));
        assert_eq!((meta.manifest, meta.size), (Digest([0; 32]), meta.bytes));
    }
}

/// Open durable intents of the state above.
const OPEN: usize = 3;

#[test]
fn what_is_newer_or_not_whole_is_refused_by_name() {
    let bytes = World::new(1).node.encode_state().unwrap();
    assert!(NodeState::decode(&bytes).is_ok());
    let refused = |bytes: &[u8]| NodeState::decode(bytes).unwrap_err().to_string();
    let patched = |at: usize, value: u8| {
        let mut other = bytes.clone();
        other[at] = value;
        refused(&other)
    };
    let said = patched(0, 3);
    assert!(said.contains("format 3, this program reads up to 2"), "{said}");
    assert!(said.contains("start the realm with the version that wrote it"), "{said}");
    // The first section is the node's own: its id, then its version.
    let said = patched(2, 9);
    assert!(said.contains("section `node` has version 9, this program reads up to 1"), "{said}");
    assert!(said.contains("start the realm with the version that wrote it"), "{said}");
    assert!(patched(1, 77).contains("no section `node`"), "{}", patched(1, 77));
    let more = [bytes.as_slice(), &[77, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(refused(&more).contains("section 77"), "{}", refused(&more));
    let twice = [bytes.as_slice(), &bytes[1..]].concat();
    assert!(matches!(NodeState::decode(&twice), Err(RecoverError::Twice(1))));
    for length in 0..bytes.len() {
        assert!(NodeState::decode(&bytes[..length]).is_err(), "{length}");
    }
    // Bytes left over within a section.
    let mut longer = bytes.clone();
    let length = u64::from_le_bytes(bytes[3..11].try_into().unwrap());
    longer[3..11].copy_from_slice(&(length + 1).to_le_bytes());
    longer.insert(11 + usize::try_from(length).unwrap(), 0);
    assert!(matches!(NodeState::decode(&longer), Err(RecoverError::LeftOver(1))));
}

#[test]
fn a_log_that_does_not_fit_its_ledger_is_refused_by_its_batch() {
    let world = World::new(1);
    let mut log = world.log.clone();
    let fresh = || Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
    let mut node = fresh();
    log.iter().for_each(|batch| node.replay(batch).unwrap());
    // The batch that opened the guest's account, once more behind the last one.
    let opens = |batch: &&Batch| {
        let mut facts = batch.facts.iter();
        facts.any(|fact| matches!(fact, Fact::AccountOpened { account, .. } if *account == CLIENT))
    };
    let mut again = log.iter().find(opens).unwrap().clone();
    again.number = node.batch() + 1;
    log.push(again);
    let mut node = fresh();
    let refused = log.iter().try_for_each(|batch| node.replay(batch)).unwrap_err();
    assert!(matches!(refused, RecoverError::Misfit { .. }), "{refused}");
    let told = refused.to_string();
    assert!(told.contains(&format!("batch {}", log.len())), "{told}");
    assert!(told.contains("opened a second time"), "{told}");
}
