//! Public models: pulled from a server on loopback, by the library and by the real binary.

mod list;
mod program;
mod pull;
mod server;

use std::path::{Path, PathBuf};

use eyas::model::hub::Sha256;

/// Large enough to come in many pieces.
const SIZE: usize = 300_000;

/// Bytes that repeat only after the file ends, so that a part in the wrong place shows.
fn content() -> Vec<u8> {
    (0..SIZE as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes).unwrap().0
}

/// A list with the model `m`, which is `content` at `url`. `more` are further lines of its table.
fn list(url: &str, content: &[u8], more: &str) -> String {
    format!(
        "[m]\ndescription = 'a model'\ntask = 'detect'\nlicence = 'MIT'\nsource = 'https://example.org'\nurl = '{url}'\n\
         size = {}\nsha256 = '{}'\n{more}\n",
        content.len(),
        sha256(content)
    )
}

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/demo")
        .join(name)
}
