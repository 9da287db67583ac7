//! The log of facts, snapshots, read tables and blobs of a realm.
