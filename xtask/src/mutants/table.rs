//! The bugs that are planted in the product, and what must find each of them.

/// What is run against one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// The simulator, at most 200 seeds.
    Seeds,
    /// Tests of mtor-core whose name contains this. None of chance: one that fails leaves a file.
    Core(&'static str),
    /// Tests of mtor-server whose name contains this.
    Server(&'static str),
    /// A file of the black box's tests, and a part of a test's name.
    BlackBox(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    pub name: &'static str,
    pub finder: Finder,
    /// Run by CI each time.
    pub sample: bool,
}

const fn mutant(name: &'static str, finder: Finder) -> Mutant {
    Mutant { name, finder, sample: false }
}

const fn sampled(name: &'static str, finder: Finder) -> Mutant {
    Mutant { name, finder, sample: true }
}

use Finder::{BlackBox, Core, Seeds, Server};

pub const MUTANTS: &[Mutant] = &[
    // Who serves.
    sampled("trust-ignored", Seeds),
    mutant("price-band-ignored", Seeds),
    mutant("own-slot-comes-last", Seeds),
    sampled("price-of-slots-ignored", Seeds),
    mutant("load-of-slots-ignored", Seeds),
    mutant("idleness-ignored", Seeds),
    sampled("new-worker-gets-nothing", Seeds),
    mutant("groups-share-nothing", Core("groups::")),
    mutant("waits-alone", Core("shared_slots_is_that_of_all")),
    mutant("declared-slots-count", Core("those_that_are_earned_are_used")),
    mutant("ejected-serves-on", Core("who_is_ejected_serves_only")),
    mutant("canary-goes-to-anybody", Core("a_canary_goes_to_its_worker")),
    // Who is blamed, praised and proven.
    mutant("nothing-is-praised", Core("worth_nothing_is_nobodys_praise")),
    mutant("strangers-confirm", Core("another_stranger_confirms_nothing")),
    mutant("nothing-is-excused", Core("given_back_when_it_was_nobodys_failure")),
    mutant("ejection-costs-no-slots", Core("out_for_a_while_and_comes_back")),
    mutant("edge-tells-no-silence", BlackBox("black_box", "of_which_nothing_comes_is_ejected")),
    mutant("silence-counts-for-nothing", Core("an_attempt_of_which_nothing_comes")),
    mutant("replacement-is-a-loss", Core("a_newer_session_replaces_an_older_one")),
    mutant("own-branches-are-one", Core("branches_of_their_own_are_two")),
    mutant("every-blame-is-believed", Core("asked_to_be_believed_by_another")),
    mutant("probes-may-fail", Core("back_by_a_probe_and_later")),
    mutant("wrong-answers-cost-no-proof", Core("right_answers_on_two_days_prove")),
    mutant("one-branch-ejects", Core("registry::record::tests::five")),
    mutant("out-as-long-each-time", Core("back_by_a_probe_and_later")),
    mutant("proven-in-a-day", Core("right_answers_on_two_days_prove")),
    mutant("vouch-outlives-ejections", Core("a_sysops_word_lapses")),
    // What becomes of attempts.
    sampled("retry-after-a-piece", Seeds),
    sampled("attempts-without-bound", Seeds),
    mutant("dispatches-without-bound", Core("what_is_lost_too_often_fails")),
    mutant("same-worker-tries-again", Seeds),
    sampled("lost-counts-as-failed", Seeds),
    mutant("loss-without-pause", Seeds),
    mutant("restart-untold", Seeds),
    mutant("retries-without-budget", Core("retries")),
    mutant("older-attempts-are-adopted", Core("who_comes_with_an_older_attempt")),
    mutant("pauses-are-silence", Core("a_pause_of_the_realm_is_nobodys_silence")),
    mutant("lease-lasts-twice", Seeds),
    mutant("renewals-ignored", Seeds),
    mutant("unserved-for-ever", Core("router::tests")),
    // Shares and waits.
    sampled("costs-never-corrected", Seeds),
    mutant("wait-of-the-whole-queue", Core("behind_ten_thousand_of_another")),
    mutant("strangers-teach", Core("strangers_teach_nothing")),
    mutant("accounts-have-no-share", Core("share::tests")),
    mutant("networks-have-no-share", Core("share::tests")),
    mutant("banned-owners-work", Core("nothing_of_a_banned_owner_works")),
    // Keys.
    sampled("keys-never-forgotten", Seeds),
    mutant("keys-keep-their-places", Core("one_account_leaves_places_for_the_keys")),
    mutant("earlier-keys-not-asked", Seeds),
    mutant("another-body-joins", Seeds),
    // Money.
    mutant("fee-forgotten", Seeds),
    sampled("payer-is-paid", Seeds),
    mutant("paid-beyond-the-hold", Core("a_cost_is_never_above_its_hold")),
    mutant("cancel-pays-an-earlier-figure", Core("a_figure_of_an_earlier_attempt")),
    mutant("receipt-before-the-sync", Seeds),
    // The edge, which the simulator only stands in for.
    mutant("everybody-is-a-proxy", Server("who_is_not_trusted_is_believed_nothing")),
    mutant("canaries-have-no-budget", Server("share_a_quarter_and_all_share_the_budget")),
    mutant("nothing-is-an-answer", Server("what_is_no_content_is_paid_for_by_nobody")),
    mutant("stop-forwards-on", Server("a_close_is_final_for_its_attempt")),
    mutant("edge-ignores-a-restart", BlackBox("black_box", "begins_anew_never_holds")),
    mutant("replaced-worker-comes-again", BlackBox("black_box", "of_two_workers_with_one_key")),
    mutant("lost-writer-not-closed", Server("a_worker_that_does_not_read")),
    mutant(
        "end-before-its-result-is-sealed",
        BlackBox("black_box", "has_not_ended_before_its_result_is_kept"),
    ),
    mutant("edge-asks-no-earlier-keys", BlackBox("black_box", "a_key_binds_after_a_restart")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn planted(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                planted(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                let names =
                    text.split("mutant!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }

    #[test]
    fn the_table_is_what_is_planted() {
        let mut found = BTreeSet::new();
        for krate in ["core", "server", "types", "store", "sim", "worker", "client", "cli"] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
            planted(&root.join(krate).join("src"), &mut found);
        }
        let table: BTreeSet<String> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert_eq!(table.len(), MUTANTS.len(), "a name stands twice");
        assert_eq!(table, found);
    }
}
