//! SHA-256 of files.

use std::fmt;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};

/// A SHA-256 hash. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The hash of all that is left to read, and how many bytes that were.
    pub fn of(mut source: impl Read) -> io::Result<(Self, u64)> {
        let mut context = Context::new(&SHA256);
        let (mut buffer, mut size) = (vec![0; 1 << 16], 0);
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    context.update(&buffer[..count]);
                    size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Ok((Self(bytes), size))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            Sha256::of(&b"abc"[..]).unwrap(),
            (Sha256::parse(abc).unwrap(), 3)
        );
        assert_eq!(Sha256::parse(abc).unwrap().to_string(), abc);
        for wrong in [
            "",
            &abc[1..],
            &abc.replace('a', "g"),
            &abc.replace("ba", "é"),
        ] {
            assert_eq!(Sha256::parse(wrong), None, "{wrong}");
        }
    }
}
