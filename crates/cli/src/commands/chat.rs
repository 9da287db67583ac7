//! `mtor chat`: several turns with a model on a terminal, or one question in a pipe.
//!
//! The conversation is kept here and sent whole with each question: a realm keeps none. What was
//! cancelled or failed is no part of it.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use mtor_client::{Client, EventKind, Intent};
use mtor_types::Amount;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::follow::{Ended, Shown, cost_of, failure_of, follow};
use super::realm::{RealmArgument, explain};
use super::speech::{Reading, SpeakArguments, Speaker, Spent, Wish};
use super::work::{Terms, choose_model};
use super::{Context, Signals, block_on, input};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// One question, which is answered, and that is all; - for standard input. Without it there is
    /// a conversation on a terminal, and standard input is the question in a pipe
    #[arg(value_name = "QUESTION", value_parser = input::said)]
    question: Vec<String>,
    /// What the model is told before everything else; - for standard input
    #[arg(long, value_name = "TEXT", value_parser = input::said)]
    system: Option<String>,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// How freely it chooses its words, 0 to 2
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f64>,
    #[command(flatten)]
    speak: SpeakArguments,
    #[command(flatten)]
    realm: RealmArgument,
    #[command(flatten)]
    terms: Terms,
}

fn temperature(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=2.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 2, such as 0.7".into())
}

/// What is said of a conversation where its model's context is not known; the oldest turns beyond it
/// are left out.
const CONVERSATION_BYTES_MAX: usize = 256 * 1024;
/// A careful guess, because only the model knows: ordinary words have four bytes a token, code about
/// three, and letters of three bytes about one token each.
const BYTES_PER_TOKEN: usize = 3;
/// What a model's template puts around each message.
const MESSAGE_TOKENS: usize = 8;
/// One question.
const QUESTION_BYTES_MAX: usize = 128 * 1024;
/// Lines that were typed ahead of the answer.
const LINES_MAX: usize = 64;

const HELP: &str = "/exit ends, /new begins another conversation; a line that ends with \\ goes \
                    on; Ctrl-C stops an answer";

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let system = arguments.system.as_deref().map(|text| input::text(text, "--system"));
    let system = system.transpose()?;
    let question = match arguments.question.as_slice() {
        [] if std::io::stdin().is_terminal() => None,
        [] => Some(input::text(input::STDIN, "the question")?),
        [one] => Some(input::text(one, "QUESTION")?),
        words => Some(words.join(" ")),
    };
    let wish = Wish::of(&arguments.speak, context)?;
    block_on(Box::pin(async {
        let client = arguments.realm.ensured(context).await?;
        let model = choose_model(&arguments.terms, "chat", &client).await?;
        let room = room(context_of(&model, &client).await?, arguments.max_tokens);
        let mut signals = context.interrupts.take()?;
        let (mut speaker, mut spoken) = (None, Spent::default());
        if let Some(wish) = wish {
            let (ready, spent) = tokio::select! {
                ready = wish.prepare(&client, &arguments.terms) => ready?,
                () = signals.next() => return Err(Failure::interrupted("interrupted")),
            };
            (speaker, spoken) = (Some(ready), spent);
        }
        let mut chat = Chat {
            client,
            model,
            arguments,
            turns: Vec::new(),
            system,
            room,
            told_long: false,
            speaker,
            reading: None,
            spoken,
            signals,
            context,
        };
        match question {
            Some(question) => {
                let answered = chat.ask(question).await.and_then(|ended| ended.result(context.out));
                chat.read_out(answered).await
            }
            None => chat.talk().await,
        }
    }))
    .map_err(|failure| explain(failure, context))
}

struct Chat<'a> {
    client: Client,
    model: String,
    arguments: Arguments,
    system: Option<String>,
    /// Bytes that the model can read at once.
    room: usize,
    /// That turns were left out is said once for each conversation.
    told_long: bool,
    /// Questions and their answers.
    turns: Vec<(String, String)>,
    speaker: Option<Speaker>,
    /// The last answer, as long as it is being read.
    reading: Option<Reading>,
    /// What all readings that are over cost, and asking for the voice.
    spoken: Spent,
    signals: Signals,
    context: &'a Context,
}

