use std::sync::{Arc, Mutex};

use super::*;
use crate::commands::up::models::choice::{Machine, choose};
use crate::models::built_in;

const GOOD: &str = "qwen2.5-coder-1.5b-instruct";
const SMALL: &str = "qwen2.5-coder-0.5b-instruct";
const EMBED: &str = "all-minilm-l6-v2";
const GOODS_ENGINE: &str = "engine qwen2.5-coder-1.5b-instruct";
const SERVER: &str = "http://127.0.0.1:11434";
const MB: u64 = 1_000_000;
/// What the two chat models need each, about: 2.35 and 1.41 GB.
const ENOUGH_FOR_BOTH: u64 = 4_000 * MB;
const ENOUGH_FOR_ONE: u64 = 2_400 * MB;

/// A shelf, its clock, and what is missing of each model.
struct Scene {
    shelf: Shelf,
    now: Instant,
    here: Arc<Mutex<BTreeSet<String>>>,
}

impl Scene {
    fn new(names: &[&str], here: &[&str], looks: bool) -> Self {
        let known = built_in().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let here: BTreeSet<_> = here.iter().map(|name| (*name).to_owned()).collect();
        let here = Arc::new(Mutex::new(here));
        let shared = Arc::clone(&here);
        let missing = move |model: &Model| {
            if shared.lock().unwrap().contains(&model.name) { 0 } else { model.bytes }
        };
        let chosen = choose(&names, Some(false), &known, &missing, Machine::default()).unwrap();
        let meanwhile = known.iter().find(|model| model.name == SMALL).cloned();
        let now = Instant::now();
        let stock = Stock { chosen, known, meanwhile, looks };
        Self { shelf: Shelf::new(stock, Box::new(missing), now), now, here }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.shelf.on_tick(self.now);
    }

    fn order(&mut self) -> Option<String> {
        self.shelf.next_order(self.now).map(|model| model.name)
    }

    fn arrive(&mut self, arrival: Arrival) {
        if arrival == Arrival::Done {
            let fetching = self.shelf.entries.iter().find(|entry| entry.state == State::Fetching);
            self.here.lock().unwrap().insert(fetching.unwrap().model.name.clone());
        }
        self.shelf.on_arrival(arrival, self.now);
    }

    /// So many bytes of all that is missing.
    fn receive(&mut self, bytes: u64) {
        let fetching = self.shelf.entries.iter().find(|entry| entry.state == State::Fetching);
        let missing = fetching.unwrap().missing;
        self.arrive(Arrival::Received { bytes, missing });
    }

    fn down(&mut self, executor: &str, reason: &str) {
        let (executor, reason) = (executor.into(), reason.into());
        self.shelf.on_news(News::Down { executor, reason }, self.now);
    }

    /// So much is free beside what is mapped.
    fn make_room(&mut self, free: u64) {
        self.shelf.make_room(self.now, |mapped| Some(free.saturating_sub(mapped)));
    }

    fn offers(&mut self, models: &[(&str, &str)]) {
        let pair = |(intent, name): &(&str, &str)| ((*intent).to_owned(), (*name).to_owned());
        let offers = models.iter().map(pair).collect();
        self.shelf.on_news(News::Offers { offers, full: true }, self.now);
    }

