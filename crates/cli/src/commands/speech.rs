//! Reads an answer aloud while it comes: its text goes to the intent `speak` in parts, each as soon
//! as a sentence of it is whole, and what comes back to a player's standard input or into a file.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use mtor_client::{Client, Event, EventKind, Intent};
use mtor_sound::wav;
use mtor_types::{Amount, Code, IntentId};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::follow::{cost_of, failure_of};
use super::work::Terms;
use super::{Context, input};
use crate::environment::{Environment, Purpose};
use crate::failure::Failure;
use crate::words::base_units;

#[derive(Args)]
pub(crate) struct SpeakArguments {
    /// Read the answers aloud, or, with =FILE.wav, write them to a WAV file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    speak: Option<Option<PathBuf>>,
    /// Who reads; the model's own choice if it is not given. Asked for before the question is
    #[arg(long, value_name = "NAME", requires = "speak", value_parser = input::said)]
    voice: Option<String>,
}

/// Programs that play samples from their standard input, and how they are told what these are.
const PLAYERS: [(&str, &[&str]); 4] = [
    ("aplay", &["-q", "-t", "raw", "-f", "S16_LE", "-r", "24000", "-c", "1", "-"]),
    ("pacat", &["--playback", "--format=s16le", "--rate=24000", "--channels=1"]),
    ("play", &["-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", "24000", "-c", "1", "-"]),
    ("ffplay", &["-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", "24000", "-"]),
];
/// What `speak` gives as `pcm`.
const RATE: u32 = 24_000;
/// Characters of one part; the realm takes 4,096.
const PART_CHARS_MAX: usize = 2_000;
/// Pieces that wait to be played: a sentence each.
const PIECES_MAX: usize = 8;
/// Nothing of it can be said: the realm's own voice says nothing, and nothing is paid. Another server
/// may say it all the same.
const UNSPOKEN: &str = "\u{1f50a}";
/// For a voice to be found or refused; whoever is busy for longer is asked when there is a text.
const VOICE_PATIENCE_MS: u64 = 5_000;
/// For the bill of a part that was given up.
const BILL_PATIENCE: Duration = Duration::from_secs(5);
const BILL_EVERY: Duration = Duration::from_millis(20);

/// How answers are read.
pub(crate) struct Speaker {
    voice: Option<String>,
    to: To,
}

enum To {
    Player(&'static str, &'static [&'static str]),
    File(Arc<Mutex<Wav>>),
}

/// How answers are to be read.
pub(crate) struct Wish {
    voice: Option<String>,
    to: Target,
}

enum Target {
    Player(&'static str, &'static [&'static str]),
    Named(PathBuf),
}

/// What reading cost so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    cost: Amount,
    /// What these cost is not known.
    open: Vec<IntentId>,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&base_units(self.cost))?;
        self.open.iter().try_for_each(|intent| {
            write!(f, ", and what intent {intent} cost: `mtor intents show {intent}` tells it")
        })
    }
}

impl Spent {
    /// `cost` in base units, and the intents whose cost is not known.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({"cost": self.cost, "unknown": self.open})
    }

    pub(crate) fn add(&mut self, cost: Amount) {
        self.cost = self.cost.checked_add(cost).unwrap_or(self.cost);
    }

    /// As well as what was spent before.
    pub(crate) fn join(&mut self, other: Self) {
        self.add(other.cost);
        self.open.extend(other.open);
    }

    /// The intent is under way.
    fn begins(&mut self, intent: Option<IntentId>) {
        self.open.extend(intent.filter(|intent| !self.open.contains(intent)));
    }

    /// The intent is over, at this cost.
    fn ends(&mut self, intent: Option<IntentId>, cost: Amount) {
        self.open.retain(|open| Some(*open) != intent);
        self.add(cost);
    }

    /// What a stream has told.
    fn hear(&mut self, intent: Option<IntentId>, event: &EventKind) {
        match cost_of(event) {
            Some(cost) => self.ends(intent, cost),
            None if matches!(event, EventKind::Settled) => {}
            None => self.begins(intent),
        }
    }

