//! Ids that are paths of the owner's machine: llama-server's without an alias, vLLM's of a folder.
//! Clients see and ask for what the path ends in; the backend is asked by the id.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is left of a path, as a name; `None` for an id that is none.
pub(super) fn name_in(id: &str) -> Option<String> {
    const ENDING: &str = ".gguf";
    let has_drive = id.get(1..3).is_some_and(|two| two == ":\\" || two == ":/");
    let is_file = ending(id, ENDING);
    let is_path = id.starts_with(['/', '~', '.']) || id.contains('\\') || has_drive || is_file;
    let parts = || id.split(['/', '\\']).filter(|part| !part.is_empty());
    let mut last = parts().next_back().filter(|_| is_path)?;
    // A download of Hugging Face's own: its folders are named after the repository, and end in a
    // hash.
    if let Some(repository) = parts().find_map(|part| part.strip_prefix("models--"))
        && !is_file
    {
        return Some(repository.replacen("--", "/", 1));
    }
    if is_file {
        last = last.get(..last.len() - ENDING.len())?;
    }
    // A model in several files is known by its first: `name-00001-of-00003`.
    if let Some((name, number)) = last.rsplit_once("-of-")
        && let Some((name, first)) = name.rsplit_once('-')
        && [first, number].iter().all(|n| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit()))
    {
        last = name;
    }
    Some(last.to_owned()).filter(|name| !name.is_empty())
}

fn ending(id: &str, ending: &str) -> bool {
    let at = id.len().saturating_sub(ending.len());
    id.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// The name of each id, its own where it is no path; an error for one whose name another model of
/// this backend has. Ids that are no paths come first.
pub(super) fn names_of(ids: &[&str]) -> Vec<Result<String, String>> {
    let names: Vec<_> = ids.iter().map(|id| name_in(id)).collect();
    let plain = || ids.iter().zip(&names).filter(|(_, name)| name.is_none()).map(|(id, _)| *id);
    let name = |(at, name): (usize, &Option<String>)| {
        let id = ids.get(at).copied().unwrap_or_default();
        let Some(name) = name else { return Ok(id.to_owned()) };
        let mut before = names.iter().take(at).flatten();
        if plain().any(|other| other == name) || before.any(|other| other == name) {
            return Err(format!(
                "another model here has its file's name: give it one of its own with \
                 --served-model-name NAME={id}"
            ));
        }
        Ok(name.clone())
    };
    names.iter().enumerate().map(name).collect()
}

/// The ids behind the names of one backend.
#[derive(Debug, Default)]
pub(super) struct Paths(Mutex<BTreeMap<String, String>>);

impl Paths {
    pub(super) fn set(&self, ids: BTreeMap<String, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// The id behind a name, where it is a path.
    pub(super) fn id(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_and_only_its_end_is_told() {
        let cases = [
            ("/srv/models/qwen2.5-coder.Q4_K_M.gguf", "qwen2.5-coder.Q4_K_M"),
            ("models/phi.GGUF", "phi"),
            ("qwen.gguf", "qwen"),
            ("./qwen", "qwen"),
            ("~/llm/qwen/", "qwen"),
            ("/models/foo", "foo"),
            (r"C:\llm\gemma.gguf", "gemma"),
            ("D:/llm/gemma.gguf", "gemma"),
            ("/m/big-00001-of-00003.gguf", "big"),
            ("/m/one-of-a-kind.gguf", "one-of-a-kind"),
            ("/c/hub/models--Qwen--Qwen3-8B/snapshots/0a1b2c", "Qwen/Qwen3-8B"),
        ];
        for (id, name) in cases {
            assert_eq!(name_in(id).as_deref(), Some(name), "{id}");
        }
        let plain = ["Qwen/Qwen3-8B", "llama3:8b", "hf.co/org/name-GGUF:Q4_K_M", "gpt-4o", "é", ""];
        for id in plain.into_iter().chain(["/", ".gguf"]) {
            assert_eq!(name_in(id), None, "{id}");
        }
    }

    #[test]
    fn a_name_is_one_models() {
        let names = names_of(&["/a/q.gguf", "/b/q.gguf", "/c/plain.gguf", "plain", "/d/r.gguf"]);
        let names: Vec<_> = names.iter().map(|name| name.as_deref()).collect();
        assert_eq!((names[0], names[3], names[4]), (Ok("q"), Ok("plain"), Ok("r")));
        assert!(names[1].unwrap_err().contains("NAME=/b/q.gguf"), "{names:?}");
        assert!(names[2].unwrap_err().contains("NAME=/c/plain.gguf"), "{names:?}");
    }
}
