//! The node agent: session, leases and executors.