impl Chat<'_> {
    async fn talk(&mut self) -> Result<(), Failure> {
        let mut spent = Amount::ZERO;
        let done = self.talk_on(&mut spent).await;
        self.fall_silent().await;
        self.tell_spoken();
        self.spoken.add(spent);
        self.context.out.note(format_args!("all in all {}", self.spoken));
        done
    }

    async fn talk_on(&mut self, spent: &mut Amount) -> Result<(), Failure> {
        let out = self.context.out;
        out.note(format_args!("{} at {}. {HELP}", self.model, self.client.address()));
        let mut lines = typed();
        loop {
            prompt(out.is_json());
            let Some(question) = self.next_question(&mut lines).await? else { break };
            match question.trim() {
                "" => {}
                "/exit" | "/quit" => break,
                "/help" => out.note(HELP),
                "/new" => {
                    self.turns.clear();
                    self.told_long = false;
                    out.note("a new conversation");
                }
                command if command.starts_with('/') => {
                    out.note(format_args!("there is no command {command}. {HELP}"));
                }
                _ if question.len() > QUESTION_BYTES_MAX => {
                    out.note(format_args!("too long: at most {QUESTION_BYTES_MAX} bytes"));
                }
                _ => {
                    let cost = self.turn(question).await?;
                    *spent = spent.checked_add(cost).unwrap_or(*spent);
                }
            }
        }
        Ok(())
    }

    /// What is typed next; reading the last answer goes on until then, or until Ctrl-C. `None` at the
    /// end of all lines.
    async fn next_question(
        &mut self,
        lines: &mut mpsc::Receiver<String>,
    ) -> Result<Option<String>, Failure> {
        let mut next = Box::pin(question(lines));
        let mut over = None;
        loop {
            let is_reading = self.reading.is_some();
            tokio::select! {
                question = &mut next, if over.is_none() => {
                    // Who types on has heard enough; a pipe's end is no word.
                    if question.is_some() {
                        self.fall_silent().await;
                    }
                    over = Some(question);
                }
                (spent, done) = finished(&mut self.reading) => {
                    if let Err(failure) = done {
                        self.context.out.failure(&explain(failure, self.context));
                        self.context.out.note(format_args!("read aloud for {spent} until then"));
                    }
                    self.spoken.join(spent);
                }
                () = self.signals.next() => {
                    if !is_reading {
                        return Err(Failure::interrupted("interrupted"));
                    }
                    self.fall_silent().await;
                }
            }
            if let Some(question) = over.take_if(|_| self.reading.is_none()) {
                return Ok(question);
            }
        }
    }

    /// One question of a conversation: what goes wrong is said, and the conversation goes on. What
    /// it cost is given back.
    async fn turn(&mut self, question: String) -> Result<Amount, Failure> {
        let out = self.context.out;
        let ended = match self.ask(question).await {
            Ok(ended) => ended,
            Err(failure) if failure.is_interrupt() => return Err(failure),
            Err(failure) => {
                out.failure(&explain(failure, self.context));
                return Ok(Amount::ZERO);
            }
        };
        let Some(end) = ended.end else { return Ok(Amount::ZERO) };
        let cost = cost_of(&end).unwrap_or(Amount::ZERO);
        if ended.interrupted {
            out.note("stopped; the question is no part of the conversation");
        } else if let Some(failure) = failure_of(end) {
            out.failure(&failure);
        }
        Ok(cost)
    }

    async fn ask(&mut self, question: String) -> Result<Ended, Failure> {
        self.forget_oldest(&question);
        let mut intent = Intent::new("chat", self.data(&question)?);
        self.arguments.terms.apply(&mut intent);
        let stream = self.client.submit_streaming(&intent)?;
        let read = |speaker: &Speaker| speaker.read(&self.client, &self.arguments.terms);
        self.reading = self.speaker.as_ref().map(read).transpose()?;
        let listener = self.reading.as_mut().and_then(Reading::listener);
        let mut shown = Shown::new(self.context.out, true, false).told_to(listener);
        let ended = follow(&self.client, stream, &mut shown, &mut self.signals).await?;
        if ended.interrupted {
            self.fall_silent().await;
        }
        if matches!(ended.end, Some(EventKind::Completed(_))) {
            self.turns.push((question, std::mem::take(&mut shown.answer)));
        }
        Ok(ended)
    }

    /// Waits until an answer that came was read, and says what that cost; Ctrl-C silences it.
    async fn read_out(&mut self, answered: Result<(), Failure>) -> Result<(), Failure> {
        let is_asked = answered.is_ok();
        let is_read = self.reading.is_some() || self.spoken != Spent::default();
        let done = match answered {
            Err(failure) => Err(failure),
            Ok(()) => tokio::select! {
                (spent, done) = finished(&mut self.reading), if self.reading.is_some() => {
                    self.spoken.join(spent);
                    done
                }
                () = self.signals.next(), if self.reading.is_some() => {
                    Err(Failure::interrupted("interrupted: the answer is read no further"))
                }
                else => Ok(()),
            },
        };
        self.fall_silent().await;
        // What was refused before anything was read has cost nothing.
        if is_read && (is_asked || self.spoken != Spent::default()) {
            let until = if done.is_ok() { "" } else { " until then" };
            self.context.out.note(format_args!("read aloud for {}{until}", self.spoken));
            self.tell_spoken();
        }
        done
    }

    /// For programs: what reading cost.
    fn tell_spoken(&self) {
        if self.speaker.is_some() {
            self.context.out.event("read_aloud", self.spoken.to_json());
        }
    }

    async fn fall_silent(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.spoken.join(reading.stop().await);
        }
    }

    fn data(&self, question: &str) -> Result<Box<serde_json::value::RawValue>, Failure> {
        let said = |role: &str, content: &str| json!({"role": role, "content": content});
        let mut messages: Vec<Value> =
            self.system.iter().map(|system| said("system", system)).collect();
        for (question, answer) in &self.turns {
            messages.extend([said("user", question), said("assistant", answer)]);
        }
        messages.push(said("user", question));
        let mut data = json!({"model": self.model, "messages": messages, "stream": true});
        if let Some(tokens) = self.arguments.max_tokens {
            data["max_tokens"] = tokens.into();
        }
        if let Some(temperature) = self.arguments.temperature {
            data["temperature"] = temperature.into();
        }
        serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))
    }

    /// What does not fit would be refused by the model, with this turn and every one after it.
    fn forget_oldest(&mut self, question: &str) {
        let system = self.system.as_deref().map_or(0, weight);
        let more = weight(question) + system;
        if keep_newest(&mut self.turns, self.room.saturating_sub(more)) && !self.told_long {
            self.told_long = true;
            self.context.out.note(
                "the conversation is longer than the model can read: from here on its oldest turns are left out",
            );
        }
    }
}