    /// Has what is under way cancelled, and waits for its bill, so long.
    async fn settle(&mut self, client: &Client) {
        let deadline = Instant::now() + BILL_PATIENCE;
        for intent in self.open.clone() {
            // Over already is fine.
            let _ = timeout_at(deadline, client.cancel(intent)).await;
            while let Ok(Ok(view)) = timeout_at(deadline, client.intent(intent)).await {
                if view.status != "open" {
                    self.ends(Some(intent), view.cost.map_or(Amount::ZERO, |cost| cost.amount));
                    break;
                }
                sleep(BILL_EVERY).await;
            }
        }
    }
}

fn locked(spent: &Mutex<Spent>) -> MutexGuard<'_, Spent> {
    spent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wish {
    /// `None` if nothing is to be read.
    pub(crate) fn of(wish: &SpeakArguments, context: &Context) -> Result<Option<Self>, Failure> {
        let voice = wish.voice.clone();
        let to = match &wish.speak {
            None => return Ok(None),
            Some(None) => player(&context.environment)?,
            Some(Some(path)) => Target::Named(named(path)?),
        };
        Ok(Some(Self { voice, to }))
    }

    /// Before the first answer is paid: whether anybody speaks, and has that voice, and a file that can
    /// be written. With what it cost to ask.
    pub(crate) async fn prepare(
        self,
        client: &Client,
        terms: &Terms,
    ) -> Result<(Speaker, Spent), Failure> {
        let is_offered = client.pools().await?.iter().any(|pool| pool.intent == "speak");
        let spent = if self.voice.is_some() || !is_offered {
            find_voice(self.voice.as_deref(), client, terms).await?
        } else {
            Spent::default()
        };
        let to = match self.to {
            Target::Player(program, arguments) => To::Player(program, arguments),
            Target::Named(path) => To::File(Arc::new(Mutex::new(Wav::create(&path)?))),
        };
        Ok((Speaker { voice: self.voice, to }, spent))
    }
}

impl Speaker {
    /// Begins to read one answer.
    pub(crate) fn read(&self, client: &Client, terms: &Terms) -> Result<Reading, Failure> {
        let (text, said) = watch::channel(Told::default());
        let (pieces, mut sink) = match &self.to {
            To::Player(program, arguments) => play(program, arguments)?,
            To::File(file) => write(Arc::clone(file)),
        };
        let spent = Arc::new(Mutex::new(Spent::default()));
        let reader = Reader {
            client: client.clone(),
            voice: self.voice.clone(),
            pieces,
            spent: Arc::clone(&spent),
            terms: terms.clone(),
        };
        let said = tokio::spawn(async move {
            reader.read(said).await?;
            sink.finish().await
        });
        Ok(Reading { text: Some(text), said, spent, client: client.clone() })
    }
}

fn player(environment: &Environment) -> Result<Target, Failure> {
    let found = PLAYERS.iter().find(|(program, _)| environment.can_run(program.as_ref()));
    found.map(|(program, arguments)| Target::Player(program, arguments)).ok_or_else(|| {
        let names: Vec<_> = PLAYERS.iter().map(|(program, _)| *program).collect();
        Failure::failed(format!("--speak: no player is here: none of {}", names.join(", ")))
            .with_remedy("install one (apt-get install alsa-utils), or give --speak=FILE.wav")
    })
}

/// A file that says what it is: WAV is all that is written.
fn named(path: &Path) -> Result<PathBuf, Failure> {
    let refused = |why: String| {
        let shown = path.display();
        Failure::usage(format!("--speak={shown}: {why}"))
            .with_remedy("name a file that ends in .wav, such as --speak=answer.wav")
    };
    if path.as_os_str() == input::STDIN {
        return Err(refused("standard output has the answer's text".to_owned()));
    }
    match path.extension() {
        Some(end) if !end.eq_ignore_ascii_case("wav") => {
            let end = end.display();
            Err(refused(format!("what is written is WAV, and .{end} says something else")))
        }
        Some(_) | None => Ok(path.to_owned()),
    }
}