    fn finds(&mut self, models: &[&str], untried: &[&str]) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (server, url) = ("Ollama".into(), SERVER.into());
        let (models, untried) = (names(models), names(untried));
        self.shelf.on_news(News::Found { server, url, models, untried }, self.now);
    }

    fn wanted(&self) -> Vec<&str> {
        self.shelf.wanted().map(|model| model.name.as_str()).collect()
    }

    fn told(&self, id: &str) -> Option<ArrivingState> {
        let told = self.shelf.told().arriving;
        told.into_iter()
            .find(|arriving| arriving.id == id && arriving.offered.is_none())
            .map(|arriving| arriving.state)
    }

    fn words(&mut self) -> String {
        self.shelf.said().into_iter().filter_map(|said| said.words).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn models_come_one_after_the_other_and_are_told_all_the_way() {
    let mut scene = Scene::new(&[], &[], false);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    assert_eq!(scene.order(), None, "one at a time");
    assert_eq!(scene.told(EMBED), Some(ArrivingState::Waiting));
    scene.receive(0);
    scene.pass(10);
    scene.receive(100_000_000);
    let told = scene.shelf.told().arriving.remove(0);
    assert_eq!((told.received, told.rate, told.left_ms), (100_000_000, 10_000_000, Some(101_732)));
    scene.pass(1);
    let words = scene.words();
    assert!(words.contains("100 of 1117 MB, 10.0 MB/s, about 2 min left"), "{words}");
    assert_eq!(scene.wanted(), Vec::<&str>::new());
    scene.arrive(Arrival::Done);
    assert_eq!((scene.told(GOOD), scene.wanted()), (Some(ArrivingState::Starting), vec![GOOD]));
    scene.offers(&[("chat", GOOD)]);
    assert_eq!(scene.told(GOOD), None);
    assert_eq!(scene.order().as_deref(), Some(EMBED));
    // The worker died: it is wanted as before, and told.
    scene.shelf.on_news(News::Died, scene.now);
    assert_eq!((scene.told(GOOD), scene.wanted()), (Some(ArrivingState::Starting), vec![GOOD]));
}

#[test]
fn what_is_here_is_told_as_starting_until_its_offer_can_be_taken() {
    let mut scene = Scene::new(&[], &[GOOD, EMBED], false);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    assert_eq!(scene.told(EMBED), Some(ArrivingState::Starting), "it waits for no bytes");
    scene.arrive(Arrival::Done);
    let offered = |scene: &Scene| scene.shelf.told().arriving.remove(0).offered;
    assert_eq!(offered(&scene), None);
    scene.offers(&[("chat", GOOD)]);
    let (name, at) = (GOOD.to_owned(), scene.now);
    assert_eq!(offered(&scene), Some(OfferedAs { name, at }));
}

#[test]
fn what_another_process_fetches_is_waited_for_and_told() {
    let mut scene = Scene::new(&[], &[], false);
    scene.order();
    scene.shelf.said();
    scene.arrive(Arrival::Waiting);
    let said = scene.shelf.said().remove(0);
    assert_eq!(said.event["status"], "waiting");
    assert!(said.words.unwrap().contains("another process on this machine fetches it"));
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Fetching));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Starting));
}

#[test]
fn what_fails_is_asked_again_after_growing_pauses_and_holds_up_nobody() {
    let mut scene = Scene::new(&[], &[], false);
    for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
        assert_eq!(scene.order().as_deref(), Some(GOOD));
        scene.arrive(Arrival::Failed("no line".into()));
        assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
        let words = scene.words();
        assert!(words.contains("no line") && words.contains(&format!("in {pause} s")), "{words}");
        if scene.told(EMBED) == Some(ArrivingState::Waiting) {
            assert_eq!(scene.order().as_deref(), Some(EMBED));
            scene.arrive(Arrival::Done);
        }
        scene.pass(pause - 1);
        assert_eq!(scene.order(), None);
        scene.pass(1);
    }
}

#[test]
fn the_small_one_answers_where_the_good_one_takes_much_longer() {
    let mut scene = Scene::new(&[], &[], false);
    scene.order();
    scene.receive(0);
    // 1 MB a second: the good one's other 626 MB take more than ten minutes.
    scene.pass(4);
    scene.receive(4_000_000);
    assert!(!scene.shelf.breaks_off(), "too early to know");
    scene.pass(4);
    scene.receive(8_000_000);
    assert!(scene.shelf.breaks_off());
    assert!(!scene.shelf.breaks_off(), "once");
    assert!(scene.words().contains("answers meanwhile"));
    scene.arrive(Arrival::BrokenOff);
    assert_eq!(scene.order().as_deref(), Some(SMALL));
    scene.arrive(Arrival::Done);
    scene.offers(&[("chat", SMALL)]);
    assert_eq!(scene.shelf.told().defaults["chat"], GOOD, "once it is there");
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.wanted(), [GOOD, SMALL]);
    scene.make_room(ENOUGH_FOR_BOTH);
    scene.make_room(0);
    assert_eq!(scene.wanted(), [GOOD, SMALL], "there was room for both when it came");
    scene.offers(&[("chat", SMALL), ("chat", GOOD)]);
    assert_eq!(scene.wanted(), [GOOD]);
}

