//! The shell of a realm: sockets, timers and keys around the core.
