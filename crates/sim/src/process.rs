//! A node's process: the node in memory, its disk, and what waits for either.

use std::collections::VecDeque;

use mtor_core::{Command, Effect, Node, NodeConfig, When};
use mtor_types::{Rejection, Time};

use crate::disk::Disk;
use crate::event::{Asker, Event};

/// What leaves a node once its batch is synced.
#[derive(Debug)]
pub(crate) enum Leaving {
    Effect(Effect),
    Answer { edge_boot: u64, asker: Asker, result: Result<(), Rejection> },
}

/// A command and who asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) asker: Asker,
    pub(crate) edge_boot: u64,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) config: NodeConfig,
    pub(crate) disk: Disk,
    /// Raised at every start and crash: what was planned for an earlier one is void.
    pub(crate) boot: u64,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    /// The start's facts are synced; until then nothing is handled.
    pub(crate) ready: Option<u64>,
    pub(crate) up: bool,
    pub(crate) inbox: VecDeque<Asked>,
    /// What it decided in the turn that is under way.
    pub(crate) decided: Vec<(When, Effect)>,
    /// By batch, in order.
    pub(crate) waiting: VecDeque<(u64, Leaving)>,
    pub(crate) turn_planned: bool,
    pub(crate) wake_planned: Option<u64>,
    /// A sync is under way.
    pub(crate) syncing: bool,
    /// This machine's clock stands so far ahead of virtual time.
    pub(crate) clock_ahead_ms: u64,
    pub(crate) slow_disk: bool,
    pub(crate) failing_until: u64,
    pub(crate) crash_after_sync: Option<u64>,
    /// It stands still since then; what would have happened to it waits, in order.
    pub(crate) paused: Option<u64>,
    pub(crate) held_up: VecDeque<Event>,
}

impl Process {
    pub(crate) fn new(config: NodeConfig, clock_ahead_ms: u64) -> Self {
        Self {
            config,
            disk: Disk::default(),
            boot: 0,
            node: None,
            ready: None,
            up: false,
            inbox: VecDeque::new(),
            decided: Vec::new(),
            waiting: VecDeque::new(),
            turn_planned: false,
            wake_planned: None,
            syncing: false,
            clock_ahead_ms,
            slow_disk: false,
            failing_until: 0,
            crash_after_sync: None,
            paused: None,
            held_up: VecDeque::new(),
        }
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, now: u64) -> Time {
        Time(now.saturating_add(self.clock_ahead_ms))
    }

    pub(crate) fn crash(&mut self) {
        self.boot = self.boot.saturating_add(1);
        self.node = None;
        self.ready = None;
        self.up = false;
        self.inbox.clear();
        self.decided.clear();
        self.waiting.clear();
        self.turn_planned = false;
        self.wake_planned = None;
        self.syncing = false;
        self.crash_after_sync = None;
        self.paused = None;
        self.disk.crash();
    }
}