#[test]
fn the_small_one_makes_room_if_both_do_not_fit_and_comes_if_it_is_here() {
    let mut scene = Scene::new(&[], &[SMALL], false);
    assert_eq!(scene.order().as_deref(), Some(SMALL), "what is here needs only a look");
    scene.arrive(Arrival::Done);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    scene.arrive(Arrival::Done);
    scene.make_room(ENOUGH_FOR_ONE);
    assert_eq!(scene.wanted(), [GOOD]);
    let mut fast = Scene::new(&[], &[], false);
    fast.order();
    fast.receive(0);
    fast.pass(8);
    fast.receive(80_000_000);
    assert!(!fast.shelf.breaks_off(), "a minute is nothing");
    let chosen = |scene: &mut Scene| {
        let tiny = built_in().unwrap().into_iter().find(|model| model.basic).unwrap();
        scene.shelf.entries[0].model = tiny;
    };
    let mut tiny = Scene::new(&[], &[], false);
    chosen(&mut tiny);
    tiny.here.lock().unwrap().insert(SMALL.into());
    assert!(!tiny.shelf.call_stand_in(true), "a machine for the tiny one has no room for it");
    let mut asked = Scene::new(&["good"], &[SMALL], false);
    assert_eq!(asked.order().as_deref(), Some(GOOD), "nobody asked for the small one");
}

#[test]
fn nothing_is_fetched_while_what_runs_here_answers() {
    let mut scene = Scene::new(&[], &[GOOD], true);
    assert_eq!((scene.order(), scene.told(GOOD)), (None, Some(ArrivingState::Waiting)));
    scene.finds(&[], &["llama3"]);
    scene.offers(&[("echo", "")]);
    assert_eq!(scene.order().as_deref(), Some(EMBED), "only chat is held back");
    scene.arrive(Arrival::Done);
    scene.pass(149);
    assert_eq!(scene.order(), None, "it may still be loading its model");
    scene.finds(&["llama3"], &[]);
    scene.offers(&[("chat", "llama3")]);
    scene.pass(3_600);
    assert_eq!(scene.order(), None);
    assert!(scene.words().contains("Chat is answered by llama3 (Ollama at"));
    assert_eq!(scene.told(GOOD), None);
    assert_eq!(scene.shelf.told().defaults["chat"], "llama3");
    // One that starts anew is waited for, one that stays away is not.
    scene.shelf.on_news(News::Gone { url: SERVER.into() }, scene.now);
    scene.offers(&[]);
    scene.pass(59);
    assert_eq!(scene.order(), None);
    scene.pass(2);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
}

#[test]
fn where_nothing_runs_the_model_is_begun_with_the_first_look() {
    let mut scene = Scene::new(&[], &[], true);
    scene.pass(1);
    assert_eq!(scene.order(), None);
    scene.offers(&[("echo", "")]);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    let mut silent = Scene::new(&[], &[], true);
    silent.pass(30);
    assert_eq!(silent.order().as_deref(), Some(GOOD), "a worker that never looks holds up nobody");
    let mut asked = Scene::new(&["small"], &[], true);
    assert_eq!(asked.order().as_deref(), Some(SMALL), "what was asked for waits for nothing");
}