/// Asks who speaks here, in words that cannot be said. Only a refusal of the voice counts, or that
/// nobody speaks: anything else is told where there is a text to say. Whoever begins to say it has the voice, and is stopped.
async fn find_voice(voice: Option<&str>, client: &Client, terms: &Terms) -> Result<Spent, Failure> {
    let mut data = json!({"input": UNSPOKEN, "response_format": "pcm", "stream": true});
    if let Some(voice) = voice {
        data["voice"] = voice.into();
    }
    let data = serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))?;
    let mut intent = Intent::new("speak", data);
    intent.deadline_ms = Some(VOICE_PATIENCE_MS);
    terms.apply_to_reading(&mut intent, terms.ceiling);
    let mut stream = client.submit_streaming(&intent)?;
    let mut spent = Spent::default();
    let refused = loop {
        let Event { kind, .. } = match stream.next().await {
            Ok(Some(event)) => event,
            Ok(None) => break None,
            Err(error) => break Some(error.into()),
        };
        spent.hear(stream.intent(), &kind);
        if matches!(kind, EventKind::Chunk(_)) {
            drop(stream);
            spent.settle(client).await;
            break None;
        }
        if kind.is_end() {
            break failure_of(kind);
        }
    };
    let Some(failure) = refused else { return Ok(spent) };
    if failure.is_code(Code::NoWorker) {
        return Err(failure.about("--speak").with_remedy(
            "where the realm runs, `mtor up` says what keeps the voice away; the question was not asked, and nothing is paid",
        ));
    }
    if failure.is_code(Code::NotProven) {
        return Err(failure.about("--speak").with_remedy(
            "--trust any lets anybody's worker read it aloud; the question was not asked, and nothing is paid",
        ));
    }
    match voice {
        Some(voice) if is_of_voice(&failure, voice) => {
            Err(failure.about(format_args!("--voice {voice}")).with_remedy(
                "name one that is there; the question was not asked, and nothing is paid",
            ))
        }
        Some(_) | None => Ok(spent),
    }
}

/// It refuses the voice, not the text: the realm's own workers name the field first, another server
/// the voice that it does not have.
fn is_of_voice(failure: &Failure, voice: &str) -> bool {
    let message = failure.message();
    let field = message.strip_prefix("field `").unwrap_or(message);
    let field = field.strip_prefix('/').unwrap_or(field);
    let end = field.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    (failure.is_code(Code::Unsupported) || failure.is_code(Code::InvalidField))
        && (field.get(..end.unwrap_or(field.len())) == Some("voice") || names(message, voice))
}

