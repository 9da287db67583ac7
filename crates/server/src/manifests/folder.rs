//! The manifests' folder while the realm runs: what is added, changed or removed there takes
//! effect without a restart.
//!
//! The folder is looked at every half second, file by file, and read only where a file's stamp
//! changed. Why not the kernel's word (inotify, by the crate `notify`): it says nothing for folders
//! that other machines or a container's host write, has a limit that a user may have used up, and
//! needs the folder to be there; at most 256 stamps a look cost less than a millisecond a second.
//!
//! Invariants: a file is read only when it stood still for one look, so that half a file is not
//! taken for a broken one; a file that cannot be used keeps what it gave before, and is told once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Entry, ManifestError, Manifests, compile, files, read};
use crate::told::cut;

/// Bytes of what is said of one problem.
const PROBLEM_BYTES_MAX: usize = 1_024;
/// Problems that are told; there are no more files than [`super::FILES_MAX`].
const PROBLEMS_MAX: usize = 32;

/// What a file looked like: another one means that it has to be read again.
type Stamp = (u64, Option<SystemTime>);

#[derive(Debug)]
struct File {
    stamp: Stamp,
    /// It stood still for one look, and was read.
    settled: bool,
    /// What it gave when it was last good.
    entry: Option<Entry>,
    problem: Option<String>,
}

/// The folder, as it was seen last.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Of the folder itself.
    problem: Option<String>,
}

/// A file that cannot be used, or the folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ManifestProblem {
    /// Its name, without the folder.
    pub file: String,
    /// What is wrong, where, and what to do.
    pub problem: String,
    /// What it gave before is still in force.
    pub keeps: Option<String>,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestNews {
    Added {
        name: String,
        file: String,
    },
    Changed {
        name: String,
        file: String,
    },
    /// `built_in`: the one that ships with the binary is in force again.
    Removed {
        name: String,
        file: String,
        built_in: bool,
    },
    Broken(ManifestProblem),
}

impl Folder {
    /// Reads the whole folder; the first file that cannot be used is the error.
    pub fn open(dir: &Path) -> Result<(Self, Manifests), ManifestError> {
        let mut folder = Self { dir: dir.into(), files: BTreeMap::new(), problem: None };
        for path in files(dir)? {
            let stamp = stamp(&path);
            let entry = compile(&path, &read(&path)?)?;
            if let Some((other, _)) = folder.owner(&entry.manifest.name) {
                return Err(taken(&path, other));
            }
            let file = File { stamp, settled: true, entry: Some(entry), problem: None };
            folder.files.insert(path, file);
        }
        let table = folder.table()?;
        Ok((folder, table))
    }

    /// The file whose entry has that name, the first by path.
    fn owner(&self, name: &str) -> Option<(&Path, &File)> {
        let has = |file: &File| file.entry.as_ref().is_some_and(|e| e.manifest.name == name);
        self.files.iter().find(|(_, file)| has(file)).map(|(path, file)| (path.as_path(), file))
    }

    fn table(&self) -> Result<Manifests, ManifestError> {
        let mut all = Manifests::built_in()?;
        for entry in self.files.values().filter_map(|file| file.entry.as_ref()) {
            all.put(entry.clone());
        }
        Ok(all)
    }

    /// Looks once; gives the new table if another one is in force, and what there is to tell.
    pub fn look(&mut self) -> (Option<Manifests>, Vec<ManifestNews>) {
        let mut news = Vec::new();
        let there = match files(&self.dir) {
            Ok(there) => there,
            Err(error) => {
                let problem = said(&error);
                if self.problem.as_ref() != Some(&problem) {
                    self.problem = Some(problem);
                    news.extend(self.folder_problem().map(ManifestNews::Broken));
                }
                return (None, news);
            }
        };
        self.problem = None;
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !there.contains(path)).cloned().collect();
        for path in gone {
            if let Some(entry) = self.files.remove(&path).and_then(|file| file.entry) {
                let (name, file) = (entry.manifest.name, name_of(&path));
                let built_in = is_built_in(&name);
                news.push(ManifestNews::Removed { name, file, built_in });
                // What was wrong may have been that its name was taken.
                let wrong = |file: &&mut File| file.problem.is_some();
                self.files.values_mut().filter(wrong).for_each(|file| file.settled = false);
            }
        }
        for path in there {
            self.look_at(path, &mut news);
        }
        let changed = news.iter().any(|news| !matches!(news, ManifestNews::Broken(_)));
        // The built-in ones are good, or nothing had started.
        (changed.then(|| self.table().ok()).flatten(), news)
    }

    fn look_at(&mut self, path: PathBuf, news: &mut Vec<ManifestNews>) {
        let stamp = stamp(&path);
        let Some(file) = self.files.get_mut(&path) else {
            let file = File { stamp, settled: false, entry: None, problem: None };
            self.files.insert(path, file);
            return;
        };
        if file.stamp != stamp {
            (file.stamp, file.settled) = (stamp, false);
            return;
        }
        if file.settled {
            return;
        }
        file.settled = true;
        let made = read(&path).and_then(|text| compile(&path, &text)).and_then(|entry| {
            let other = self.owner(&entry.manifest.name).filter(|(other, _)| *other != path);
            other.map_or(Ok(entry), |(other, _)| Err(taken(&path, other)))
        });
        let Some(file) = self.files.get_mut(&path) else { return };
        let name_of_file = name_of(&path);
        match made {
            Ok(entry) => {
                file.problem = None;
                let name = entry.manifest.name.clone();
                let before = file.entry.replace(entry).map(|entry| entry.manifest.name);
                let file = name_of_file;
                match before {
                    Some(before) if before == name => {
                        news.push(ManifestNews::Changed { name, file });
                    }
                    Some(before) => {
                        let removed = file.clone();
                        let built_in = is_built_in(&before);
                        news.push(ManifestNews::Removed { name: before, file: removed, built_in });
                        news.push(ManifestNews::Added { name, file });
                    }
                    None => news.push(ManifestNews::Added { name, file }),
                }
            }
            Err(error) => {
                file.problem = Some(said(&error));
                news.extend(problem(&path, file).map(ManifestNews::Broken));
            }
        }
    }

    /// Everything that is wrong just now.
    pub fn problems(&self) -> Vec<ManifestProblem> {
        let of_files = self.files.iter().filter_map(|(path, file)| problem(path, file));
        self.folder_problem().into_iter().chain(of_files).take(PROBLEMS_MAX).collect()
    }

    fn folder_problem(&self) -> Option<ManifestProblem> {
        let problem = self.problem.clone()?;
        Some(ManifestProblem { file: name_of(&self.dir), problem, keeps: None })
    }
}

