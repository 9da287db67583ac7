//! Embeds the page: whatever stands in `web/dist/` becomes a table of files, so that nothing here
//! knows a name that the page's build chose. The forms that it compressed (`NAME.br`, `NAME.gz`)
//! stand beside each file. Where the page is not built, this says what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DIST: &str = "../../web/dist";
/// A file that is larger, and was compressed in both ways, is embedded only so: what runs models in the
/// page has 11 MB, and whoever can run it can unpack it.
const PLAIN_BYTES_MAX: u64 = 2 << 20;
/// What this crate serves, by the last part of a name; another one needs a line here.
const KINDS: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
];

fn main() {
    // A folder is looked through as a whole: a file more or less builds this again.
    println!("cargo::rerun-if-changed={DIST}");
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(problem) = embed() {
        println!("cargo::error={problem}");
    }
}

fn embed() -> Result<(), String> {
    let index = Path::new(DIST).join("index.html");
    if !index.exists() {
        return Err("the page is not built: run `make page` first, then this again".into());
    }
    #[expect(clippy::disallowed_methods, reason = "cargo tells a build script by its environment")]
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: build with cargo")?;
    let copies = Path::new(&out).join("page");
    let unwritten = |error| format!("the page's files are not copied: {error}");
    if copies.exists() {
        std::fs::remove_dir_all(&copies).map_err(unwritten)?;
    }
    std::fs::create_dir_all(&copies).map_err(unwritten)?;
    let mut table = format!("const INDEX: File = {};\n", file("index.html", &index, &copies)?);
    table += "const ASSETS: &[File] = &[\n";
    for (name, path) in files(&Path::new(DIST).join("assets"))? {
        if !name.ends_with(".br") && !name.ends_with(".gz") {
            table += &format!("    {},\n", file(&name, &path, &copies)?);
        }
    }
    table += "];\n";
    std::fs::write(Path::new(&out).join("page.rs"), table).map_err(unwritten)
}

/// By name, so that a lookup may halve its way.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let unread = |error| format!("{}: {error}", folder.display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.is_dir() {
            return Err(format!("{}: the page's assets lie in one folder", path.display()));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| format!("{}: the name is not UTF-8", path.display()))?;
        found.insert(name.to_owned(), path.clone());
    }
    Ok(found)
}

/// One row of the table.
fn file(name: &str, path: &Path, copies: &Path) -> Result<String, String> {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let kind = KINDS.iter().find(|(known, _)| *known == ending).map(|(_, kind)| kind).ok_or_else(
        || {
            format!(
                "web/dist: no media type is known for `{name}`: add it in crates/server/build.rs"
            )
        },
    )?;
    let packed = |ending: &str| {
        let name = format!("{name}.{ending}");
        let form = path.with_file_name(&name);
        if form.exists() {
            Ok::<_, String>(format!("Some({})", bytes(&name, &form, copies)?))
        } else {
            Ok("None".to_owned())
        }
    };
    let (br, gzip) = (packed("br")?, packed("gz")?);
    let unread = |error| format!("{}: {error}", path.display());
    let is_large = path.metadata().map_err(unread)?.len() > PLAIN_BYTES_MAX;
    let plain = if is_large && br != "None" && gzip != "None" {
        "None".to_owned()
    } else {
        format!("Some({})", bytes(name, path, copies)?)
    };
    Ok(format!("File {{ name: {name:?}, kind: {kind:?}, plain: {plain}, br: {br}, gzip: {gzip} }}"))
}

/// A copy, because whoever works on the page builds it again while this crate compiles.
fn bytes(name: &str, path: &Path, copies: &Path) -> Result<String, String> {
    std::fs::copy(path, copies.join(name))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let inside = format!("/page/{name}");
    Ok(format!("include_bytes!(concat!(env!(\"OUT_DIR\"), {inside:?}))"))
}
