//! Which models a realm serves by itself: what was asked for by name, else what the machine has
//! room for. Pure: it is told what the machine has.

use mtor_worker::{fits_memory, memory_needed};

use crate::models::{ENGINE, Model};

/// What a model takes that is no model file of the engine's: the embedding program, measured.
const OTHER_MEMORY_BYTES: u64 = 256 << 20;
/// The kinds of work that have a model of their own if nothing is asked for.
const INTENTS: [&str; 2] = ["chat", "embed"];
/// Those of the voice: one program serves both.
pub(super) const VOICE: [&str; 2] = ["transcribe", "speak"];
/// What hearing and speaking take together, and what stays free beside their files.
const VOICE_MEMORY_BYTES: u64 = 1 << 30;
const VOICE_DISK_LEFT_BYTES: u64 = 1_000_000_000;

/// A size of chat model and what must be free for it: memory, disk.
struct Class {
    short: &'static str,
    memory: u64,
    disk: u64,
}

const CLASSES: [Class; 3] = [
    Class { short: "good", memory: 3_000_000_000, disk: 5_000_000_000 },
    Class { short: "small", memory: 1_500_000_000, disk: 1_500_000_000 },
    Class { short: "tiny", memory: 0, disk: 0 },
];

/// What is free here; `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    pub(super) memory: Option<u64>,
    pub(super) disk: Option<u64>,
}

/// Why a model is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// It was asked for.
    Name,
    Default,
    /// It answers until the default one can.
    Meanwhile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) model: Model,
    pub(super) by: By,
    /// For people.
    pub(super) why: Option<String>,
    /// Why it cannot be served, with the remedy.
    pub(super) problem: Option<String>,
}

/// The models to serve, those asked for first. `voice`: whether to hear and speak, where the machine
/// has room for it if nobody says.
///
/// # Errors
/// A name that no model has.
pub(super) fn choose(
    names: &[String],
    voice: Option<bool>,
    known: &[Model],
    missing: impl Fn(&Model) -> u64,
    machine: Machine,
) -> Result<Vec<Chosen>, String> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        let model = find(name, known)?;
        if chosen.iter().all(|other| other.model.name != model.name) {
            chosen.push(Chosen { model, by: By::Name, why: None, problem: None });
        }
    }
    for intent in INTENTS {
        if chosen.iter().all(|other| other.model.intent != intent) {
            chosen.extend(default(intent, known, &missing, machine));
        }
    }
    refuse(&mut chosen, machine.memory);
    if voice.unwrap_or_else(|| has_room_for_voice(&chosen, known, missing, machine)) {
        for intent in VOICE {
            if chosen.iter().all(|other| other.model.intent != intent) {
                chosen.extend(first(intent, known));
            }
        }
    }
    Ok(chosen)
}

fn first(intent: &str, known: &[Model]) -> Option<Chosen> {
    let model = known.iter().find(|model| model.intent == intent)?.clone();
    Some(Chosen { model, by: By::Default, why: None, problem: None })
}

/// Beside what was chosen.
fn has_room_for_voice(
    chosen: &[Chosen],
    known: &[Model],
    missing: impl Fn(&Model) -> u64,
    machine: Machine,
) -> bool {
    let served = || chosen.iter().filter(|one| one.problem.is_none()).map(|one| &one.model);
    let memory = served().map(memory_of).fold(VOICE_MEMORY_BYTES, u64::saturating_add);
    let voice = VOICE.iter().filter_map(|intent| first(intent, known)).map(|one| one.model);
    let voice: Vec<_> = voice.collect();
    let to_come = || served().chain(&voice).map(&missing).fold(0, u64::saturating_add);
    let has_disk = |free: u64| free >= to_come().saturating_add(VOICE_DISK_LEFT_BYTES);
    machine.memory.is_none_or(|free| free >= memory)
        && (voice.iter().all(|model| missing(model) == 0) || machine.disk.is_none_or(has_disk))
}

fn memory_of(model: &Model) -> u64 {
    if model.intent == "chat" { memory_needed(model.bytes) } else { OTHER_MEMORY_BYTES }
}

