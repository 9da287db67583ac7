//! Receipts: what a client can prove to anybody about one settled intent.
//!
//! All receipts of one synced batch share one signature over a Merkle root; each carries its own
//! inclusion path. The tree is that of RFC 6962 (RFC 9162, section 2.1): leaf and node hashes have
//! different prefixes, so that no node can be shown as a leaf. Why not the crate `tlog_tiles` 0.2:
//! it brings 69 crates (an URL parser with its Unicode tables among them) for the forty lines here.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Outcome, Reason, Usage};
use mtor_types::{AccountId, Amount, Code, Digest, IntentId, RealmId, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::{DocumentError, hex, key_id, parse_signature, signed_bytes};

const LEAF_DOMAIN: &[u8] = b"mtor/receipt/v1\0";
const BATCH_DOMAIN: &[u8] = b"mtor/receipt-batch/v1\0";
/// Hashes of a path: a batch has fewer than 2^32 receipts.
const PATH_MAX: usize = 32;

/// What is stated of one settled intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub realm: RealmId,
    pub intent: IntentId,
    pub account: AccountId,
    pub outcome: How,
    /// Why it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    pub usage: Usage,
    pub asset: Asset,
    pub cost: Amount,
    pub refunded: Amount,
    /// The number of the resolution's first transfer in the public log, 0 if nothing moved.
    pub sequence: u64,
    /// When its batch was made.
    pub at: Time,
}

/// [`Outcome`] as clients read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Completed,
    Failed,
    Cancelled,
    Expired,
    Refused,
}

/// A statement, its place in its batch, and the realm's signature over the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub statement: Statement,
    /// The number of the log's batch.
    pub batch: u64,
    /// Receipts of the batch.
    pub size: u64,
    /// The place of this one, from 0.
    pub index: u64,
    /// Siblings from the leaf to the root.
    pub path: Vec<Digest>,
    /// SHA-256 of the signing key.
    pub kid: Digest,
    /// Lower-case hex.
    pub signature: String,
}

/// Why a receipt is not good, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("signed by another key")]
    Key,
    #[error("the path does not fit the receipt's place in its batch")]
    Path,
    #[error("the signature is not the realm's")]
    Signature,
    #[error("the statement has no canonical form")]
    Canonical(#[source] DocumentError),
}

impl Statement {
    pub fn new(realm: RealmId, account: AccountId, end: &End, at: Time) -> Self {
        let (outcome, reason, code) = match end.outcome {
            Outcome::Completed(reason) => (How::Completed, Some(reason), None),
            Outcome::Failed(code) => (How::Failed, None, Some(code)),
            Outcome::Cancelled => (How::Cancelled, None, None),
            Outcome::Expired => (How::Expired, None, None),
            Outcome::Refused => (How::Refused, None, None),
        };
        Self {
            realm,
            intent: end.intent,
            account,
            outcome,
            reason,
            code,
            usage: end.usage,
            asset: end.asset,
            cost: end.cost,
            refunded: end.refunded,
            sequence: end.sequence,
            at,
        }
    }
}

/// The receipts of one synced batch, in the order of `statements`: one signature for all.
pub fn issue(
    key: &SigningKey,
    realm: RealmId,
    batch: u64,
    statements: Vec<Statement>,
) -> Result<Vec<Receipt>, ReceiptError> {
    let leaves: Result<Vec<_>, _> = statements.iter().map(leaf).collect();
    let tree = Tree::new(leaves?);
    let Some(root) = tree.root() else { return Ok(Vec::new()) };
    let size = statements.len() as u64;
    let signature = hex(&key.sign(&batch_bytes(realm, batch, size, root)).to_bytes());
    let kid = key_id(&key.verifying_key());
    let receipts = statements.into_iter().enumerate().map(|(index, statement)| Receipt {
        statement,
        batch,
        size,
        index: index as u64,
        path: tree.path(index),
        kid,
        signature: signature.clone(),
    });
    Ok(receipts.collect())
}

/// Whether the realm that holds `key` stated this. Take the key from the realm's document, by
/// `kid`; that the document is of `statement.realm` is the caller's to check.
pub fn verify(receipt: &Receipt, key: &VerifyingKey) -> Result<(), ReceiptError> {
    if receipt.kid != key_id(key) {
        return Err(ReceiptError::Key);
    }
    let leaf = leaf(&receipt.statement)?;
    let root =
        root_of(leaf, receipt.index, receipt.size, &receipt.path).ok_or(ReceiptError::Path)?;
    let message = batch_bytes(receipt.statement.realm, receipt.batch, receipt.size, root);
    let signature = parse_signature(&receipt.signature).ok_or(ReceiptError::Signature)?;
    key.verify_strict(&message, &signature).map_err(|_| ReceiptError::Signature)
}

fn batch_bytes(realm: RealmId, batch: u64, size: u64, root: Digest) -> Vec<u8> {
    [BATCH_DOMAIN, &realm.0, &batch.to_be_bytes(), &size.to_be_bytes(), &root.0].concat()
}

fn leaf(statement: &Statement) -> Result<Digest, ReceiptError> {
    let bytes = signed_bytes(LEAF_DOMAIN, statement).map_err(ReceiptError::Canonical)?;
    let hash = Sha256::new_with_prefix([0]).chain_update(bytes);
    Ok(Digest(hash.finalize().into()))
}