/// As a word of its own.
fn names(message: &str, name: &str) -> bool {
    message.match_indices(name).any(|(at, _)| {
        let before = message.get(..at).and_then(|before| before.chars().next_back());
        let after = message.get(at + name.len()..).and_then(|after| after.chars().next());
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

/// An answer as far as it has come.
#[derive(Default)]
pub(crate) struct Told {
    /// How often it began anew.
    generation: u32,
    text: String,
    /// What it cost, once it is over.
    cost: Option<Amount>,
}

impl Told {
    /// Takes over what is new; true if something is.
    pub(crate) fn follow(&mut self, generation: u32, text: &str, cost: Option<Amount>) -> bool {
        let is_anew = self.generation != generation;
        if is_anew {
            *self = Self { generation, ..Self::default() };
        }
        let more = text.get(self.text.len()..).unwrap_or_default();
        self.text.push_str(more);
        let ends = self.cost.is_none() && cost.is_some();
        self.cost = self.cost.or(cost);
        is_anew || ends || !more.is_empty()
    }
}

/// How far an answer was read.
#[derive(Default)]
struct Read {
    generation: u32,
    at: usize,
}

impl Read {
    /// What is to be said next. An answer that begins anew is read anew.
    fn next<'a>(&mut self, told: &'a Told, over: bool) -> Option<&'a str> {
        if self.generation != told.generation {
            *self = Self { generation: told.generation, at: 0 };
        }
        let part = told.text.get(self.at..).and_then(|rest| next_part(rest, over))?;
        self.at += part.len();
        Some(part)
    }
}

/// One answer that is being read.
pub(crate) struct Reading {
    text: Option<watch::Sender<Told>>,
    /// With its player, which ends with it.
    said: JoinHandle<Result<(), Failure>>,
    /// With what the realm is speaking now.
    spent: Arc<Mutex<Spent>>,
    client: Client,
}

impl Reading {
    /// Where its text is told as it grows.
    pub(crate) fn listener(&mut self) -> Option<watch::Sender<Told>> {
        self.text.take()
    }

    /// Waits until all is said; what it cost, also where it failed. Not to be asked again once it
    /// has told.
    pub(crate) async fn finish(&mut self) -> (Spent, Result<(), Failure>) {
        let done = (&mut self.said).await.map_err(|error| Failure::caused(&error));
        let spent = locked(&self.spent).clone();
        (spent, done.and_then(|said| said))
    }

    /// Falls silent at once, and asks the realm to say no more; what it cost.
    pub(crate) async fn stop(self) -> Spent {
        self.said.abort();
        let mut spent = locked(&self.spent).clone();
        spent.settle(&self.client).await;
        spent
    }
}

/// Who asks the realm to say the parts, one after the other.
struct Reader {
    client: Client,
    voice: Option<String>,
    pieces: mpsc::Sender<Vec<u8>>,
    spent: Arc<Mutex<Spent>>,
    /// Those of the answer.
    terms: Terms,
}

#[derive(Deserialize)]
struct Piece {
    audio: String,
}

impl Reader {
    /// Ends early where nobody plays any more, which says why when it is asked.
    async fn read(self, mut text: watch::Receiver<Told>) -> Result<(), Failure> {
        let mut read = Read::default();
        while !self.pieces.is_closed() {
            // Looked at before the text: what was said last is seen after it.
            let over = text.has_changed().is_err();
            let (part, left) = {
                let told = text.borrow_and_update();
                let left = self.left(told.cost);
                // While the answer comes it may yet use up all of the ceiling.
                let is_known = self.terms.ceiling.is_none() || left.is_some();
                let part = if is_known { read.next(&told, over) } else { None };
                (part.map(str::to_owned), left)
            };
            match part {
                Some(part) if part.chars().any(char::is_alphanumeric) => {
                    self.say(&part, left).await?;
                }
                Some(_nothing) => {}
                None if over => break,
                None => tokio::select! {
                    // An error is the end: the rest is taken in the next round.
                    _ = text.changed() => {}
                    () = self.pieces.closed() => {}
                },
            }
        }
        Ok(())
    }

    /// Of the ceiling, once it is known what the answer cost.
    fn left(&self, answer: Option<Amount>) -> Option<Amount> {
        let spent = answer?.checked_add(locked(&self.spent).cost)?;
        Some(self.terms.ceiling?.checked_sub(spent).unwrap_or(Amount::ZERO))
    }

    async fn say(&self, part: &str, left: Option<Amount>) -> Result<(), Failure> {
        let mut data = json!({"input": part, "response_format": "pcm", "stream": true});
        if let Some(voice) = &self.voice {
            data["voice"] = voice.as_str().into();
        }
        let data =
            serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))?;
        let mut intent = Intent::new("speak", data);
        self.terms.apply_to_reading(&mut intent, left);
        let mut stream = self.client.submit_streaming(&intent)?;
        let mut come = false;
        // When the bill of what was given up is waited for no more.
        let mut given_up = None;
        loop {
            let known = stream.intent();
            let next = tokio::select! {
                next = stream.next() => next?,
                // A player that has ended, a full disk: what nobody hears is not paid.
                () = self.pieces.closed(), if known.is_some() && given_up.is_none() => {
                    let deadline = Instant::now() + BILL_PATIENCE;
                    given_up = Some(deadline);
                    if let Some(intent) = known {
                        // Over already is fine.
                        let _ = timeout_at(deadline, self.client.cancel(intent)).await;
                    }
                    continue;
                }
                () = over(given_up) => return Ok(()),
            };
            let Some(event) = next else { return Ok(()) };
            locked(&self.spent).hear(stream.intent(), &event.kind);
            match event.kind {
                EventKind::Chunk(chunk) => {
                    come = true;
                    self.play(chunk.piece.get()).await?;
                }
                EventKind::Completed(done) => {
                    if let Some(whole) = done.result.as_deref().filter(|_| !come) {
                        self.play(whole.get()).await?;
                    }
                    return Ok(());
                }
                EventKind::Accepted(_)
                | EventKind::Queued(_)
                | EventKind::Started(_)
                | EventKind::Settled => {}
                // What was played cannot be taken back.
                EventKind::Restarted(_) if come => {
                    return Err(Failure::failed("the worker that spoke was lost"));
                }
                EventKind::Restarted(_) => {}
                // It says itself why nobody hears it.
                EventKind::Cancelled(_) if given_up.is_some() => return Ok(()),
                end @ (EventKind::Failed(_) | EventKind::Cancelled(_) | EventKind::Expired(_)) => {
                    return failure_of(end).map_or(Ok(()), Err);
                }
            }
        }
    }

    async fn play(&self, piece: &str) -> Result<(), Failure> {
        let wrong = || Failure::failed("the realm speaks in a form that is not understood here");
        let piece: Piece = serde_json::from_str(piece).map_err(|_no_sound| wrong())?;
        let bytes = STANDARD.decode(piece.audio).map_err(|_no_base64| wrong())?;
        // Who plays no more says why when it is asked.
        let _ = self.pieces.send(bytes).await;
        Ok(())
    }
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The beginning of a text that can be said now: up to the end of its last whole sentence, or all
/// of it if it is `over`. A block of code is said as a whole.
fn next_part(text: &str, over: bool) -> Option<&str> {
    if text.is_empty() {
        return None;
    }
    let limit = text.char_indices().nth(PART_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let (head, is_all) = (text.get(..limit)?, limit == text.len());
    if is_all && over {
        return Some(head);
    }
    let mut end = None;
    let mut in_code = false;
    let mut at = 0;
    for line in head.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        if !in_code && !is_fence {
            end = sentence_end(line).map(|found| at + found).or(end);
        }
        at += line.len();
        in_code ^= is_fence;
        if line.ends_with('\n') && !in_code {
            end = Some(at);
        }
    }
    // A sentence, or a block, that is longer than a part is cut at a word.
    let cut = || head.rfind(char::is_whitespace).filter(|at| *at > 0).unwrap_or(head.len());
    end.or_else(|| (!is_all).then(cut)).and_then(|end| head.get(..end))
}