#[test]
fn a_model_that_does_not_run_is_told_with_the_reason() {
    let mut scene = Scene::new(&[], &[GOOD], false);
    scene.order();
    scene.arrive(Arrival::Done);
    scene.down(GOODS_ENGINE, "needs 3 GB");
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
    assert!(scene.words().contains("needs 3 GB"));
    assert_eq!(scene.wanted(), [GOOD], "the worker tries it again");
    scene.offers(&[("chat", GOOD)]);
    assert_eq!(scene.told(GOOD), None);
    // One that dies while it serves: the reason comes before its offer goes.
    scene.down(GOODS_ENGINE, "killed");
    assert!(scene.words().contains("killed"));
    scene.offers(&[]);
    scene.down(GOODS_ENGINE, "ended");
    assert!(scene.words().contains("ended"));
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Starting), "it may be back at once");
    scene.pass(5);
    scene.down(GOODS_ENGINE, "killed again");
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
    assert_eq!(scene.shelf.told().arriving[0].problem.as_deref(), Some("killed again"));
}

/// The good model has come, and the small one answers.
fn stood_in() -> Scene {
    let mut scene = Scene::new(&[], &[SMALL], false);
    scene.order();
    scene.arrive(Arrival::Done);
    scene.offers(&[("chat", SMALL)]);
    scene.order();
    scene.arrive(Arrival::Done);
    scene
}

/// The same, where there is room for one.
fn tight() -> Scene {
    let mut scene = stood_in();
    scene.make_room(ENOUGH_FOR_ONE);
    scene
}

#[test]
fn the_good_one_has_the_machine_until_the_small_ones_memory_is_free() {
    let mut scene = tight();
    assert_eq!(scene.wanted(), [GOOD]);
    scene.down(GOODS_ENGINE, "needs 2237 MiB");
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Starting));
    // The small one gives its last answer, and the good one is refused meanwhile.
    for _ in 0..8 {
        scene.down(GOODS_ENGINE, "needs 2237 MiB");
        scene.make_room(1_000 * MB);
        assert_eq!(scene.wanted(), [GOOD]);
        scene.pass(5);
    }
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed), "that took long");
    scene.offers(&[("chat", GOOD)]);
    assert_eq!(scene.told(GOOD), None);
    // It crashes and is back: the small one does not take its place.
    scene.pass(3_600);
    scene.down(GOODS_ENGINE, "killed");
    scene.offers(&[]);
    scene.make_room(ENOUGH_FOR_ONE);
    assert_eq!(scene.wanted(), [GOOD]);
    // Where there is room for both it answers at once.
    scene.down(GOODS_ENGINE, "killed");
    scene.make_room(ENOUGH_FOR_BOTH);
    assert_eq!(scene.wanted(), [GOOD, SMALL]);
}

#[test]
fn the_small_one_answers_while_the_good_one_rests_and_makes_room_for_its_next_try() {
    let mut scene = tight();
    for rest in [120, 240, 480] {
        scene.down(GOODS_ENGINE, "broken");
        scene.make_room(ENOUGH_FOR_ONE);
        scene.pass(60);
        scene.make_room(ENOUGH_FOR_ONE);
        assert_eq!(scene.wanted(), [GOOD], "asked only when it fails");
        scene.down(GOODS_ENGINE, "broken");
        scene.make_room(ENOUGH_FOR_ONE);
        assert_eq!(scene.wanted(), [SMALL]);
        assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
        assert!(scene.words().contains("broken. Qwen2.5-Coder 0.5B"), "{rest}");
        scene.offers(&[("chat", SMALL)]);
        scene.pass(rest - 1);
        scene.make_room(ENOUGH_FOR_BOTH);
        assert_eq!(scene.wanted(), [SMALL], "it rests");
        scene.pass(1);
        // The small one's own memory is not free yet: 2347 needed, about 917 of it are given back.
        scene.make_room(1_300 * MB);
        assert_eq!(scene.wanted(), [SMALL], "there is no room, even without the small one");
        scene.pass(30);
        scene.make_room(1_500 * MB);
        assert_eq!(scene.wanted(), [GOOD]);
        assert_eq!(scene.told(GOOD), Some(ArrivingState::Starting));
    }
    // One that served for long fails for another reason.
    scene.offers(&[("chat", GOOD)]);
    scene.pass(60);
    scene.down(GOODS_ENGINE, "killed");
    scene.offers(&[]);
    scene.pass(59);
    scene.down(GOODS_ENGINE, "killed");
    scene.make_room(ENOUGH_FOR_ONE);
    assert_eq!(scene.wanted(), [GOOD]);
}

