//! Which files of its models a realm gives to pages: those that the visitor's own device can use.

use std::path::Path;

use mtor_server::Weight;

use crate::models::Model;

/// By the name that pages ask for.
const FILES: [(&str, &str); 3] = [
    ("encoder.ort", "moonshine-tiny-en.encoder.ort"),
    ("decoder.ort", "moonshine-tiny-en.decoder.ort"),
    ("tokenizer.bin", "moonshine-tiny-en.tokenizer.bin"),
];

/// Of models that are here and checked.
pub(super) fn of<'a>(models: impl Iterator<Item = &'a Model>, dir: &Path) -> Vec<Weight> {
    let mut weights = Vec::new();
    for model in models {
        for (name, kept) in FILES {
            let file = model.files.iter().find(|file| file.name == kept);
            weights.extend(file.map(|file| Weight {
                model: model.name.clone(),
                name: name.to_owned(),
                path: dir.join(kept),
                bytes: file.bytes,
                sha256: file.sha256.clone(),
            }));
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::built_in;

    #[test]
    fn the_catalogue_has_each_of_them_and_nothing_else_is_given() {
        let models = built_in().unwrap();
        let weights = of(models.iter(), Path::new("here"));
        let names: Vec<_> = weights.iter().map(|one| (&*one.model, &*one.name)).collect();
        let of_moonshine = |name| ("moonshine-tiny-en", name);
        assert_eq!(names, ["encoder.ort", "decoder.ort", "tokenizer.bin"].map(of_moonshine));
        assert_eq!(weights.iter().map(|one| one.bytes).sum::<u64>(), 43_943_830);
        assert!(weights.iter().all(|one| one.path.starts_with("here") && one.sha256.len() == 64));
    }
}
