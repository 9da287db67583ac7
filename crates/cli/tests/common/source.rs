//! A place on loopback where files can be fetched, at a rate, and from the middle.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub struct Source {
    pub url: String,
    /// Bytes a second of each answer; 0 holds it.
    pub rate: Arc<AtomicU64>,
}

impl Source {
    /// Serves a folder until the test's process ends.
    pub fn of(folder: &Path, rate: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rate = Arc::new(AtomicU64::new(rate));
        let (shared, folder) = (Arc::clone(&rate), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rate, folder) = (Arc::clone(&shared), folder.clone());
                // Whoever hangs up early is not this server's business.
                std::thread::spawn(move || answer(stream, folder, &rate).ok());
            }
        });
        Self { url, rate }
    }
}

fn answer(mut stream: TcpStream, folder: PathBuf, rate: &AtomicU64) -> std::io::Result<()> {
    const STEPS_A_SECOND: u64 = 20;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let Ok(mut file) = std::fs::File::open(folder.join(name)) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    };
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(from))?;
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{bytes}\r\nconnection: close\r\n\r\n",
        bytes - from,
        bytes - 1
    )?;
    loop {
        let step = rate.load(Ordering::Relaxed) / STEPS_A_SECOND;
        let mut buffer = vec![0; usize::try_from(step).unwrap()];
        let read = file.read(&mut buffer)?;
        if read == 0 && step > 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
        std::thread::sleep(Duration::from_millis(1_000 / STEPS_A_SECOND));
    }
}
