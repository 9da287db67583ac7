//! Whether a model file fits into this machine's memory, in figures. Linux only; elsewhere nothing
//! is known, and nothing is refused.

use std::path::Path;

use crate::limits;

/// What a model of a size takes: its weights, a part of them in another layout, the context of all
/// slots and the buffers of a batch. Measured: 0.57 GB for 98 MB of weights, 2.37 GB for 1.12 GB.
pub fn memory_needed(file_bytes: u64) -> u64 {
    file_bytes.saturating_add(file_bytes / 2).saturating_add(limits::ENGINE_OVERHEAD_BYTES)
}

/// The same for any number of slots. Each has a context of its own: measured 92 MB for SmolLM2-135M,
/// by its shape 117 for Qwen2.5-Coder-1.5B and 540 for a Llama of 8 billion weights in 4.9 GB.
pub(crate) fn memory_needed_by(file_bytes: u64, slots: u32) -> u64 {
    let more = u64::from(slots.saturating_sub(limits::ENGINE_SLOTS));
    let slot = limits::ENGINE_SLOT_BYTES.saturating_add(file_bytes / 10);
    memory_needed(file_bytes).saturating_add(slot.saturating_mul(more))
}

/// What the system, and the control group that this process runs in, can still give.
pub fn memory_free() -> Option<u64> {
    memory_free_beside(0)
}

/// The same where so many bytes of model files are mapped by engines that run. To the system they
/// are a cache that can be dropped; but a model whose pages are dropped reads them again for each
/// token.
pub fn memory_free_beside(mapped: u64) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let system = available(&text)?.saturating_sub(mapped);
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(system.min(group_free(Path::new("/sys/fs/cgroup"), &group, mapped)))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least that a group (version 2) or one above it has left; cached files can be dropped, those
/// that are mapped should not be.
fn group_free(root: &Path, of_process: &str, mapped: u64) -> u64 {
    let path = of_process.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let group = root.join(path);
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| one_group_free(group, mapped)).min().unwrap_or(u64::MAX)
}

fn one_group_free(group: &Path, mapped: u64) -> Option<u64> {
    let text = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    // `max` is no number: the group is not bounded.
    let most = number(&text("memory.max")?)?;
    let used = number(&text("memory.current")?)?;
    let stat = text("memory.stat").unwrap_or_default();
    let figure = |name: &str| {
        let of = |line: &str| number(line.strip_prefix(name)?.strip_prefix(' ')?);
        stat.lines().find_map(of)
    };
    let inactive = figure("inactive_file").unwrap_or(0);
    // What is mapped and active is among the used already. What another group has paid for is not
    // among these.
    let mapped = mapped.min(figure("file_mapped").unwrap_or(mapped));
    let cached = inactive.saturating_add(figure("active_file").unwrap_or(0));
    let droppable = inactive.min(cached.saturating_sub(mapped));
    Some(most.saturating_sub(used.saturating_sub(droppable)))
}

/// Whether a model file fits beside what runs; if not, why, with figures.
///
/// # Errors
/// What is needed, what is free, and what to do.
pub fn fits_memory(file_bytes: u64, free: Option<u64>) -> Result<(), String> {
    fits(memory_needed(file_bytes), free)
}

/// The same for what is needed.
pub(crate) fn fits(needed: u64, free: Option<u64>) -> Result<(), String> {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    match free {
        Some(free) if free < needed => Err(format!(
            "needs about {} MiB of memory and {} MiB are free: stop other programs, or serve a \
             smaller model",
            mib(needed),
            mib(free)
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        assert_eq!(fits_memory(40 * MIB, Some(700 * MIB)), Ok(()));
        assert_eq!(fits_memory(u64::MAX, None), Ok(()));
        assert_eq!(memory_needed_by(40 * MIB, 4), memory_needed(40 * MIB));
        assert_eq!(memory_needed_by(40 * MIB, 14), memory_needed(40 * MIB) + 1_000 * MIB);
        let refused = fits_memory(1_000 * MIB, Some(700 * MIB)).unwrap_err();
        assert!(refused.contains("2140 MiB") && refused.contains("700 MiB"), "{refused}");
    }

    #[test]
    fn the_system_says_what_is_available() {
        let text = "MemTotal:       24604764 kB\nMemAvailable:       2048 kB\n";
        assert_eq!(available(text), Some(2 * MIB));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_narrowest_group_counts_and_its_cached_files_do_not() {
        let root = std::env::temp_dir().join(format!("mtor-groups-{}", std::process::id()));
        let inner = root.join("outer/inner");
        std::fs::create_dir_all(&inner).unwrap();
        let write = |group: &Path, name: &str, text: &str| {
            std::fs::write(group.join(name), text).unwrap();
        };
        write(&inner, "memory.max", "max\n");
        write(&inner, "memory.current", "5\n");
        write(&root.join("outer"), "memory.max", "1000\n");
        write(&root.join("outer"), "memory.current", "900\n");
        write(&root.join("outer"), "memory.stat", "anon 1\ninactive_file 300\n");
        let free = |mapped| group_free(&root, "0::/outer/inner\n", mapped);
        assert_eq!(free(0), 400);
        // Mapped files that are in use are among the used, and are not taken off once more.
        let stat = "anon 1\ninactive_file 300\nactive_file 500\nfile_mapped 450\n";
        write(&root.join("outer"), "memory.stat", stat);
        assert_eq!((free(0), free(500)), (400, 400));
        // Those that are not hot could be dropped, but should not be.
        let stat = "inactive_file 300\nactive_file 0\nfile_mapped 250\n";
        write(&root.join("outer"), "memory.stat", stat);
        assert_eq!((free(0), free(200), free(500)), (400, 200, 150));
        write(&inner, "memory.max", "25\n");
        assert_eq!(free(0), 20);
        let version_1 = group_free(&root, "1:memory:/outer\n", 0);
        assert_eq!(version_1, u64::MAX, "version 1 is not read");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
