//! Who may import whom: the table of `src/lib.rs`, and the rooms that crates and `unsafe` stay in.

use std::path::Path;

/// A module of the crate's root and the modules that it may use beside itself.
const LAYERS: [(&str, &[&str]); 18] = [
    ("error", &[]),
    ("polygon", &[]),
    ("tensor", &[]),
    ("kernels", &["tensor", "error"]),
    ("graph", &["tensor", "error"]),
    ("model", &["graph", "tensor", "error"]),
    ("plan", &["graph", "kernels", "tensor", "error"]),
    (
        "engine",
        &["plan", "model", "graph", "kernels", "tensor", "error"],
    ),
    (
        "detect",
        &[
            "engine", "plan", "model", "graph", "kernels", "tensor", "error", "source",
        ],
    ),
    (
        "quantize",
        &[
            "detect", "engine", "model", "graph", "tensor", "error", "source",
        ],
    ),
    ("dataset", &["source", "error"]),
    (
        "eval",
        &[
            "dataset", "detect", "engine", "model", "tensor", "source", "error",
        ],
    ),
    ("source", &["polygon", "error"]),
    ("track", &["detect", "source", "telemetry", "polygon"]),
    (
        "sink",
        &["detect", "track", "source", "telemetry", "polygon", "error"],
    ),
    ("telemetry", &["error"]),
    (
        "pipeline",
        &[
            "detect",
            "track",
            "source",
            "sink",
            "telemetry",
            "polygon",
            "error",
        ],
    ),
    (
        "cli",
        &[
            "dataset",
            "eval",
            "pipeline",
            "track",
            "sink",
            "source",
            "telemetry",
            "polygon",
            "quantize",
            "detect",
            "engine",
            "plan",
            "model",
            "graph",
            "kernels",
            "tensor",
            "error",
        ],
    ),
];

/// Of a module, the only items that another may use.
const ITEMS: [(&str, &str, &[&str]); 8] = [
    ("dataset", "source", &["picture_size"]),
    ("eval", "source", &["Frame"]),
    (
        "detect",
        "source",
        &["Frame", "PixelFormat", "YuvMatrix", "YuvRange", "YuvRow"],
    ),
    ("sink", "source", &["Frame", "PixelFormat", "YuvRange"]),
    (
        "sink",
        "detect",
        &["BoundingBox", "Classification", "Detection", "Threshold"],
    ),
    (
        "sink",
        "track",
        &["EventKind", "TrackEvent", "Zone", "ZoneKind"],
    ),
    ("track", "detect", &["BoundingBox", "Detection"]),
    ("track", "source", &["Frame", "PixelFormat", "YuvRange"]),
];

