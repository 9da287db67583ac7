//! A word while a command waits: one line on standard error, if that is a terminal, which goes as
//! soon as there is something else to say. Programs get events instead.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mtor_client::{Event, EventKind, Standing, Waits};
use mtor_types::text;

use crate::output::Out;
use crate::words::money;

const TICK: Duration = Duration::from_millis(120);

#[derive(Debug)]
pub(crate) struct Waiting {
    allowed: bool,
    line: Option<ProgressBar>,
}

impl Waiting {
    pub(crate) fn new(out: Out) -> Self {
        Self { allowed: !out.is_json() && console::Term::stderr().is_term(), line: None }
    }

    pub(crate) fn say(&mut self, words: impl Into<String>) {
        if !self.allowed {
            return;
        }
        let line = self.line.get_or_insert_with(|| {
            let line = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                line.set_style(style);
            }
            line.enable_steady_tick(TICK);
            line
        });
        line.set_message(text::line(&words.into()).into_owned());
    }

    pub(crate) fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }

    /// What an event says of the wait; true if the wait is over with it.
    pub(crate) fn hear(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Accepted(begun) => self.say(match &begun.hold {
                Some(hold) => format!("accepted; at most {} held", money(hold)),
                None => "accepted".to_owned(),
            }),
            // It begins at once.
            EventKind::Queued(Waits { position: 0, eta_ms: 0 }) => {}
            EventKind::Queued(waits) => {
                let seconds = waits.eta_ms.div_ceil(1_000);
                self.say(format!("place {} in the queue, about {seconds} s", waits.position));
            }
            EventKind::Started(starts) => {
                let name = starts.worker.as_ref().map(|worker| match worker.name.as_str() {
                    "" => worker.id.clone(),
                    name => name.to_owned(),
                });
                let name = name.unwrap_or_else(|| "a worker".into());
                let strange = starts.worker.as_ref().map(|by| by.standing);
                let strange =
                    if strange == Some(Standing::Probation) { ", not yet proven" } else { "" };
                self.say(format!("running on {name}{strange}"));
            }
            EventKind::Chunk(_)
            | EventKind::Completed(_)
            | EventKind::Failed(_)
            | EventKind::Cancelled(_)
            | EventKind::Expired(_) => self.clear(),
            // Why is known to who follows the stream.
            EventKind::Restarted(_) | EventKind::Settled => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}