#[test]
fn room_is_made_when_the_worker_finds_none_after_all() {
    let mut scene = stood_in();
    // What the small one has mapped counts as used, as it does for the worker.
    scene.make_room(2_900 * MB);
    assert_eq!(scene.wanted(), [GOOD, SMALL]);
    scene.down(GOODS_ENGINE, "needs 2237 MiB and 2100 MiB are free");
    scene.make_room(2_700 * MB);
    assert_eq!(scene.wanted(), [GOOD]);
    // One that answers wrong is loaded already, and needs no more room.
    let mut scene = tight();
    scene.pass(5);
    let backend = "http://127.0.0.1:40000".into();
    let left_out = News::LeftOut { backend, model: GOOD.into(), reason: "mute".into() };
    scene.shelf.on_news(left_out, scene.now);
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
    scene.make_room(1_500 * MB);
    assert_eq!(scene.wanted(), [GOOD, SMALL]);
}

#[test]
fn a_server_whose_chat_models_all_failed_holds_up_nobody() {
    let left_out = |model: &str| News::LeftOut {
        backend: SERVER.into(),
        model: model.into(),
        reason: "does not answer".into(),
    };
    let mut scene = Scene::new(&[], &[], true);
    scene.finds(&[], &["llama3", GOOD]);
    scene.offers(&[("echo", "")]);
    scene.order();
    scene.shelf.on_news(left_out("llama3"), scene.now);
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Waiting));
    scene.shelf.on_news(left_out(GOOD), scene.now);
    scene.arrive(Arrival::Done);
    // The server may be asked for the next one.
    scene.pass(4);
    assert_eq!(scene.order(), None);
    let next = News::Asked { url: SERVER.into(), model: "gemma".into() };
    scene.shelf.on_news(next, scene.now);
    scene.pass(60);
    assert_eq!(scene.order(), None);
    scene.shelf.on_news(left_out("gemma"), scene.now);
    scene.pass(5);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Fetching), "the server's of that name failed");
    // Only models for embeddings, or none that is loaded.
    let mut scene = Scene::new(&[], &[], true);
    scene.finds(&[], &[]);
    scene.offers(&[("echo", "")]);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
}

#[test]
fn a_source_that_matters_is_named_to_people_once() {
    let mut scene = Scene::new(&[], &[], false);
    scene.order();
    scene.words();
    let refused = |why: &str, matters| Arrival::Refused { why: why.into(), matters };
    scene.arrive(refused("weights: not from /mnt/typo", true));
    assert_eq!(scene.words(), "weights: not from /mnt/typo");
    scene.arrive(refused("weights: not from /mnt/typo", true));
    scene.arrive(refused("weights: not from https://example.org", false));
    let said = scene.shelf.said();
    assert!(said.iter().all(|said| said.event["status"] == "refused" && said.words.is_none()));
    assert_eq!(said.len(), 2, "programs are told of all");
}

#[test]
fn a_program_is_known_by_its_name_and_an_old_trouble_is_forgotten() {
    let mut scene = Scene::new(&[], &[GOOD, EMBED], false);
    while scene.order().is_some() {
        scene.arrive(Arrival::Done);
    }
    let all = [("chat", GOOD), ("embed", EMBED)];
    scene.offers(&all);
    scene.words();
    scene.down("exec other", "broken");
    assert_eq!(scene.words(), "");
    scene.down("exec embed", "broken");
    assert!(scene.words().contains("broken"));
    scene.offers(&all);
    scene.down("exec embed", "broken");
    assert!(scene.words().contains("broken"), "it is news again");
}

