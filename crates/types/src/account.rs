//! What the owner of an account proves with its own key.

use crate::id::RealmId;

/// The bytes that an account's own Ed25519 key signs to open the account in a realm, or to get another
/// API key there. The prefix keeps them from being anything else, the nonce from being used again.
pub fn account_proof(realm: RealmId, nonce: &str) -> Vec<u8> {
    [b"mtor/account-key/v1\0".as_slice(), &realm.0, nonce.as_bytes()].concat()
}
