//! A command on a terminal: its input, its output, or both.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The side of a terminal that a person sits at.
pub struct Terminal {
    person: File,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts a command on it.
    pub fn run(command: &mut Command) -> (Self, Child) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let side = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            Stdio::from(rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap())
        };
        command.env("TERM", "xterm").stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let person = File::from(person);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, seen) = (person.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error once nobody has the other side any more.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        (Self { person, shown }, child)
    }

    pub fn write(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    pub fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Looks until that stands there.
    #[track_caller]
    pub fn wait(&self, text: &str) {
        super::eventually(|| self.shown().contains(text));
    }
}