/// Words and the places under `src` that may say them. A word that ends in `_` stands for all that begin with it.
const ROOMS: [(&str, &[&str]); 35] = [
    ("unsafe", &["kernels/", "detect/simd/"]),
    (
        "arch",
        &[
            "kernels/mod.rs", // asks for the CPU's features
            "kernels/avx2.rs",
            "kernels/avx_vnni.rs",
            "kernels/avx512_vnni/",
            "kernels/neon/",
            "kernels/neon_dot/",
            "detect/simd/avx2.rs",
            "detect/simd/neon.rs",
        ],
    ),
    (
        "tract_",
        &["model/", "engine/", "quantize/tflite/", "quantize/onnx/"],
    ),
    ("prost", &["quantize/onnx/"]),
    ("flatbuffers", &["model/tflite/", "quantize/tflite/"]),
    ("flexbuffers", &["model/tflite/", "quantize/tflite/"]),
    ("zip", &["model/", "quantize/tflite/"]),
    ("rayon", &["plan/pool.rs"]),
    ("nokhwa", &["source/camera/linux/"]),
    ("v4l", &["source/camera/linux/"]),
    ("rustix", &["source/"]),
    ("imageproc", &["sink/draw.rs"]),
    ("ab_glyph", &["sink/draw.rs"]),
    ("jpeg_decoder", &["source/jpeg.rs"]),
    ("jpeg_encoder", &["sink/jpeg.rs"]),
    ("winit", &["sink/window/"]),
    ("softbuffer", &["sink/window/"]),
    ("axum", &["sink/web/"]),
    ("hyper", &["sink/web/"]),
    ("tokio", &["sink/web/", "sink/mqtt/"]),
    ("rumqttc", &["sink/mqtt/"]),
    ("rustls", &["sink/mqtt/"]),
    ("rustls_native_certs", &["sink/mqtt/tls.rs"]),
    ("subtle", &["sink/web/token.rs"]),
    ("getrandom", &["sink/web/token.rs", "sink/mqtt/"]),
    ("sd_notify", &["cli/service.rs"]),
    ("rppal", &["sink/gpio/rpi.rs"]),
    ("clap", &["cli/"]),
    ("crossterm", &["cli/"]),
    ("toml", &["cli/", "model/hub/"]),
    ("ureq", &["model/hub/"]),
    ("ring", &["model/hub/", "sink/mqtt/tls.rs"]),
    ("strsim", &["model/near.rs"]),
    ("roxmltree", &["dataset/voc/"]),
    ("serde_saphyr", &["dataset/yolo/"]),
];

/// The source files, each as its path under `src` (with `/`) and its code without comments.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.push((name.replace('\\', "/"), without_comments(&text)));
            }
        }
    }
    sources.sort();
    assert!(sources.len() > 50);
    sources
}

fn without_comments(text: &str) -> String {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    code.collect::<Vec<_>>().join("\n")
}

/// The module of the crate's root that a file belongs to; none for the root itself.
fn module(file: &str) -> Option<&str> {
    let module = file.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&module)).then_some(module)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifiers that begin the branches of a path's tail: `a::b` gives `a`; `{a::b, c}` gives `a` and `c`. Beside
/// each, what follows it.
fn branches(tail: &str) -> Vec<(&str, &str)> {
    let tail = tail.trim_start();
    let Some(group) = tail.strip_prefix('{') else {
        let end = tail.find(|c| !is_word(c)).unwrap_or(tail.len());
        return vec![tail.split_at(end)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                found.extend(branches(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

/// What a file uses of the crate: `(module, item)`; the item is empty where the module itself is meant. Paths that
/// climb to the root by `super` count as `crate`.
fn references(file: &str, code: &str) -> Vec<(String, String)> {
    let depth = file.split('/').count() - usize::from(file.ends_with("/mod.rs"));
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(|c| is_word(c) || c == ':' || c == '$') {
                continue;
            }
            for (name, rest) in branches(&code[at + prefix.len()..]) {
                let known = LAYERS.iter().any(|(module, _)| *module == name);
                match rest.trim_start().strip_prefix("::") {
                    Some(tail) if known => found.extend(
                        branches(tail)
                            .into_iter()
                            .map(|(item, _)| (name.to_owned(), item.to_owned())),
                    ),
                    _ => found.push((name.to_owned(), String::new())),
                }
            }
        }
    }
    found
}

/// What is wrong with a file's imports, in words.
fn forbidden_imports(file: &str, code: &str) -> Vec<String> {
    let Some(own) = module(file) else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == own) else {
        return vec![format!("src/{file}: the layer test knows no module {own}")];
    };
    let mut complaints = Vec::new();
    for (used, item) in references(file, code) {
        let is_module = LAYERS.iter().any(|(module, _)| *module == used);
        if !is_module || used == own {
            continue;
        }
        let items = ITEMS
            .iter()
            .find(|(from, to, _)| *from == own && *to == used);
        if !allowed.contains(&used.as_str()) {
            complaints.push(format!("src/{file}: {own} may not use {used}"));
        } else if let Some((_, _, items)) = items
            && !items.contains(&item.as_str())
        {
            complaints.push(format!("src/{file}: {own} may not use {used}::{item}"));
        }
    }
    complaints
}

/// Words out of their room, in words.
fn strays(file: &str, code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (word, rooms) in ROOMS {
        let says = code.match_indices(word).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + word.len()..]);
            let whole =
                !before.ends_with(is_word) && (word.ends_with('_') || !after.starts_with(is_word));
            let is_path = after.trim_start().starts_with("::") || word.ends_with('_');
            let is_keyword = word == "unsafe";
            let is_ours = before.ends_with("::") && word != "arch";
            whole && !is_ours && (is_path || is_keyword)
        });
        if says && !rooms.iter().any(|room| file.starts_with(room)) {
            complaints.push(format!(
                "src/{file}: {word} belongs in {}",
                rooms.join(", ")
            ));
        }
    }
    complaints
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let complaints: Vec<String> = sources()
        .iter()
        .flat_map(|(file, code)| forbidden_imports(file, code))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn crates_and_unsafe_stay_in_their_rooms() {
    let complaints: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| module(file).is_some())
        .flat_map(|(file, code)| strays(file, code))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_map_names_every_module() {
    let map = include_str!("../src/lib.rs");
    for (module, _) in LAYERS {
        assert!(map.contains(&format!("[`{module}`]")), "{module}");
        assert!(map.contains(&format!("pub mod {module};")), "{module}");
    }
    assert_eq!(map.matches("pub mod ").count(), LAYERS.len());
}

