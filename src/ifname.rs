// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The names of interfaces as text. The kernel allows nearly any byte in them.
//!
//! A byte that is not UTF-8 becomes `%` and two digits, as in a URL. The kernel allows no `%` in
//! a name (it stands for a number there), so no two names become one.

use std::borrow::Cow;

use crate::model::IFNAME_MAX;

/// A name, or text with names in it, as text.
pub fn from_bytes(name: &[u8]) -> String {
    // Reserved beforehand: of a whole file, growing would leave a copy behind that is not wiped.
    let invalid: usize = name.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    let mut text = String::with_capacity(name.len() + 2 * invalid);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02x}")));
    }
    text
}

/// The bytes of a name. `None` where what follows a `%` is not a byte.
pub fn to_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    Some(bytes)
}

/// What [`from_bytes`] made a text of. Nothing else that begins with a `%` stands for a byte: it may be
/// in the name of a program's socket, or be a wrong name of the user.
pub fn name_bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return text.as_bytes().into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [
                b'%',
                high @ (b'8'..=b'9' | b'a'..=b'f'),
                low @ (b'0'..=b'9' | b'a'..=b'f'),
                after @ ..,
            ] => Some((read_digit(*high) << 4 | read_digit(*low), after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes.into()
}

/// Whether it has more bytes than the kernel takes.
pub fn is_too_long(name: &str) -> bool {
    name_bytes(name).len() > IFNAME_MAX
}

fn read_digit(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'0',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [
            &b"vrf_external"[..],
            b"red#1",
            b"gr\xfcn",
            b"\xff\xfe",
            "grün".as_bytes(),
        ] {
            assert_eq!(to_bytes(&from_bytes(name)).unwrap(), name);
            assert_eq!(*name_bytes(&from_bytes(name)), *name);
        }
        for plain in ["50%", "wg%30", "%g0", "%f", "%", "%FC"] {
            assert_eq!(*name_bytes(plain), *plain.as_bytes());
        }
        assert_eq!(from_bytes(b"gr\xfcn"), "gr%fcn");
        assert_eq!(to_bytes("red%231").unwrap(), b"red#1");
        for broken in ["%", "%2", "%g0", "%+1", "a%"] {
            assert_eq!(to_bytes(broken), None, "{broken}");
        }
    }
}
