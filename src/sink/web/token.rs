//! The secret that a client beyond this machine has to know.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::error::{Error, Result};

const MIN_LENGTH: usize = 16;
const MAX_LENGTH: usize = 256;

/// A secret of 16 to 256 letters, digits and `-._~`: characters that a URL and a cookie hold as they are (RFC 3986,
/// section 2.3; RFC 6265, section 4.1.1). `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new secret of 128 random bits.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::Internal(format!("no random numbers for a token: {error}")))?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// A secret that somebody chose, without the white space round it. The error says what a token is made of, and
    /// nothing of the text.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let fits = (MIN_LENGTH..=MAX_LENGTH).contains(&text.len());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if fits && text.bytes().all(is_plain) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "not a token: {MIN_LENGTH} to {MAX_LENGTH} letters, digits and -._~ are needed; `openssl rand -hex 16` makes one"
        ))
    }

    /// Whether a client's text is the secret. How long that takes tells nothing but the length.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The secret, to be shown to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_tokens_differ_and_are_well_formed() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(!one.matches(other.reveal()));
        assert_eq!(one.reveal().len(), 32);
        assert!(Token::parse(one.reveal()).unwrap().matches(one.reveal()));
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let token = Token::parse("  abcdefghijklmnop-._~\n").unwrap();
        assert!(token.matches("abcdefghijklmnop-._~"));
        for wrong in [
            "",
            "abcdefghijklmnop-._",
            "abcdefghijklmnop-._~x",
            "ABCDEFGHIJKLMNOP-._~",
        ] {
            assert!(!token.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn weak_and_odd_secrets_are_refused_and_never_shown() {
        let long = "x".repeat(257);
        for bad in [
            "",
            "short",
            "abcdefghijklmno",
            "abcdefgh ijklmnop",
            "abcdefghijklmno;p",
            "zażółć-gęślą-jaźń",
            &long,
        ] {
            let reason = Token::parse(bad).unwrap_err();
            assert!(reason.contains("16 to 256") && (bad.is_empty() || !reason.contains(bad)));
        }
        let token = Token::parse("abcdefghijklmnop").unwrap();
        assert!(!format!("{token:?}").contains("abc"));
    }
}
