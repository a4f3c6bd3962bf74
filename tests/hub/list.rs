//! The list of models.

use std::path::Path;

use eyas::model::hub::{LabelSource, Registry};

use super::{content, list, sha256};

#[test]
fn lists_that_cannot_be_used_are_refused_by_their_place() {
    let good = list("https://example.org/m.tflite", &content(), "");
    Registry::parse(&good, "l.toml").unwrap();
    Registry::parse(&good.replace("m.tflite", "m.tflite?download=1"), "l.toml").unwrap();
    for (from, to, word) in [
        ("[m]", "[M]", "\"M\""),
        ("[m]", "['../m']", "a-z"),
        ("[m]", "[codes]", "built-in"),
        (
            "https://example.org/m",
            "http://example.org/m",
            "no https address",
        ),
        ("m.tflite", "m.zip", "member"),
        ("size = 300000", "size = 0", "size 0"),
        ("size = 300000", "size = 999999999999", "size 999999999999"),
        ("sha256 = '", "sha256 = 'x", "64 hexadecimal"),
        ("task = 'detect'", "task = 'guess'", "guess"),
        ("task = 'detect'", "task = 'detect'\ncolour = 1", "colour"),
        (
            "task = 'detect'",
            "task = 'detect'\nlabels = 'voc'",
            "labels: \"voc\" is not one of embedded, coco, codes",
        ),
        ("licence = 'MIT'\n", "", "licence"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        let error = Registry::parse(&text, "l.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("l.toml: ") && error.contains(word),
            "{word}: {error}"
        );
    }
}

#[test]
fn names_near_a_wrong_one_are_suggested() {
    let registry = Registry::built_in().unwrap();
    assert_eq!(
        registry.near("coco-ssd-mobilnet-v2")[0],
        "coco-ssd-mobilenet-v2"
    );
    assert_eq!(registry.near("Codes"), ["codes"]);
    assert!(registry.near("birds").contains(&"mobilenet-v2-224-birds"));
    assert!(registry.near("zzz").is_empty());
}

/// Every file of the list that lies in `../shared` is what the list says, and runs.
#[test]
fn the_list_of_models_is_true() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let registry = Registry::built_in().unwrap();
    if !shared.exists() {
        eprintln!(
            "SKIPPED: ../shared is absent, so the sizes and hashes of models.toml were not checked"
        );
        return;
    }
    let mut checked = Vec::new();
    for file in std::fs::read_dir(shared)
        .unwrap()
        .map(|file| file.unwrap().path())
    {
        if file.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        let hash = sha256(&bytes);
        for entry in registry
            .entries()
            .iter()
            .filter(|entry| entry.model.sha256 == hash)
        {
            assert_eq!(entry.model.size, bytes.len() as u64, "{}", entry.name);
            let model = eyas::model::load(&bytes, &entry.name).unwrap();
            let embedded = entry.labels == LabelSource::Embedded;
            assert_eq!(model.metadata.labels.is_some(), embedded, "{}", entry.name);
            checked.push(entry.name.as_str());
        }
    }
    let unknown: Vec<&str> = registry
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .filter(|name| !checked.contains(name))
        .collect();
    assert_eq!(
        unknown,
        ["coco-ssd-mobilenet-v2"],
        "the only one that ../shared does not hold"
    );
}
