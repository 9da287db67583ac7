use std::sync::{Arc, Mutex};

use super::*;
use crate::commands::up::models::choice::{Machine, choose};
use crate::models::built_in;

const GOOD: &str = "qwen2.5-coder-1.5b-instruct";
const SMALL: &str = "qwen2.5-coder-0.5b-instruct";
const EMBED: &str = "all-minilm-l6-v2";

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
        let chosen = choose(&names, &known, &missing, Machine::default()).unwrap();
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

    fn offers(&mut self, models: &[(&str, &str)]) {
        let pair = |(intent, name): &(&str, &str)| ((*intent).to_owned(), (*name).to_owned());
        let offers = models.iter().map(pair).collect();
        self.shelf.on_news(News::Offers { offers, full: true }, self.now);
    }

    fn finds(&mut self, models: &[&str]) {
        let models = models.iter().map(|name| (*name).to_owned()).collect();
        let (server, url) = ("Ollama".into(), "http://127.0.0.1:11434".into());
        self.shelf.on_news(News::Found { server, url, models, listed: 1 }, self.now);
    }

    fn wanted(&self) -> Vec<&str> {
        self.shelf.wanted().map(|model| model.name.as_str()).collect()
    }

    fn told(&self, id: &str) -> Option<ArrivingState> {
        let told = self.shelf.told().arriving;
        told.into_iter().find(|arriving| arriving.id == id).map(|arriving| arriving.state)
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
    scene.arrive(Arrival::Received(0));
    scene.pass(10);
    scene.arrive(Arrival::Received(100_000_000));
    let told = scene.shelf.told().arriving.remove(0);
    assert_eq!((told.received, told.rate, told.left_ms), (100_000_000, 10_000_000, Some(101_732)));
    scene.pass(1);
    let words = scene.words();
    assert!(words.contains("100 of 1118 MB, 10.0 MB/s, about 2 min left"), "{words}");
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
    scene.arrive(Arrival::Received(0));
    // 1 MB a second: the good one's other 626 MB take more than ten minutes.
    scene.pass(4);
    scene.arrive(Arrival::Received(4_000_000));
    assert!(!scene.shelf.breaks_off(), "too early to know");
    scene.pass(4);
    scene.arrive(Arrival::Received(8_000_000));
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
    scene.shelf.make_room(|_| true);
    scene.shelf.make_room(|_| false);
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
    scene.shelf.make_room(|_| false);
    assert_eq!(scene.wanted(), [GOOD]);
    let down = News::Down { executor: format!("engine {GOOD}"), reason: "broken".into() };
    scene.shelf.on_news(down, scene.now);
    assert_eq!(scene.wanted(), [GOOD, SMALL], "it answers again where the good one cannot");
    let mut fast = Scene::new(&[], &[], false);
    fast.order();
    fast.arrive(Arrival::Received(0));
    fast.pass(8);
    fast.arrive(Arrival::Received(80_000_000));
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
    scene.finds(&[]);
    scene.offers(&[("echo", "")]);
    assert_eq!(scene.order().as_deref(), Some(EMBED), "only chat is held back");
    scene.arrive(Arrival::Done);
    scene.pass(149);
    assert_eq!(scene.order(), None, "it may still be loading its model");
    scene.finds(&["llama3"]);
    scene.offers(&[("chat", "llama3")]);
    scene.pass(3_600);
    assert_eq!(scene.order(), None);
    assert!(scene.words().contains("Chat is answered by llama3 (Ollama at"));
    assert_eq!(scene.told(GOOD), None);
    assert_eq!(scene.shelf.told().defaults["chat"], "llama3");
    // One that starts anew is waited for, one that stays away is not.
    scene.shelf.on_news(News::Gone { url: "http://127.0.0.1:11434".into() }, scene.now);
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
    let down = News::Down { executor: format!("engine {GOOD}"), reason: "needs 3 GB".into() };
    scene.shelf.on_news(down, scene.now);
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
    assert!(scene.words().contains("needs 3 GB"));
    assert_eq!(scene.wanted(), [GOOD], "the worker tries it again");
    scene.offers(&[("chat", GOOD)]);
    assert_eq!(scene.told(GOOD), None);
    // One that dies while it serves: the reason comes before its offer goes.
    let down = News::Down { executor: format!("engine {GOOD}"), reason: "killed".into() };
    scene.shelf.on_news(down, scene.now);
    assert!(scene.words().contains("killed"));
    scene.offers(&[]);
    assert_eq!(scene.told(GOOD), Some(ArrivingState::Failed));
    assert_eq!(scene.shelf.told().arriving[0].problem.as_deref(), Some("killed"));
}
