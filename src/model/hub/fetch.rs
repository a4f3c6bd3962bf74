//! Brings a file into a [`Part`]: asks for what is missing, and asks again when the connection fails.

use std::io::Read;

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use ureq::http::{HeaderMap, Response};

use super::http::{self, Client, Failure, Patience, Rest};
use super::part::Part;
use crate::error::{Error, Result};

/// How much of a file there is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Exactly(u64),
    /// An archive, whose own size is not known.
    AtMost(u64),
}

impl Size {
    fn limit(self) -> u64 {
        match self {
            Self::Exactly(size) | Self::AtMost(size) => size,
        }
    }

    /// Whether a file of `total` bytes can be the right one.
    fn allows(self, total: u64) -> bool {
        match self {
            Self::Exactly(size) => total == size,
            Self::AtMost(limit) => total <= limit,
        }
    }
}

/// Told after each piece: bytes that have come, and bytes in all where that is known.
pub(super) type OnPiece<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Brings the whole file at `url`. What an earlier download left in `part` is kept if the server still has the same
/// version, and if it is shorter than the file. `name` is for messages.
pub(super) fn fetch(
    name: &str,
    url: &str,
    size: Size,
    part: &mut Part,
    patience: Patience,
    on_piece: OnPiece<'_>,
) -> Result<()> {
    let client = Client::new(patience);
    let fail = |reason: String| Error::Download {
        model: name.into(),
        reason,
    };
    let (mut failures, mut furthest) = (0, part.len()?);
    loop {
        let reason = match attempt(&client, url, size, part, on_piece) {
            Ok(()) => return Ok(()),
            Err(Failure::Here(error)) => return Err(error),
            Err(Failure::Lasting(reason)) => return Err(fail(reason)),
            Err(Failure::Passing(reason)) => reason,
        };
        let reached = part.len()?;
        if reached > furthest {
            (failures, furthest) = (0, reached);
        }
        failures += 1;
        if failures >= patience.failures {
            let kept = match reached {
                0 => "",
                _ => "; what has come is kept for the next time",
            };
            return Err(fail(format!("{reason} (tried {failures} times){kept}")));
        }
        log::warn!("{name}: {reason}; trying again");
        std::thread::sleep(patience.pause * 2u32.saturating_pow(failures - 1));
    }
}

fn attempt(
    client: &Client,
    url: &str,
    size: Size,
    part: &mut Part,
    on_piece: OnPiece<'_>,
) -> std::result::Result<(), Failure> {
    if part.len()? >= size.limit() {
        part.restart(None)?;
    }
    let offset = part.len()?;
    let rest = match offset {
        0 => None,
        offset => Some(Rest {
            offset,
            etag: part.etag()?,
        }),
    };
    let response = client.get(url, rest.as_ref())?;
    let total = match response.status().as_u16() {
        206 => match continued(response.headers(), offset) {
            Some(total) => total,
            None => {
                part.restart(None)?;
                return Err(Failure::Passing(format!(
                    "{url} sends another part than was asked for"
                )));
            }
        },
        200 => {
            part.restart(http::strong_etag(response.headers()))?;
            number(response.headers(), CONTENT_LENGTH.as_str())
        }
        _ => {
            part.restart(None)?;
            return Err(Failure::Passing(format!(
                "{url} has no more than what has come"
            )));
        }
    };
    if let Some(total) = total.filter(|total| !size.allows(*total)) {
        part.restart(None)?;
        return Err(Failure::Lasting(wrong_size(url, total, size)));
    }
    receive(response, url, size, total, part, on_piece)
}

/// What is wrong with a file of `total` bytes.
fn wrong_size(url: &str, total: u64, size: Size) -> String {
    let expected = match size {
        Size::Exactly(size) => format!("{size} bytes"),
        Size::AtMost(limit) => format!("at most {limit} bytes"),
    };
    format!(
        "{url} has {total} bytes, and the list of models says {expected}; the file there was replaced"
    )
}

/// The size of the whole file, if an answer begins with the byte at `offset`.
fn continued(headers: &HeaderMap, offset: u64) -> Option<Option<u64>> {
    let range = http::header(headers, CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    (first.parse() == Ok(offset)).then(|| total.parse().ok())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    http::header(headers, name)?.parse().ok()
}

/// Appends the body of an answer to the part, and never more than the size allows.
fn receive(
    response: Response<Body>,
    url: &str,
    size: Size,
    total: Option<u64>,
    part: &mut Part,
    on_piece: OnPiece<'_>,
) -> std::result::Result<(), Failure> {
    let expected = match size {
        Size::Exactly(size) => Some(size),
        Size::AtMost(_) => total,
    };
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut length = part.len()?;
    loop {
        on_piece(length, expected);
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count as u64,
            Err(error) => {
                return Err(Failure::Passing(format!(
                    "{url} broke off after {length} bytes: {error}"
                )));
            }
        };
        if length + count > size.limit() {
            part.restart(None)?;
            return Err(Failure::Lasting(format!(
                "{url} sends more than the {} bytes that the list of models allows",
                size.limit()
            )));
        }
        part.append(&buffer[..count as usize])?;
        length += count;
    }
    match expected {
        Some(expected) if length < expected => Err(Failure::Passing(format!(
            "{url} ended after {length} of {expected} bytes"
        ))),
        _ => Ok(()),
    }
}
