//! Who takes a line: the whole of the program between stdin and the inbox.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::embed::{self, Embed};
use crate::files;
use crate::protocol::{Assign, Incoming, Outbox, Refusal};
use crate::runtime;
use crate::speak::{self, Speak, Wish};
use crate::transcribe::{self, Transcribe};

/// How long the end of stdin waits for a running step; then the process ends under it.
const GRACE: Duration = Duration::from_secs(2);

/// What this program can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Served {
    Embed,
    Transcribe,
    Speak,
}

pub struct Service {
    embed: Option<Embed>,
    transcribe: Option<Transcribe>,
    speak: Option<Speak>,
    outbox: Arc<Outbox>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Loads what is to be served and `dir` holds, to be run on so many threads. `None` if it holds
    /// none of it.
    pub fn load(
        dir: &Path,
        served: &[Served],
        wish: Wish,
        threads: usize,
        outbox: Arc<Outbox>,
    ) -> anyhow::Result<Option<Self>> {
        let wanted = |what| served.contains(&what).then_some(dir);
        let embed = wanted(Served::Embed).and_then(files::embed);
        let transcribe = wanted(Served::Transcribe).and_then(files::transcribe);
        let speak = wanted(Served::Speak).and_then(files::speak);
        let Some(library) = files::runtime(dir) else { return Ok(None) };
        if embed.is_none() && transcribe.is_none() && speak.is_none() {
            return Ok(None);
        }
        let environment = runtime::start(&library)?;
        let mut service =
            Self { embed: None, transcribe: None, speak: None, outbox, threads: Vec::new() };
        if let Some(files) = embed {
            let (embed, handles) = Embed::load(&environment, &files, threads, &service.outbox)?;
            service.embed = Some(embed);
            service.threads.extend(handles);
        }
        let environment = &environment;
        let hears = || {
            let load = |files| transcribe::Ready::load(environment, &files, threads);
            transcribe.map(load).transpose()
        };
        let speaks = || {
            let load = |files| speak::Ready::load(environment, &files, threads);
            speak.map(load).transpose()
        };
        let voice = hears()
            .and_then(|hears| Ok((hears, speaks()?)))
            .and_then(|voice| understood(voice, wish));
        match voice {
            Ok((hears, speaks)) => service.start(hears, speaks)?,
            // What is at work goes on without.
            Err(error) if service.embed.is_some() => {
                complain(&format!("neither transcribe nor speak is offered: {error:#}"));
            }
            Err(error) => return Err(error),
        }
        Ok(Some(service))
    }

    fn start(
        &mut self,
        hears: Option<transcribe::Ready>,
        speaks: Option<speak::Ready>,
    ) -> anyhow::Result<()> {
        if let Some(ready) = hears {
            let (transcribe, handles) = ready.start(&self.outbox)?;
            self.transcribe = Some(transcribe);
            self.threads.extend(handles);
        }
        if let Some(ready) = speaks {
            let (speak, handles) = ready.start(&self.outbox)?;
            self.speak = Some(speak);
            self.threads.extend(handles);
        }
        Ok(())
    }

    /// The first line.
    pub fn offer(&self) {
        let embed = self.embed.iter().map(Embed::offer);
        let transcribe = self.transcribe.iter().map(Transcribe::offer);
        let speak = self.speak.iter().map(Speak::offer);
        self.outbox.offers(&embed.chain(transcribe).chain(speak).collect::<Vec<_>>());
    }

    pub fn handle(&self, incoming: Incoming) {
        match incoming {
            Incoming::Assign(assign) => {
                if let Err(refusal) = self.assign(&assign) {
                    self.outbox.fail(&assign.key(), &refusal);
                }
            }
            Incoming::Revoke(key) => {
                self.embed.iter().for_each(|embed| embed.revoke(&key));
                self.transcribe.iter().for_each(|transcribe| transcribe.revoke(&key));
                self.speak.iter().for_each(|speak| speak.revoke(&key));
            }
            Incoming::Other => {}
        }
    }

    fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        let is_of = |model: &str| assign.model.as_deref().is_none_or(|asked| asked == model);
        match (assign.name.as_str(), &self.embed, &self.transcribe, &self.speak) {
            ("embed", Some(embed), _, _) if is_of(embed::MODEL) => embed.assign(assign),
            ("transcribe", _, Some(transcribe), _) if is_of(transcribe::MODEL) => {
                transcribe.assign(assign)
            }
            ("speak", _, _, Some(speak)) if is_of(speak.model()) => speak.assign(assign),
            _ => Err(Refusal::unsupported(
                "name and model are not among this program's offers; assign what it offered",
            )),
        }
    }

    /// Stops everything without another word.
    pub fn close(self) {
        self.embed.iter().for_each(Embed::close);
        self.transcribe.iter().for_each(Transcribe::close);
        self.speak.iter().for_each(Speak::close);
        let ended = watch(self.threads);
        let deadline = Instant::now() + GRACE;
        // The channel closes when the last thread has ended.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if ended.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

/// Said by the one and heard by the other before either is offered.
const SENTENCE: &str = "The harbor is quiet today and the ships are asleep.";
/// Of its words so many decide: a small model may mishear one.
const KEY_WORDS: [&str; 4] = ["quiet", "today", "ships", "asleep"];
const KEY_WORDS_MIN: usize = 3;

type Voice = (Option<transcribe::Ready>, Option<speak::Ready>);

/// Gives on what works.
fn understood((mut hears, mut speaks): Voice, wish: Wish) -> anyhow::Result<Voice> {
    if let Some(speaks) = &mut speaks {
        let said =
            speaks.say_one(SENTENCE, wish).context("the model that speaks does not answer")?;
        if let Some(hears) = &mut hears {
            // "To-day" is the same word.
            let letters = |text: String| text.chars().filter(|c| c.is_alphabetic()).collect();
            let heard: String = letters(hears.hear_one(said)?.to_lowercase());
            let words = KEY_WORDS.iter().filter(|word| heard.contains(**word)).count();
            anyhow::ensure!(
                words >= KEY_WORDS_MIN,
                "what the one said the other did not understand: {words} of {} words",
                KEY_WORDS.len()
            );
        }
    }
    Ok((hears, speaks))
}

/// Joins threads elsewhere, so that the caller can stop waiting for them.
fn watch(threads: Vec<JoinHandle<()>>) -> Receiver<()> {
    let (tx, rx) = sync_channel(threads.len());
    std::thread::spawn(move || {
        for thread in threads {
            let told = thread.join().is_ok() && tx.send(()).is_ok();
            if !told {
                return;
            }
        }
    });
    rx
}

/// A line for the operator; never with a client's content.
pub fn complain(text: &str) {
    eprintln!("mtor-models: {text}");
}
