//! Whether SQLite's write-ahead log has lost commits that were acknowledged.
//!
//! SQLite reads its `-wal` file up to the first frame whose checksum is wrong, and takes the rest
//! for the torn end of the last write. That is right after a power cut, where at most one
//! transaction was under way. But if two or more commit marks of the same generation stand beyond
//! the first bad frame, then at least one of them was synced and acknowledged, and the frame was
//! damaged later. What cannot be told apart is a damaged frame of the very last commit, and
//! damaged salts (8 bytes) of the commit mark before it.
//!
//! Layout: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE_MAX: usize = 65_536;
/// Of a torn end there is at most the one commit that was under way.
const TORN_COMMITS_MAX: u32 = 1;

/// Whether commits stand beyond the first frame that SQLite will not read.
pub(super) fn lost_commits(database: &Path) -> Result<bool, StoreError> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let path = PathBuf::from(path);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io(&path, error)),
    };
    let lost = scan(&mut BufReader::new(file)).map_err(|source| StoreError::io(&path, source))?;
    Ok(lost)
}

fn scan(file: &mut impl Read) -> Result<bool, std::io::Error> {
    let mut header = [0; HEADER];
    if !fill(file, &mut header)? {
        return Ok(false);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let page_bytes = usize::try_from(word(&header, 8)).unwrap_or(0);
    let page_fits = page_bytes.is_power_of_two() && (512..=PAGE_MAX).contains(&page_bytes);
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    let mut good = page_fits
        && word(&header, 0) & !1 == 0x377f_0682
        && sum == (word(&header, 24), word(&header, 28));
    // A damaged header hides every frame: the page size is then a guess, the salts the first's.
    let page_bytes = if page_fits { page_bytes } else { 4096 };
    let mut salts = good.then(|| [word(&header, 16), word(&header, 20)]);
    let mut beyond = 0;
    let mut frame = vec![0; FRAME_HEADER + page_bytes];
    while fill(file, &mut frame)? {
        let own = [word(&frame, 8), word(&frame, 12)];
        if own != *salts.get_or_insert(own) {
            // A frame of an earlier generation, or damaged salts.
            good = false;
            continue;
        }
        if good {
            sum = checksum(sum, &frame[..8], big_endian);
            sum = checksum(sum, &frame[FRAME_HEADER..], big_endian);
            good = sum == (word(&frame, 16), word(&frame, 20));
        }
        if !good && word(&frame, 4) != 0 {
            beyond += 1;
        }
    }
    Ok(beyond > TORN_COMMITS_MAX)
}

/// Whether there was enough to fill it.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<bool, std::io::Error> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |all, byte| (all << 8) | u32::from(*byte))
}

/// SQLite's running sum over pairs of 32-bit words, in the byte order the header names.
fn checksum(before: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = |at| if big_endian { word(bytes, at) } else { word(bytes, at).swap_bytes() };
    let mut sum = before;
    for at in (0..bytes.len()).step_by(8) {
        sum.0 = sum.0.wrapping_add(read(at)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(read(at + 4)).wrapping_add(sum.0);
    }
    sum
}