/// What it cost to read the answer, once it is read; never without one.
async fn finished(reading: &mut Option<Reading>) -> (Spent, Result<(), Failure>) {
    let Some(now) = reading else { return std::future::pending().await };
    let told = now.finish().await;
    *reading = None;
    told
}

/// What a message takes of the room, in bytes.
fn weight(message: &str) -> usize {
    message.len() + MESSAGE_TOKENS * BYTES_PER_TOKEN
}

/// True where turns were dropped.
fn keep_newest(turns: &mut Vec<(String, String)>, room: usize) -> bool {
    let mut left = room;
    let fits = |(question, answer): &&(String, String)| {
        let rest = left.checked_sub(weight(question) + weight(answer));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let kept = turns.iter().rev().take_while(fits).count();
    let dropped = turns.len() - kept;
    turns.drain(..dropped);
    dropped > 0
}

/// Bytes of a conversation that leave room for the answer, which gets at most half of the context. An
/// answer without a limit of its own gets a quarter.
fn room(context: Option<u32>, answer: Option<u32>) -> usize {
    let Some(context) = context else { return CONVERSATION_BYTES_MAX };
    let tokens = context - answer.unwrap_or(context / 4).min(context / 2);
    let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
    tokens.saturating_mul(BYTES_PER_TOKEN).min(CONVERSATION_BYTES_MAX)
}

/// The smallest of all who may answer, in tokens.
async fn context_of(model: &str, client: &Client) -> Result<Option<u32>, Failure> {
    let pools = client.pools().await?.into_iter();
    let of_model =
        pools.filter(|pool| pool.intent == "chat" && pool.model.as_deref() == Some(model));
    Ok(of_model.filter_map(|pool| pool.context).min())
}

/// Beside the output: who redirects the answers does not want it in them.
fn prompt(json: bool) {
    if !json {
        eprint!("> ");
    }
}

/// The lines of the terminal, read by a thread of its own: a signal is not kept waiting by it.
fn typed() -> mpsc::Receiver<String> {
    let (tx, rx) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
    });
    rx
}

/// One question; a line that ends with a backslash goes on in the next one. `None` at the end.
async fn question(lines: &mut mpsc::Receiver<String>) -> Option<String> {
    let mut question = String::new();
    while let Some(line) = lines.recv().await {
        match line.strip_suffix('\\') {
            Some(line) if question.len() <= QUESTION_BYTES_MAX => {
                question.push_str(line);
                question.push('\n');
            }
            _ => return Some(question + &line),
        }
    }
    (!question.is_empty()).then_some(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_ends_with_a_backslash_goes_on() {
        let (tx, mut rx) = mpsc::channel(LINES_MAX);
        for line in ["one", "two \\", "three", "four\\"] {
            tx.send(line.to_owned()).await.unwrap();
        }
        drop(tx);
        let mut questions = Vec::new();
        while let Some(question) = question(&mut rx).await {
            questions.push(question);
        }
        assert_eq!(questions, ["one", "two \nthree", "four\n"]);
    }

    #[test]
    fn what_a_model_cannot_read_is_left_out_the_oldest_first() {
        let turn = |name: &str| (name.repeat(1_000), name.repeat(1_000));
        let kept = |room: usize| {
            let mut turns = vec![turn("a"), turn("b"), turn("c")];
            let dropped = keep_newest(&mut turns, room);
            assert_eq!(dropped, turns.len() < 3);
            turns.iter().map(|(question, _)| &question[..1]).collect::<String>()
        };
        assert_eq!([kept(10_000), kept(5_000), kept(2_048), kept(2_047)], ["abc", "bc", "c", ""]);
        assert_eq!(room(None, Some(4_096)), CONVERSATION_BYTES_MAX);
        assert_eq!([room(Some(4_096), None), room(Some(4_096), Some(1_024))], [9_216; 2]);
        assert_eq!([room(Some(512), Some(1_024)), room(Some(0), None)], [768, 0]);
        assert_eq!(room(Some(u32::MAX), None), CONVERSATION_BYTES_MAX);
    }

    #[test]
    fn a_temperature_is_between_0_and_2() {
        assert_eq!(temperature("0.5"), Ok(0.5));
        for wrong in ["", "-1", "2.1", "NaN", "warm"] {
            assert!(temperature(wrong).is_err(), "{wrong}");
        }
    }
}
