use std::time::Duration;

use mtor_types::{Attempt, IntentId};

use super::*;

const MIB: usize = 1024 * 1024;

fn key(number: u8) -> Key {
    Key { intent: IntentId([number; 16]), attempt: Attempt(1) }
}

/// JSON of that length.
fn text(bytes: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap()
}

/// Assigns, and gives what the task of that intent would read.
fn assign(program: &Program, number: u8, bytes: usize) -> Result<mpsc::Receiver<Said>, End> {
    let (tx, said) = mpsc::channel(8);
    let job = Job {
        key: key(number),
        name: "test".into(),
        model: None,
        stream: true,
        limit: None,
        output: None,
        meter: None,
        deadline: Instant::now() + Duration::from_secs(60),
        data: text(bytes),
    };
    program.assign(&job, tx).map(|()| said)
}

#[test]
fn lines_for_a_program_that_does_not_read_are_bounded_by_their_bytes() {
    let program = Program::default();
    program.set_up();
    for number in 0..4 {
        assert!(assign(&program, number, 15 * MIB).is_ok(), "{number}");
    }
    let Err(End::Fail { message, retry, .. }) = assign(&program, 4, 15 * MIB) else {
        panic!("75 MiB wait");
    };
    assert!(retry && message.contains("does not read"), "{message}");
    // What is read makes room.
    assert!(program.pop_line().is_some());
    assert!(assign(&program, 5, 15 * MIB).is_ok());
    program.set_down();
    assert_eq!(program.lock().lines_bytes, 0);
}

#[test]
fn pieces_that_wait_are_bounded_for_all_intents_together() {
    let program = Program::default();
    program.set_up();
    let piece = text(15 * MIB);
    let mut waiting = Vec::new();
    for number in 0..6 {
        waiting.push(assign(&program, number, 10).ok().unwrap());
        let Key { intent, attempt } = key(number);
        let chunk = worker::Chunk { intent, attempt, seq: 0, count: 1, piece: &piece };
        program.said(line::Incoming::Chunk(chunk));
    }
    let came: Vec<bool> = (waiting.iter_mut())
        .map(|said| matches!(said.try_recv(), Ok(Said::Piece { .. })))
        .collect();
    assert_eq!(came, [true, true, true, true, false, false]);
    // They were read meanwhile.
    let mut said = assign(&program, 7, 10).ok().unwrap();
    let Key { intent, attempt } = key(7);
    let chunk = worker::Chunk { intent, attempt, seq: 0, count: 1, piece: &piece };
    program.said(line::Incoming::Chunk(chunk));
    assert!(matches!(said.try_recv(), Ok(Said::Piece { .. })));
}