/// Behind the last mark of a line that ends a sentence and has a blank behind it.
fn sentence_end(line: &str) -> Option<usize> {
    let marks = line.char_indices().zip(line.chars().skip(1));
    let ends = marks.filter(|((_, mark), next)| ".!?:;".contains(*mark) && *next == ' ');
    ends.map(|((at, mark), _)| at + mark.len_utf8()).last()
}

/// Who takes the sound; ends, with its player, where it is dropped.
struct Sink(JoinSet<Result<(), Failure>>);

impl Sink {
    async fn finish(&mut self) -> Result<(), Failure> {
        match self.0.join_next().await {
            Some(ended) => ended.map_err(|error| Failure::caused(&error))?,
            None => Ok(()),
        }
    }
}

type Pieces = mpsc::Sender<Vec<u8>>;

fn play(program: &str, arguments: &[&str]) -> Result<(Pieces, Sink), Failure> {
    let mut command = Command::from(Purpose::Sound.command(program));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    // Ctrl-C is for this program: it ends the player itself.
    command.process_group(0);
    let cannot = |error| Failure::failed(format!("--speak: {program} cannot start: {error}"));
    let child = command.spawn().map_err(cannot)?;
    let (pieces, come) = mpsc::channel(PIECES_MAX);
    let mut sink = JoinSet::new();
    sink.spawn(feed(child, come));
    Ok((pieces, Sink(sink)))
}