fn find(name: &str, known: &[Model]) -> Result<Model, String> {
    let models = || known.iter().filter(|model| model.intent != ENGINE);
    let is_it = |model: &&Model| model.name == name || model.short.as_deref() == Some(name);
    models().find(is_it).cloned().ok_or_else(|| {
        let known: Vec<_> = models().map(|model| model.name.as_str()).collect();
        format!("no model `{name}`: there are good, small, tiny, {}", known.join(", "))
    })
}

fn default(
    intent: &str,
    known: &[Model],
    missing: impl Fn(&Model) -> u64,
    machine: Machine,
) -> Option<Chosen> {
    if intent != "chat" {
        return first(intent, known);
    }
    let mut larger = None;
    for class in &CLASSES {
        let Some(model) = by_short(class.short, known) else { continue };
        let has_memory = machine.memory.is_none_or(|free| free >= class.memory);
        // What has come of it takes its place already: a download that was broken off is gone on
        // with, and does not make the machine too small for itself.
        let missing = missing(model);
        let has_come = model.bytes.saturating_sub(missing);
        let is_enough = |free: u64| free.saturating_add(has_come) >= class.disk;
        let has_disk = missing == 0 || machine.disk.is_none_or(is_enough);
        if has_memory && has_disk {
            let why = why(machine, larger);
            let model = model.clone();
            return Some(Chosen { model, by: By::Default, why, problem: None });
        }
        larger.get_or_insert(class);
    }
    None
}

pub(super) fn by_short<'a>(short: &str, known: &'a [Model]) -> Option<&'a Model> {
    known.iter().find(|model| model.short.as_deref() == Some(short))
}

/// The reason, in figures; `larger`: the largest class that there was no room for.
fn why(machine: Machine, larger: Option<&Class>) -> Option<String> {
    let gb = |bytes: u64| {
        let tenths = bytes / 100_000_000;
        format!("{}.{} GB", tenths / 10, tenths % 10)
    };
    let free: Vec<_> = [(machine.memory, "memory"), (machine.disk, "disk")]
        .into_iter()
        .filter_map(|(free, of)| Some(format!("{} of {of}", gb(free?))))
        .collect();
    let free = (!free.is_empty()).then(|| format!("{} free", free.join(" and ")))?;
    Some(match larger {
        None => free,
        Some(class) => format!(
            "{free}; the {} one wants {} of memory and {} of disk",
            class.short,
            gb(class.memory),
            gb(class.disk)
        ),
    })
}

