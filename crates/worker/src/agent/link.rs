//! The way to the realm: waiting to dial, dialling, or up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::connect::{Backoff, DialError, Dialer, Dialled};
use crate::limits;
use crate::session::{Event, Session};

type Dial = Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send>>;

pub(super) enum State {
    Waiting(Pin<Box<Sleep>>),
    Dialling(Dial),
    Up(Box<Session>),
}

pub(super) struct Link {
    pub(super) state: State,
    backoff: Backoff,
    up_since: Option<Instant>,
}

pub(super) enum LinkEvent {
    Dialled(Box<Dialled>),
    Failed(DialError),
    RetryNow,
    Session(Event),
}

impl Link {
    /// Dials after `pause`, or at [`Link::redial`].
    pub(super) fn wait(pause: Duration) -> Self {
        let state = State::Waiting(Box::pin(sleep(pause)));
        Self { state, backoff: Backoff::default(), up_since: None }
    }

    pub(super) fn redial(&mut self, dialer: Arc<Dialer>) {
        self.state = State::dialling(dialer);
    }

    pub(super) fn up(&mut self, session: Box<Session>) {
        self.up_since = Some(Instant::now());
        self.state = State::Up(session);
    }

    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Up(session) => Some(session),
            State::Waiting(_) | State::Dialling(_) => None,
        }
    }

    /// The session, or the try for one, is over: gives the pause before the next.
    pub(super) fn lose(&mut self) -> Duration {
        let reset = Duration::from_millis(limits::BACKOFF_RESET_MS);
        if self.up_since.take().is_some_and(|since| since.elapsed() > reset) {
            self.backoff = Backoff::default();
        }
        let pause = self.backoff.next();
        self.state = State::Waiting(Box::pin(sleep(pause)));
        pause
    }

    /// What happens next; a call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Waiting(pause) => {
                pause.as_mut().await;
                LinkEvent::RetryNow
            }
            State::Dialling(dial) => match dial.as_mut().await {
                Ok(dialled) => LinkEvent::Dialled(Box::new(dialled)),
                Err(error) => LinkEvent::Failed(error),
            },
            State::Up(session) => LinkEvent::Session(session.next().await),
        }
    }
}

impl State {
    fn dialling(dialer: Arc<Dialer>) -> Self {
        Self::Dialling(Box::pin(async move { dialer.dial().await }))
    }
}
