//! The services of a realm as deterministic state machines, and the node that joins them.
