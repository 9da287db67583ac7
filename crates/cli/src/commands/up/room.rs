//! How much memory, how many descriptors and what of its disk the realm may have: what the sysop says,
//! else what the system grants this process.

use std::path::Path;

use mtor_server::Room;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a realm answers hardly anybody.
const MEMORY_MIN: u64 = 32 * 1024 * 1024;

/// `268435456`, `256M` or `2G`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let expected = || "expected bytes, such as 268435456, 256M or 2G; at least 32M".to_owned();
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let text = text.to_ascii_uppercase();
    let with_unit = |(unit, shift)| Some((text.strip_suffix(unit)?, shift));
    let (number, shift) = units.into_iter().find_map(with_unit).unwrap_or((&text, 0));
    let bytes = number.parse::<u64>().map_err(|_| expected())?;
    let bytes = bytes.checked_mul(1_u64 << shift).ok_or_else(expected)?;
    if bytes < MEMORY_MIN { Err(expected()) } else { Ok(bytes) }
}

/// `said` is the realm's alone; of what the system grants models beside it take a half.
pub(super) fn of(said: Option<u64>, has_models: bool, data: &Path) -> Room {
    let usual = Room::default();
    let granted = || {
        let granted = granted(Path::new("/"))?;
        Some(if has_models { granted / 2 } else { granted })
    };
    let memory = said.or_else(granted).unwrap_or(usual.memory);
    let descriptors = open_files().unwrap_or(usual.descriptors);
    Room { memory, descriptors, disk: free(data).unwrap_or(usual.disk) }
}

/// Bytes that are free on the disk of a folder, or of where it will be.
fn free(data: &Path) -> Option<u64> {
    let data = std::path::absolute(data).ok()?;
    let found = rustix::fs::statvfs(data.ancestors().find(|path| path.exists())?).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Each connection takes one: as many as this process may have.
fn open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files stays limited");
        return limit.current;
    }
    raised.current
}

/// The least that a control group or the machine leaves. `None` where neither is told.
fn granted(root: &Path) -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let group = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let of_group = group.lines().filter_map(|line| {
        // Version 2 has one line, `0::/path`; of version 1 the line of `memory` counts.
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let base = root.join(base);
        // A group is bound by those above it, too; in a container its path may not be seen here.
        let path = base.join(path.trim_start_matches('/'));
        let groups = path.ancestors().take_while(|above| above.starts_with(&base));
        groups.filter_map(|above| read(&above.join(file))?.trim().parse::<u64>().ok()).min()
    });
    let machine = read(&root.join("proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    of_group.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_said_in_bytes_or_larger_units() {
        for (text, bytes) in [("33554432", 32 << 20), ("256M", 256 << 20), ("2g", 2 << 30)] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "31M", "-1", "1.5G", "99999999999999999999", "99999999999G", "2GB"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_least_of_group_those_above_it_and_machine_counts() {
        let root = std::env::temp_dir().join(format!("mtor-room-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(granted(&root), None);
        write("proc/meminfo", "MemTotal:        4096 kB\nMemFree: 1 kB\n");
        assert_eq!(granted(&root), Some(4 << 20));
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        write("sys/fs/cgroup/a/memory.max", "1048576\n");
        assert_eq!(granted(&root), Some(1 << 20));
        write("proc/self/cgroup", "12:cpu:/x\n4:memory:/c\n");
        write("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
        assert_eq!(granted(&root), Some(2 << 20));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