/// Until all is played, or the player ends by itself.
async fn feed(mut child: Child, mut come: mpsc::Receiver<Vec<u8>>) -> Result<(), Failure> {
    let stdin = child.stdin.take();
    let feeding = async move {
        let mut stdin = stdin?;
        while let Some(piece) = come.recv().await {
            stdin.write_all(&piece).await.ok()?;
        }
        // Its end is the player's.
        stdin.shutdown().await.ok()
    };
    let (status, is_whole) = tokio::select! {
        status = child.wait() => (status, false),
        all = feeding => (child.wait().await, all.is_some()),
    };
    let status = status.map_err(|error| Failure::caused(&error))?;
    if status.success() && is_whole {
        return Ok(());
    }
    let early = if is_whole { "" } else { " before all was read" };
    Err(Failure::failed(format!("the player ended with {status}{early}"))
        .with_remedy("give --speak=FILE.wav to write the sound to a file"))
}

fn write(file: Arc<Mutex<Wav>>) -> (Pieces, Sink) {
    let (pieces, mut come) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    let mut sink = JoinSet::new();
    sink.spawn(async move {
        while let Some(piece) = come.recv().await {
            file.lock().unwrap_or_else(PoisonError::into_inner).add(&piece)?;
        }
        Ok(())
    });
    (pieces, Sink(sink))
}

/// A WAV file that is whole after each piece.
struct Wav {
    path: PathBuf,
    file: File,
    data: u32,
}

impl Wav {
    fn create(path: &Path) -> Result<Self, Failure> {
        let cannot = |error| {
            Failure::usage(format!("--speak={}: {error}", path.display()))
                .with_remedy("name a file that can be written")
        };
        let opened = File::options().write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(cannot)?;
        let is_new = file.metadata().map_err(cannot)?.len() == 0;
        let mut wav = Self { path: path.to_owned(), file, data: 0 };
        if is_new {
            wav.add(&[])?;
        }
        Ok(wav)
    }

    fn add(&mut self, samples: &[u8]) -> Result<(), Failure> {
        let more = u32::try_from(samples.len()).ok().and_then(|more| self.data.checked_add(more));
        let data = more.filter(|data| *data <= wav::DATA_BYTES_MAX).ok_or_else(|| {
            Failure::failed(format!("{} is full: a WAV file ends at 4 GB", self.path.display()))
        })?;
        self.put(samples, data).map_err(|error| {
            Failure::failed(format!("{} cannot be written: {error}", self.path.display()))
        })?;
        self.data = data;
        Ok(())
    }

