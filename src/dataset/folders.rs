//! Looking into folders.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Endings of picture files that eyas reads.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "gif", "webp"];

/// Folders deeper than this are not searched, which also ends circles of links.
const MAX_DEPTH: usize = 8;

/// The largest file with labels of one picture, or with names of classes.
pub(super) const MAX_SMALL_FILE: u64 = 8 << 20;

/// The ending of a file's name in small letters; empty if it has none.
pub(super) fn ending(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

pub(super) fn is_picture(path: &Path) -> bool {
    PICTURES.contains(&ending(path).as_str())
}

/// Files right in a folder, in the order of their names; none if there is no such folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = entries(folder);
    files.retain(|path| path.is_file());
    files
}

/// Files in a folder and in those below it that `wanted` takes, in the order of their paths.
pub(super) fn files_below(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(folder, &wanted, MAX_DEPTH, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, wanted: &impl Fn(&Path) -> bool, depth: usize, found: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.is_dir() {
            if depth > 0 {
                collect(&path, wanted, depth - 1, found);
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
}

/// What is in a folder, in the order of the names, without what is hidden.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with('.')
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    paths
}

/// The text of a file of at most `limit` bytes, which must be UTF-8; a byte order mark is dropped.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String> {
    let name = path.display();
    let length = std::fs::metadata(path)
        .map_err(Error::io(format!("read {name}")))?
        .len();
    if length > limit {
        return Err(super::data_error(
            path,
            format!("{length} bytes are more than the {limit} that such a file may have"),
        ));
    }
    let bytes = std::fs::read(path).map_err(Error::io(format!("read {name}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        super::data_error(path, format!("line {line} is not UTF-8 text"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.into(),
        None => text,
    })
}

/// A path below a folder as a name with `/`.
pub(super) fn name_below(path: &Path, folder: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let parts = below.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}