#[test]
fn a_wrong_import_is_found() {
    for (file, code) in [
        ("kernels/mod.rs", "use crate::graph::Op;"),
        ("kernels/scalar/conv.rs", "fn f() { crate::plan::go() }"),
        (
            "kernels/scalar/conv.rs",
            "use super::super::super::plan::Plan;",
        ),
        (
            "graph/mod.rs",
            "use crate::{\n    error::Error,\n    kernels::Isa,\n};",
        ),
        ("model/mod.rs", "use super::plan::Plan;"),
        ("detect/mod.rs", "use crate::source::{Frame, FrameSource};"),
        ("sink/draw.rs", "use crate::detect::Detector;"),
        ("sink/draw.rs", "use crate::detect;"),
        ("source/y4m.rs", "use crate::tensor::{Shape};"),
        ("novel.rs", ""),
    ] {
        assert_eq!(forbidden_imports(file, code).len(), 1, "{file}: {code}");
    }
    for (file, code) in [
        ("kernels/mod.rs", "use crate::error::{Error, Result};"),
        ("detect/mod.rs", "use crate::source::Frame;"),
        (
            "plan/mod.rs",
            "use crate::plan::step::Step; use crate::Result;",
        ),
        ("plan/lower/mod.rs", "use super::super::step::Step;"),
        (
            "cli/run.rs",
            "use crate::{pipeline, sink::{Sink, web::WebSink}};",
        ),
    ] {
        let complaints = forbidden_imports(file, code);
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}

#[test]
fn a_crate_out_of_its_room_is_found() {
    for (file, code) in [
        ("plan/step.rs", "let x = unsafe { y() };"),
        ("kernels/scalar/conv.rs", "use std::arch::aarch64::*;"),
        ("detect/mod.rs", "use tract_onnx::prelude::*;"),
        ("sink/web/hub.rs", "imageproc::drawing::draw();"),
        ("plan/mod.rs", "rayon::join(a, b)"),
    ] {
        assert_eq!(strays(file, code).len(), 1, "{file}: {code}");
    }
    for (file, code) in [
        ("kernels/neon/", "use std::arch::aarch64::*; unsafe {}"),
        ("engine/float.rs", "use tract_onnx::prelude::*;"),
        ("plan/mod.rs", "let image = unsafe_free(image);"),
    ] {
        let complaints = strays(file, code);
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}
