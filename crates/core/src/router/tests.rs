//! What the simulator found, each as small as it gets.

use mtor_types::intent::{EndRequest, Reason, Why};
use mtor_types::rejection::Code;

use super::*;

/// After a restart of the router (and of the edge, whose record of the intent was not synced) only
/// the accountant knows of the hold: the end must reach it, or the money is held until its expiry.
#[test]
fn the_end_of_an_unknown_intent_goes_on_to_the_accountant() {
    let cases = [
        (Why::PayloadGone, Some(Outcome::Failed(Code::RealmRestarted))),
        (Why::Cancelled, Some(Outcome::Cancelled)),
        (Why::Expired, Some(Outcome::Expired)),
        (Why::Completed(Reason::Done), None),
        (Why::WorkerFailed { code: Code::WorkerFailed, retry: true }, None),
    ];
    for (why, expected) in cases {
        let (mut router, mut turn) = (Router::new(), Turn::default());
        let (intent, usage) = (IntentId([1; 16]), Usage { units: 5, ..Usage::default() });
        let request = EndRequest { intent, attempt: None, why, usage, delivered: true };
        router.receive(&mut turn, Message::End(request));
        let sent = turn.messages.pop_front().map(|envelope| envelope.message);
        let resolution = expected.map(|outcome| {
            let (usage, served, rejection) = (Usage::default(), None, None);
            Message::Resolve(Resolution { intent, outcome, usage, served, rejection })
        });
        assert_eq!(sent, resolution, "{why:?}: and nobody is paid for it");
    }
}