/// One that hears and one that speaks, and nothing else of the catalogue's voice.
fn with_voice(here: &[&str]) -> Scene {
    let mut scene = Scene::new(&[], here, false);
    for (intent, name) in [("transcribe", "ear"), ("speak", "mouth")] {
        let (intent, name) = (intent.to_owned(), name.to_owned());
        let model = Model { intent, name, ..scene.shelf.known[0].clone() };
        scene.shelf.put(model, By::Default, None);
    }
    scene
}

#[test]
fn the_voice_comes_behind_the_first_answer_and_begins_as_one() {
    let mut scene = with_voice(&[EMBED]);
    // What is here is only looked at.
    assert_eq!(scene.order().as_deref(), Some(EMBED));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.order(), None, "the good one loads");
    scene.offers(&[("chat", GOOD)]);
    assert_eq!(scene.order(), None, "so does the other one");
    scene.offers(&[("chat", GOOD), ("embed", EMBED)]);
    assert_eq!(scene.order().as_deref(), Some("ear"));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.wanted(), [GOOD, EMBED], "its other half is on its way");
    // A page can have its files all the same.
    let here: Vec<_> = scene.shelf.here().map(|model| model.name.as_str()).collect();
    assert_eq!(here, [GOOD, EMBED, "ear"]);
    assert_eq!(scene.order().as_deref(), Some("mouth"));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.wanted(), [GOOD, EMBED, "ear", "mouth"]);
    // The trouble of one program is not that of the other.
    scene.down("exec voice", "broken");
    assert_eq!(scene.told(EMBED), None);
    assert_eq!(scene.told("mouth"), Some(ArrivingState::Failed));
}

#[test]
fn the_voice_waits_for_nothing_that_fails_and_half_of_it_serves_alone() {
    let mut scene = with_voice(&[EMBED]);
    assert_eq!(scene.order().as_deref(), Some(EMBED));
    scene.arrive(Arrival::Done);
    scene.offers(&[("embed", EMBED)]);
    assert_eq!(scene.order().as_deref(), Some(GOOD));
    scene.arrive(Arrival::Failed("no source".into()));
    assert_eq!(scene.order().as_deref(), Some("ear"));
    scene.arrive(Arrival::Done);
    assert_eq!(scene.order().as_deref(), Some("mouth"));
    scene.arrive(Arrival::Failed("no source".into()));
    assert_eq!(scene.wanted(), [EMBED, "ear"]);
    scene.pass(20);
    while scene.order().as_deref() != Some("mouth") {
        scene.arrive(Arrival::Failed("no source".into()));
    }
    assert_eq!(scene.wanted(), [EMBED, "ear"], "what serves stays");
    scene.arrive(Arrival::Done);
    assert_eq!(scene.wanted(), [EMBED, "ear", "mouth"]);
}

#[test]
fn the_voice_serves_under_the_name_of_what_speaks_in_its_place() {
    let mut scene = with_voice(&[EMBED, GOOD, "ear", "mouth"]);
    while scene.order().is_some() {
        scene.arrive(Arrival::Done);
        scene.offers(&[("chat", GOOD), ("embed", EMBED)]);
    }
    assert_eq!(scene.told("mouth"), Some(ArrivingState::Starting));
    let all = [("chat", GOOD), ("embed", EMBED), ("transcribe", "ear")];
    scene.offers(&[all.as_slice(), &[("speak", "flite")]].concat());
    assert_eq!(scene.told("mouth"), None, "it serves");
    assert_eq!(scene.shelf.told().defaults["speak"], "flite");
    // Another's name is none of it.
    scene.offers(&[all.as_slice(), &[("speak", "tts-1")]].concat());
    assert_eq!(scene.told("mouth"), Some(ArrivingState::Starting));
    scene.offers(&[all.as_slice(), &[("speak", "mouth")]].concat());
    assert_eq!(scene.told("mouth"), None);
    assert_eq!(scene.shelf.told().defaults["speak"], "mouth");
}
