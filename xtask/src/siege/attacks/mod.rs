//! What hostile networks do, one file each. An attack says when its hands stand, goes on until the
//! signal ends, and leaves as a crowd does: it closes what it holds and cleans nothing up.

mod bodies;
mod enrolments;
mod files;
mod grants;
mod keys;
mod payloads;
mod pool;
mod results;
mod slots;
mod sockets;
mod tokens;
mod workers;

use std::io;

use super::Error;
use super::field::{Field, Visitor};
use super::net::{Door, Line, Reply, Request, Socket};
use super::tally::{Hand, Signal, Tally, crew, name};
use super::victim::{Also, Wish};
use super::worker;

pub(super) struct Attack {
    pub name: &'static str,
    /// What the victim asks for meanwhile, and what else it must be able to do.
    pub wish: Wish,
    pub also: Option<Also>,
    /// It leaves workers behind, which a realm keeps for days by design: the sysop removes them before
    /// it is asked what is held.
    pub keeps_workers: bool,
    pub run: fn(&Field, &Signal) -> Tally,
}

pub(super) const ALL: [Attack; 12] = [
    workers::ATTACK,
    payloads::ATTACK,
    bodies::ATTACK,
    slots::ATTACK,
    pool::ATTACK,
    tokens::ATTACK,
    enrolments::ATTACK,
    grants::ATTACK,
    sockets::ATTACK,
    results::ATTACK,
    files::ATTACK,
    keys::ATTACK,
];

/// Those of these names, or all.
pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Attack>, Error> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let found = |name: &String| {
        let found = ALL.iter().find(|attack| attack.name == *name);
        found.ok_or_else(|| format!("no attack is called {name}").into())
    };
    names.iter().map(found).collect()
}

/// A hand's own guest, of so many. Where none is to be had that is counted, and the hand stands all the
/// same.
fn guest(hand: &Hand<'_>, number: u32, tally: &mut Tally) -> Option<Visitor> {
    let opened = hand.field.guest(hand.network, hand.number, number);
    opened.map_err(|error| tally.refuse(format!("guest: {}", name(&error)))).ok()
}

/// The same work again and again, `batch` pieces a request, on one connection as long as it lasts.
struct Flood<'a> {
    visitor: &'a Visitor,
    line: Option<Line>,
}

impl<'a> Flood<'a> {
    fn new(visitor: &'a Visitor) -> Self {
        Self { visitor, line: None }
    }

    fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Reply> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.visitor.door.connect()?,
        };
        let reply = line.ask(&Request::post(path, &self.visitor.key, body))?;
        self.line = Some(line);
        Ok(reply)
    }
}

/// A batch of so many equal items.
fn batch(items: usize, item: impl Fn(usize) -> String) -> String {
    let items: Vec<String> = (0..items).map(item).collect();
    format!("[{}]", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_choose() {
        let mut names: Vec<_> = ALL.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        let two = chosen(&["slots".to_owned(), "bodies".to_owned()]).unwrap();
        assert_eq!(two.iter().map(|attack| attack.name).collect::<Vec<_>>(), ["slots", "bodies"]);
        assert!(chosen(&["nothing".to_owned()]).is_err());
    }
}
