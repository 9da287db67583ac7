//! Printing for tasks that must go on although nobody reads what is printed.
//!
//! A terminal that is held, or a program that does not read its pipe, keeps whoever writes to it
//! waiting. A worker that waits loses its leases, and a realm that waits serves nobody: so a thread
//! of its own writes. What it has no room for is left out and counted, and the number is said as
//! soon as there is room. The newest lines are those left out: they are many and alike, one or two
//! for each intent, while what stands before them says how it came to this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::output::Out;

/// Lines that wait to be written.
const LINES_MAX: usize = 1_024;
/// For what still waits when all is over.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// See the functions of that name of [`Out`].
#[derive(Debug)]
pub(crate) enum Line {
    Event(&'static str, Value),
    Words(String),
    Note(String),
}

/// Hands lines to the thread that writes them. Never waits.
#[derive(Clone)]
pub(crate) struct Printer {
    lines: SyncSender<Line>,
    left_out: Arc<AtomicU64>,
}

/// The thread that writes.
pub(crate) struct Printing(Receiver<()>);

impl Printer {
    pub(crate) fn start(out: Out) -> (Self, Printing) {
        Self::start_with(move |line| match line {
            Line::Event(name, data) => out.event(name, data),
            Line::Words(words) => out.words(words),
            Line::Note(words) => out.note(words),
        })
    }

    fn start_with(print: impl FnMut(Line) + Send + 'static) -> (Self, Printing) {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let (over, done) = sync_channel(0);
        let left_out = Arc::new(AtomicU64::new(0));
        let printer = Self { lines, left_out: Arc::clone(&left_out) };
        std::thread::spawn(move || {
            print_all(&waiting, &left_out, print);
            // Dropped: the other end sees that.
            drop(over);
        });
        (printer, Printing(done))
    }

    pub(crate) fn event(&self, name: &'static str, data: Value) {
        self.print(Line::Event(name, data));
    }

    pub(crate) fn words(&self, words: impl Into<String>) {
        self.print(Line::Words(words.into()));
    }

    pub(crate) fn note(&self, words: impl Into<String>) {
        self.print(Line::Note(words.into()));
    }

    fn print(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn print_all(lines: &Receiver<Line>, left_out: &AtomicU64, mut print: impl FnMut(Line)) {
    loop {
        let Ok(line) = lines.try_recv().or_else(|_| {
            // Everything from before the gap is written.
            say_left_out(left_out, &mut print);
            lines.recv()
        }) else {
            return;
        };
        print(line);
    }
}

fn say_left_out(left_out: &AtomicU64, print: &mut impl FnMut(Line)) {
    let lines = left_out.swap(0, Ordering::Relaxed);
    if lines > 0 {
        print(Line::Event("worker", json!({"status": "left_out", "lines": lines})));
        print(Line::Words(format!("{lines} lines are left out here: nobody read this output")));
    }
}

impl Printing {
    /// Waits until all is written, once the last printer is gone; true if it was in time.
    pub(crate) fn finish(self) -> bool {
        self.0.recv_timeout(END_PATIENCE) == Err(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_prints_does_not_wait_and_what_is_left_out_is_said() {
        let (go_on, held) = sync_channel::<()>(0);
        let (tell, told) = sync_channel(LINES_MAX * 2);
        let (printer, printing) = Printer::start_with(move |line| {
            // Until the other end is dropped.
            let _ = held.recv();
            tell.send(line).unwrap();
        });
        // One is being written, the queue is full, and seven have no room.
        printer.words("first");
        go_on.send(()).unwrap();
        assert!(matches!(told.recv(), Ok(Line::Words(words)) if words == "first"));
        for _ in 0..LINES_MAX + 8 {
            printer.words("more");
        }
        drop(go_on);
        drop(printer);
        // A loaded machine may take longer than its patience: `told` ends with the thread.
        let _ = printing.finish();
        let mut words = 0;
        let mut left_out = 0;
        for line in told {
            match line {
                Line::Event(_, data) => left_out += data["lines"].as_u64().unwrap(),
                Line::Words(text) => words += u64::from(text == "more"),
                Line::Note(_) => {}
            }
        }
        assert_eq!(words + left_out, u64::try_from(LINES_MAX).unwrap() + 8);
        assert!(left_out >= 7, "{left_out}");
    }

    #[test]
    fn an_output_that_takes_nothing_does_not_keep_the_end() {
        let (hold, held) = sync_channel::<()>(0);
        let (printer, printing) = Printer::start_with(move |_| {
            let _ = held.recv();
        });
        printer.note("x");
        drop(printer);
        assert!(!printing.finish());
        drop(hold);
    }
}
