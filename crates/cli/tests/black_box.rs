//! What drives the built binary from outside, as one program: what these tests share is compiled and
//! linked once. Each file of this folder is a room of its own.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

mod accounts;
mod answers;
mod audio;
mod backends;
mod busy;
mod clean;
mod clients;
mod common;
mod disk;
mod faults;
mod formats;
mod groups;
mod hangups;
mod heads;
mod lan;
mod lines;
mod models_arrive;
mod models_told;
mod names;
mod openai;
mod overload;
mod own_intent_page;
mod own_intents;
mod page;
mod pages;
mod pauses;
mod proxies;
mod realm;
mod refusals;
mod rejoin;
mod restarts;
mod shares;
mod speak;
mod standing;
mod strangers;
mod streams;
mod surroundings;
mod transcribe;
mod usage;
mod voice;
mod worker;

/// A file that no line here names would never be compiled, and none of its tests would run.
#[test]
fn every_file_here_is_compiled() {
    let mut files = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap();
        let named = include_str!("black_box.rs").lines().any(|line| line == format!("mod {room};"));
        assert!(named || room == "black_box", "name {room} in tests/black_box.rs: `mod {room};`");
        files += 1;
    }
    assert!(files > 20, "{files} files");
}
