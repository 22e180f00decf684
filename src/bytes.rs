// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Searches in bytes, in a third of the time that std takes. Inlined, as a file has a dozen for each peer.

use crate::sys;

/// What stands before the first `byte`, and what stands behind it.
#[inline(always)]
pub fn split_bytes(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = sys::find_byte(bytes, byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// What stands before the first `mark` of a text, an ASCII character, and what stands behind it.
#[inline(always)]
pub fn split_text(text: &str, mark: u8) -> Option<(&str, &str)> {
    let (before, rest) = split_bytes(text.as_bytes(), mark)?;
    Some((&text[..before.len()], &text[text.len() - rest.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first() {
        for (text, wanted) in [
            ("a=b=c", Some(("a", "b=c"))),
            ("=", Some(("", ""))),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(split_text(text, b'='), wanted, "{text}");
        }
    }
}