fn node(left: Digest, right: Digest) -> Digest {
    let hash = Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0);
    Digest(hash.finalize().into())
}

/// Every level of a tree, leaves first. A last node without a sibling rises unchanged, which gives
/// the tree that RFC 6962 defines from the top.
struct Tree {
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => node(*left, *right),
                single => single[0],
            });
            let above = above.collect();
            levels.push(above);
        }
        Self { levels }
    }

    fn root(&self) -> Option<Digest> {
        self.levels.last().and_then(|top| top.first()).copied()
    }

    fn path(&self, index: usize) -> Vec<Digest> {
        let sibling =
            |(height, level): (usize, &Vec<Digest>)| level.get((index >> height) ^ 1).copied();
        self.levels.iter().enumerate().filter_map(sibling).collect()
    }
}

/// The root that a path leads to (RFC 9162, section 2.1.3.2); `None` if it is not of the length
/// that its place demands.
fn root_of(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size || path.len() > PATH_MAX {
        return None;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            hash = node(*sibling, hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(hash, *sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement(n: u8) -> Statement {
        let end = End {
            intent: IntentId([n; 16]),
            outcome: match n % 3 {
                0 => Outcome::Completed(Reason::Done),
                1 => Outcome::Failed(Code::WorkerFailed),
                _ => Outcome::Cancelled,
            },
            usage: Usage { units: u64::from(n), input: 1, output: 2 },
            asset: Asset::Grant,
            cost: Amount::from_u64(7),
            refunded: Amount::from_u64(3),
            sequence: 9,
        };
        Statement::new(RealmId([1; 32]), AccountId([2; 32]), &end, Time(1_000))
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn batch(size: u8) -> Vec<Receipt> {
        issue(&key(), RealmId([1; 32]), 42, (0..size).map(statement).collect()).unwrap()
    }

    /// RFC 6962's own definition, from the top.
    fn merkle_tree_hash(leaves: &[Digest]) -> Digest {
        match leaves {
            [single] => *single,
            leaves => {
                let split = leaves.len().next_power_of_two() / 2;
                node(merkle_tree_hash(&leaves[..split]), merkle_tree_hash(&leaves[split..]))
            }
        }
    }

    #[test]
    fn every_receipt_of_every_size_verifies() {
        assert!(batch(0).is_empty());
        for size in 1..=33 {
            for receipt in batch(size) {
                verify(&receipt, &key().verifying_key()).unwrap();
                let text = serde_json::to_string(&receipt).unwrap();
                let again: Receipt = serde_json::from_str(&text).unwrap();
                assert_eq!(again, receipt);
            }
            let leaves: Vec<_> = (0..size).map(|n| leaf(&statement(n)).unwrap()).collect();
            assert_eq!(Tree::new(leaves.clone()).root(), Some(merkle_tree_hash(&leaves)));
        }
    }

    #[test]
    fn another_key_is_told_apart_from_a_forgery() {
        let other = SigningKey::from_bytes(&[6; 32]).verifying_key();
        let receipt = &batch(3)[1];
        assert!(matches!(verify(receipt, &other), Err(ReceiptError::Key)));
        let forged = Receipt { kid: key_id(&other), ..receipt.clone() };
        assert!(matches!(verify(&forged, &other), Err(ReceiptError::Signature)));
    }

    #[test]
    fn a_number_without_canonical_form_is_not_signed() {
        let mut statement = statement(0);
        statement.usage.units = u64::MAX;
        let issued = issue(&key(), RealmId([1; 32]), 1, vec![statement]);
        assert!(matches!(issued, Err(ReceiptError::Canonical(DocumentError::Number))));
    }

    proptest! {
        #[test]
        fn any_change_is_found(size in 1_u8..20, pick: prop::sample::Index, what in 0_usize..14, bit in 0_usize..256) {
            let receipts = batch(size);
            let mut receipt = pick.get(&receipts).clone();
            let flip = |bytes: &mut [u8]| {
                let at = bit % (8 * bytes.len());
                bytes[at / 8] ^= 1 << (at % 8);
            };
            let statement = &mut receipt.statement;
            match what {
                0 => flip(&mut statement.realm.0),
                1 => flip(&mut statement.intent.0),
                2 => flip(&mut statement.account.0),
                3 => statement.outcome = How::Refused,
                4 => statement.reason = if statement.reason.is_none() { Some(Reason::Done) } else { None },
                5 => statement.code = Some(Code::Internal),
                6 => statement.usage.units += 1,
                7 => statement.cost = Amount::from_u64(8),
                8 => statement.refunded = Amount::ZERO,
                9 => statement.sequence += 1,
                10 => receipt.batch += 1,
                11 => receipt.index = (receipt.index + 1) % (receipt.size + 1),
                12 => match receipt.path.first_mut() {
                    Some(hash) => flip(&mut hash.0),
                    None => receipt.path.push(Digest([0; 32])),
                },
                _ => receipt.size += 1,
            }
            prop_assert!(verify(&receipt, &key().verifying_key()).is_err());
        }

        #[test]
        fn arbitrary_text_is_no_receipt(text in "\\PC{0,200}") {
            prop_assert!(serde_json::from_str::<Receipt>(&text).is_err());
        }

        #[test]
        fn arbitrary_places_never_panic(index: u64, size: u64, length in 0_usize..70) {
            let path = vec![Digest([3; 32]); length];
            let _ = root_of(Digest([1; 32]), index, size, &path);
        }
    }
}
