//! Networks that open guest accounts until the day's grants are gone.

use super::*;

pub(super) const ATTACK: Attack = Attack {
    name: "grants",
    wish: Wish::Small,
    also: Some(Also {
        name: "an account for somebody of a network that took none",
        once: newcomer,
    }),
    keeps_workers: false,
    run,
};

/// So many it takes, whatever the number of hostile networks is otherwise.
const NETWORKS: u32 = 100;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks.max(NETWORKS), 1, |hand| {
        let mut tally = Tally::default();
        let mut stands = false;
        while !hand.is_over() {
            let door = field.hostile(hand.network, hand.number);
            let request = Request {
                method: "POST",
                path: "/v1/accounts/guest",
                body: b"{}",
                ..Request::default()
            };
            let reply = door.ask(&request);
            let refused = !reply.as_ref().is_ok_and(Reply::is_good);
            tally.count(&reply);
            if refused && !stands {
                hand.stands();
                stands = true;
            }
            if refused {
                hand.pause(1_000);
            }
        }
        tally
    })
}

/// All that is expected of a realm whose grants are taken: an account all the same, with a grant, or
/// with nothing and a time at which to come again.
fn newcomer(field: &Field, _: &Visitor, _: u32) -> Result<(), String> {
    let request =
        Request { method: "POST", path: "/v1/accounts/guest", body: b"{}", ..Request::default() };
    let reply = field.newcomer().ask(&request).map_err(|error| name(&error))?;
    if !reply.is_good() {
        return Err(reply.code());
    }
    let account = reply.json();
    let balance = account["balance"].as_str().unwrap_or_default();
    let told = ["grant_after_ms", "retry_after_ms"].iter().any(|name| account[*name].is_u64());
    match balance {
        "" => Err("no balance is told".to_owned()),
        "0" if !told => Err("nothing, and no time".to_owned()),
        _ => Ok(()),
    }
}