    /// The samples first: a file that breaks off has a head that is too short, never too long.
    fn put(&mut self, samples: &[u8], data: u32) -> std::io::Result<()> {
        // What was there before stays until the first sound: the question may be refused.
        if self.data == 0 && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.seek(SeekFrom::Start(wav::HEAD_BYTES as u64 + u64::from(self.data)))?;
        self.file.write_all(samples)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&wav::head(RATE, Some(data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, over: bool) -> Vec<&str> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(part) = next_part(&text[at..], over) {
            parts.push(part);
            at += part.len();
        }
        parts
    }

    #[test]
    fn a_refusal_of_the_text_is_none_of_the_voice() {
        let is = |message: &str, code: Code| {
            is_of_voice(&Failure::failed(message).with_code(code.text()), "tex")
        };
        for said in ["voice must be one of a, b", "field `/voice`: no", "there is no Voice 'tex'"] {
            assert!(is(said, Code::Unsupported) && is(said, Code::InvalidField), "{said}");
            assert!(!is(said, Code::WorkerFailed), "{said}");
        }
        for said in ["no voice can say this text", "voices are many", "input is empty", ""] {
            assert!(!is(said, Code::Unsupported), "{said}");
        }
    }

    #[test]
    fn of_several_costs_that_are_not_known_none_is_forgotten() {
        let intents = [IntentId([1; 16]), IntentId([2; 16])];
        let mut spent = Spent::default();
        for intent in intents {
            let mut reading = Spent::default();
            reading.begins(Some(intent));
            reading.begins(Some(intent));
            spent.join(reading);
        }
        assert_eq!(spent.open, intents);
        spent.ends(Some(intents[0]), Amount::ZERO);
        let told = spent.to_string();
        assert!(told.contains(&intents[1].to_string()), "{told}");
        assert!(!told.contains(&intents[0].to_string()), "{told}");
    }

    #[test]
    fn whole_sentences_are_said_as_soon_as_they_are_there() {
        assert_eq!(parts("It costs 3.5 to", false), [""; 0]);
        assert_eq!(parts("One. Two! Thr", false), ["One. Two!"]);
        assert_eq!(parts("One. Two! Thr", true), ["One. Two! Thr"]);
        assert_eq!(parts("- a list\n- goes", false), ["- a list\n"]);
        assert_eq!(parts("", true), [""; 0]);
    }

    #[test]
    fn a_block_of_code_is_one_part() {
        let text = "See:\n```rust\nlet a = 1; a. b\n";
        assert_eq!(parts(text, false), ["See:\n"]);
        let text = "See:\n```rust\nlet a = 1; a. b\n```\nDone";
        assert_eq!(parts(text, false), ["See:\n```rust\nlet a = 1; a. b\n```\n"]);
    }

    #[test]
    fn what_never_ends_is_cut_at_a_word_and_nothing_is_lost() {
        let text = "ünd ".repeat(2_000);
        let all = parts(&text, true);
        assert_eq!(all.concat(), text);
        assert!(all.iter().all(|part| part.chars().count() <= PART_CHARS_MAX), "{}", all.len());
        let text = "x".repeat(5_000);
        assert_eq!(parts(&text, true).concat(), text);
    }

    #[test]
    fn an_answer_that_begins_anew_is_read_from_its_beginning() {
        let (mut told, mut read) = (Told::default(), Read::default());
        assert!(told.follow(0, "One. Two. Thr", None) && !told.follow(0, "One. Two. Thr", None));
        assert_eq!(read.next(&told, false), Some("One. Two."));
        // Longer than the first one was, and no boundary of a character where that one stood.
        assert!(told.follow(1, "Another ü is here. And", None));
        assert!(told.follow(1, "Another ü is here. And more.", None));
        assert_eq!(read.next(&told, false), Some("Another ü is here."));
        assert!(told.follow(1, "Another ü is here. And more.", Some(Amount::ZERO)));
        assert_eq!((read.next(&told, true), read.next(&told, true)), (Some(" And more."), None));
    }

    #[test]
    fn a_wav_file_is_whole_after_each_piece() {
        let path = std::env::temp_dir().join(format!("mtor-wav-{}", std::process::id()));
        let before = vec![7; 1_000];
        std::fs::write(&path, &before).unwrap();
        let mut wav = Wav::create(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before, "nothing has come");
        for samples in [&[1_u8, 2, 3, 4][..], &[5, 6]] {
            wav.add(samples).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(length(4) as usize, bytes.len() - 8);
            assert_eq!(length(40) as usize, bytes.len() - 44);
            assert!(bytes.ends_with(samples));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Wav::create(Path::new("/nowhere/x.wav")).is_err());
    }

    #[test]
    fn a_file_is_named_as_what_is_written_into_it() {
        for good in ["said.wav", "a.b/said.WAV", "said", "a.mp3/said"] {
            assert!(named(Path::new(good)).is_ok(), "{good}");
        }
        for wrong in ["-", "said.mp3", "said.wav.ogg", "said."] {
            let failure = named(Path::new(wrong)).unwrap_err();
            assert!(failure.has_remedy() && failure.message().contains(wrong), "{failure:?}");
        }
    }
}
