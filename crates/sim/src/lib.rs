//! Realms, workers and clients under a seed, with faults.
