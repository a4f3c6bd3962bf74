//! What a file is, by its content.

use crate::error::{Error, Result};

/// A kind of model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tflite,
    Onnx,
}

/// Tells a model by its first bytes; what is commonly mistaken for one is refused by its name.
pub(super) fn format(bytes: &[u8], name: &str) -> Result<Format> {
    if bytes.get(4..8) == Some(super::tflite::IDENTIFIER) {
        return Ok(Format::Tflite);
    }
    let text: Vec<u8> = bytes
        .iter()
        .take(64)
        .skip_while(|byte| byte.is_ascii_whitespace())
        .map(u8::to_ascii_lowercase)
        .collect();
    let reason = if bytes.is_empty() {
        "the file is empty; download or copy it again"
    } else if bytes.starts_with(b"version https://git-lfs") {
        "this is a Git LFS pointer, not the model; run `git lfs pull` where it came from, or download the file itself"
    } else if text.starts_with(b"<!doctype")
        || text.starts_with(b"<html")
        || text.starts_with(b"<?xml")
    {
        "this is a web page, not a model; download the raw file that the page links to"
    } else if bytes.starts_with(b"PK\x03\x04") {
        "this is a zip archive; unpack it and pass the .tflite or .onnx file inside"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "this is a gzip archive; unpack it and pass the .tflite or .onnx file inside"
    } else if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
        "this is a Keras file; convert it to .tflite"
    } else if is_onnx(bytes) {
        return Ok(Format::Onnx);
    } else {
        "this is neither a .tflite nor an .onnx file"
    };
    Err(Error::model(name, reason))
}

/// An ONNX file is a protobuf message that begins with `ir_version` (field 1, a small number), and goes on with a
/// field that `ModelProto` has.
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=0x20, tag, ..] if matches!(tag >> 3, 2..=8 | 14) && matches!(tag & 7, 0 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "git lfs pull",
            ),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"<HTML>", "web page"),
            (b"PK\x03\x04....", "zip archive"),
            (b"\x1f\x8b\x08\x00", "gzip archive"),
            (b"\x89HDF\r\n\x1a\n", "Keras"),
            (b"anything else", "neither"),
        ];
        for (bytes, message) in cases {
            let error = format(bytes, "m").unwrap_err().to_string();
            assert!(
                error.starts_with("m: ") && error.contains(message),
                "{error}"
            );
        }
    }

    #[test]
    fn models_are_told_by_content() {
        assert_eq!(format(b"\x1c\0\0\0TFL3\0\0", "m").unwrap(), Format::Tflite);
        assert_eq!(
            format(b"\x08\x07\x12\x07pytorch", "m").unwrap(),
            Format::Onnx
        );
    }
}
