//! The words that cross a process or a disk.