fn problem(path: &Path, file: &File) -> Option<ManifestProblem> {
    let problem = file.problem.clone()?;
    let keeps = file.entry.as_ref().map(|entry| entry.manifest.name.clone());
    Some(ManifestProblem { file: name_of(path), problem, keeps })
}

fn taken(path: &Path, other: &Path) -> ManifestError {
    let why = format!("the name is taken by {}: choose another", name_of(other));
    ManifestError::Field { path: path.into(), field: "name".into(), why }
}

fn is_built_in(name: &str) -> bool {
    super::BUILT_IN.iter().any(|(file, _)| file.strip_suffix(".toml") == Some(name))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// One that cannot be looked at has a stamp of its own, and reading it says why.
fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).map_or((u64::MAX, None), |found| (found.len(), found.modified().ok()))
}

/// In one line, without the excerpt of the file that the parser would show.
fn said(error: &ManifestError) -> String {
    let mut text = error.sentence();
    cut(&mut text, PROBLEM_BYTES_MAX);
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dir, good};
    use super::*;

    fn settle(folder: &mut Folder) -> (Option<Manifests>, Vec<ManifestNews>) {
        let (table, news) = folder.look();
        assert!(table.is_none() && news.is_empty(), "it has not stood still: {news:?}");
        folder.look()
    }

    #[test]
    fn a_file_is_taken_when_it_stood_still_and_a_broken_one_keeps_what_it_gave() {
        let dir = dir("live");
        let (mut folder, table) = Folder::open(&dir).unwrap();
        assert!(table.get("shout").is_none());
        let path = dir.join("a.toml");
        std::fs::write(&path, good("shout", "1")).unwrap();
        let (table, news) = settle(&mut folder);
        assert!(table.unwrap().get("shout").is_some());
        let file = "a.toml".to_owned();
        assert_eq!(news, [ManifestNews::Added { name: "shout".into(), file: file.clone() }]);
        assert_eq!(folder.look().1, [], "told once");

        std::fs::write(&path, "name = \"shout\"\nversion = ").unwrap();
        let (table, news) = settle(&mut folder);
        assert!(table.is_none());
        let [ManifestNews::Broken(problem)] = news.as_slice() else { panic!("{news:?}") };
        assert_eq!((problem.file.as_str(), problem.keeps.as_deref()), ("a.toml", Some("shout")));
        assert!(problem.problem.contains("line 2"), "{problem:?}");
        assert_eq!(folder.problems(), std::slice::from_ref(problem));
        assert_eq!(folder.look().1, [], "told once");

        std::fs::write(&path, good("shout", "20")).unwrap();
        let (table, news) = settle(&mut folder);
        let price = table.unwrap().get("shout").unwrap().manifest.price;
        assert_eq!(price.amount.units(), 20);
        assert_eq!(news, [ManifestNews::Changed { name: "shout".into(), file: file.clone() }]);
        assert_eq!(folder.problems(), []);

        std::fs::remove_file(&path).unwrap();
        let (table, news) = folder.look();
        assert!(table.unwrap().get("shout").is_none());
        let built_in = false;
        assert_eq!(news, [ManifestNews::Removed { name: "shout".into(), file, built_in }]);
    }

    #[test]
    fn a_name_has_one_file_and_a_built_in_one_comes_back() {
        let dir = dir("names");
        std::fs::write(dir.join("a.toml"), good("echo", "7")).unwrap();
        let (mut folder, table) = Folder::open(&dir).unwrap();
        assert_eq!(table.get("echo").unwrap().manifest.price.amount.units(), 7);
        std::fs::write(dir.join("b.toml"), good("echo", "8")).unwrap();
        let (table, news) = settle(&mut folder);
        assert!(table.is_none());
        let [ManifestNews::Broken(problem)] = news.as_slice() else { panic!("{news:?}") };
        assert!(problem.problem.contains("a.toml"), "{problem:?}");
        std::fs::remove_file(dir.join("a.toml")).unwrap();
        let (table, news) = folder.look();
        let (name, file) = ("echo".to_owned(), "b.toml".to_owned());
        let added = ManifestNews::Added { name, file };
        assert!(
            matches!(&news[..], [ManifestNews::Removed { built_in: true, .. }, last] if *last == added),
            "{news:?}"
        );
        assert_eq!(table.unwrap().get("echo").unwrap().manifest.price.amount.units(), 8);
        std::fs::remove_file(dir.join("b.toml")).unwrap();
        let table = folder.look().0.unwrap();
        assert_eq!(table.get("echo").unwrap().manifest.price.amount.units(), 1);
    }
}