/// Those asked for are fitted in their order. A default was chosen by what is free, and the
/// smallest is always tried.
fn refuse(chosen: &mut [Chosen], memory: Option<u64>) {
    let Some(mut free) = memory else { return };
    for one in chosen {
        let is_chat = one.model.intent == "chat";
        let needed = memory_of(&one.model);
        if is_chat && one.by == By::Name {
            one.problem = fits_memory(one.model.bytes, Some(free)).err();
        }
        if one.problem.is_none() {
            free = free.saturating_sub(needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::built_in;

    const GB: u64 = 1_000_000_000;

    fn names(names: &[&str], memory: u64, disk: u64) -> Vec<String> {
        let machine = Machine { memory: Some(memory), disk: Some(disk) };
        let chosen = chosen(names, machine, u64::MAX).unwrap();
        let short = |one: Chosen| {
            let name = one.model.short.unwrap_or(one.model.intent);
            if one.problem.is_some() { format!("no {name}") } else { name }
        };
        chosen.into_iter().map(short).collect()
    }

    fn chosen(names: &[&str], machine: Machine, missing: u64) -> Result<Vec<Chosen>, String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        choose(&names, Some(false), &built_in().unwrap(), |_| missing, machine)
    }

    #[test]
    fn the_voice_is_there_where_there_is_room_or_it_is_asked_for() {
        let has_voice = |voice, memory: u64, disk: u64, missing: u64| {
            let machine = Machine { memory: Some(memory), disk: Some(disk) };
            let known = built_in().unwrap();
            let chosen = choose(&[], voice, &known, |_| missing, machine).unwrap();
            let voice: Vec<_> = chosen.iter().map(|one| one.model.intent.as_str()).collect();
            voice.contains(&"transcribe")
        };
        assert!(has_voice(None, 9 * GB, 9 * GB, 100_000_000));
        // The good model takes 2.4 GB of these.
        assert!(!has_voice(None, 3 * GB, 9 * GB, 100_000_000), "no memory beside chat");
        assert!(has_voice(Some(true), 3 * GB, 9 * GB, 100_000_000));
        assert!(!has_voice(Some(false), 9 * GB, 9 * GB, 0));
        assert!(!has_voice(None, 9 * GB, GB, 100_000_000), "no disk beside chat");
        assert!(has_voice(None, 9 * GB, 0, 0), "what is here wants none");
    }

    #[test]
    fn the_machine_decides_if_nothing_is_asked_for() {
        assert_eq!(names(&[], 3 * GB, 5 * GB), ["good", "embed"]);
        assert_eq!(names(&[], 3 * GB - 1, 5 * GB), ["small", "embed"]);
        assert_eq!(names(&[], 3 * GB, 5 * GB - 1), ["small", "embed"]);
        assert_eq!(names(&[], 3 * GB / 2 - 1, 5 * GB), ["tiny", "embed"]);
        assert_eq!(names(&[], 0, 0), ["tiny", "embed"]);
        let unknown = chosen(&[], Machine::default(), 1).unwrap();
        assert_eq!(unknown[0].model.short.as_deref(), Some("good"));
    }

    #[test]
    fn what_is_here_wants_no_disk() {
        let machine = Machine { memory: Some(4 * GB), disk: Some(0) };
        assert_eq!(chosen(&[], machine, 0).unwrap()[0].model.short.as_deref(), Some("good"));
    }

    #[test]
    fn what_has_come_of_a_broken_off_download_counts_as_free() {
        let machine = Machine { memory: Some(4 * GB), disk: Some(4_200_000_000) };
        let of_good = |missing| chosen(&[], machine, missing).unwrap()[0].model.short.clone();
        assert_eq!(of_good(1_117_320_768).as_deref(), Some("small"));
        assert_eq!(of_good(217_320_768).as_deref(), Some("good"));
    }

    #[test]
    fn the_reason_is_said_in_figures() {
        let machine = Machine { memory: Some(2 * GB), disk: Some(70 * GB) };
        let why = chosen(&[], machine, 1).unwrap()[0].why.clone().unwrap();
        assert_eq!(
            why,
            "2.0 GB of memory and 70.0 GB of disk free; the good one wants 3.0 GB of memory and \
             5.0 GB of disk"
        );
    }

    #[test]
    fn names_are_taken_in_their_order_and_once() {
        assert_eq!(names(&["tiny", "good", "tiny"], 9 * GB, 9 * GB), ["tiny", "good", "embed"]);
        assert_eq!(names(&["all-minilm-l6-v2"], 9 * GB, 9 * GB), ["embed", "good"]);
        let unknown = chosen(&["better"], Machine::default(), 1).unwrap_err();
        assert!(unknown.contains("`better`") && unknown.contains("tiny"), "{unknown}");
        assert!(chosen(&["llama.cpp-server"], Machine::default(), 1).is_err(), "it is no model");
    }

    #[test]
    fn several_fit_beside_each_other_or_are_refused_with_figures() {
        assert_eq!(names(&["tiny", "good"], 2 * GB, 9 * GB), ["tiny", "no good", "embed"]);
        assert_eq!(names(&["good", "tiny"], 5 * GB / 2, 9 * GB), ["good", "no tiny", "embed"]);
        let machine = Machine { memory: Some(2 * GB), disk: None };
        let problem = chosen(&["good"], machine, 1).unwrap()[0].problem.clone().unwrap();
        assert!(problem.contains("MiB"), "{problem}");
    }
}
