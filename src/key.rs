// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! 32-byte keys: secret ones are wiped when dropped and hidden in Debug, public ones are values.

use std::fmt;
use std::hint;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes in a key (`WG_KEY_LEN`, linux/wireguard.h).
pub const KEY_LEN: usize = 32;
/// Characters in a key's base64 text, padding included.
pub const BASE64_LEN: usize = 44;

/// A Curve25519 public key. Anybody may see it, so it is copied and left behind like a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        PublicKey(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Exactly 44 characters of canonical base64, or `None`.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut key = PublicKey([0; KEY_LEN]);
        decode_base64(text, &mut key.0).then_some(key)
    }

    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Writes [`BASE64_LEN`] characters.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_base64(&self, out: &mut impl Write) -> io::Result<()> {
        write_base64(&self.0, out)
    }

    /// Exactly 64 hexadecimal digits, or `None` (the userspace API's form).
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut key = PublicKey([0; KEY_LEN]);
        decode_hex(text, &mut key.0).then_some(key)
    }

    /// Writes 64 hexadecimal digits.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_hex(&self, out: &mut impl Write) -> io::Result<()> {
        write_hex(&self.0, out)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_base64())
    }
}

/// 32 secret bytes that no program prints by accident.
///
/// They have a place of their own and stay there: a key that moves, or a growing list of keys,
/// would leave copies in freed memory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8; KEY_LEN]>);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Key {
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Key(Box::new(bytes))
    }

    fn zero() -> Self {
        Key(Box::new([0; KEY_LEN]))
    }

    /// `None` when `bytes` is not exactly [`KEY_LEN`] long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_LEN {
            return None;
        }
        let mut key = Key::zero();
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// All zero: the kernel's way to say "no key".
    pub fn is_zero(&self) -> bool {
        self.0.iter().fold(0u8, |acc, b| acc | b) == 0
    }

    /// Exactly 44 characters of canonical base64, or `None`.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut key = Key::zero();
        decode_base64(text, &mut key.0).then_some(key)
    }

    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Writes [`BASE64_LEN`] characters.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_base64(&self, out: &mut impl Write) -> io::Result<()> {
        write_base64(&self.0, out)
    }

    /// Exactly 64 hexadecimal digits, or `None` (the userspace API's form).
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut key = Key::zero();
        decode_hex(text, &mut key.0).then_some(key)
    }

    /// Writes 64 hexadecimal digits.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_hex(&self, out: &mut impl Write) -> io::Result<()> {
        write_hex(&self.0, out)
    }

    /// A key whose bytes `fill` writes.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn fill_with<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Key::zero();
        fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// Curve25519 clamping (RFC 7748, section 5).
    pub fn clamped(mut self) -> Self {
        self.0[0] &= 248;
        self.0[31] = (self.0[31] & 127) | 64;
        self
    }

    /// The public key that belongs to this private key (RFC 7748).
    pub fn public(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        let public = x25519_dalek::PublicKey::from(&secret);
        drop(secret);
        // The arithmetic keeps the key in local variables of many functions.
        wipe_stack();
        PublicKey(public.to_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Whether `text` was a whole key. What was decoded of a wrong one is most of a key, so nothing of
/// it is left anywhere but in `key`.
fn decode_base64(text: &str, key: &mut [u8; KEY_LEN]) -> bool {
    // The decoder asks for room for the padding, too.
    let mut bytes = Zeroizing::new([0; KEY_LEN + 1]);
    let whole = text.len() == BASE64_LEN
        && STANDARD.decode_slice(text, bytes.as_mut_slice()) == Ok(KEY_LEN);
    key.copy_from_slice(&bytes[..KEY_LEN]);
    whole
}

/// Whether `text` was a whole key.
fn decode_hex(text: &[u8], key: &mut [u8; KEY_LEN]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.len() == KEY_LEN * 2
        && key
            .iter_mut()
            .zip(text.chunks_exact(2))
            .all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => {
                    *byte = ((high << 4) | low) as u8;
                    true
                }
                _ => false,
            })
}

fn write_base64(key: &[u8; KEY_LEN], out: &mut impl Write) -> io::Result<()> {
    let mut text = Zeroizing::new([0; BASE64_LEN]);
    // It is as long as the text of a key.
    let _ = STANDARD.encode_slice(key, text.as_mut_slice());
    out.write_all(text.as_slice())
}

fn write_hex(key: &[u8; KEY_LEN], out: &mut impl Write) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new([0; KEY_LEN * 2]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(key) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.write_all(text.as_slice())
}

/// More than the functions that handle keys use of the stack.
const STACK: usize = 64 * 1024;

/// Overwrites what functions that have returned left on the stack. Local variables cannot be
/// wiped one by one: the compiler moves and spills them as it likes.
#[inline(never)]
pub fn wipe_stack() {
    let mut stack = [0u8; STACK];
    stack.zeroize();
    hint::black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_it_by_accident() {
        assert_eq!(
            format!("{:?}", Key::from_bytes([0x41; KEY_LEN])),
            "Key(hidden)"
        );
    }

    /// The scalars of RFC 7748, section 5.2, and the numbers that they are decoded to.
    #[test]
    fn clamped_as_the_rfc_decodes_scalars() {
        for (scalar, decoded) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "a046e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449a44",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "4866e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba4d",
            ),
        ] {
            let hex = |key: &Key| {
                let mut text = Vec::new();
                key.write_hex(&mut text).unwrap();
                String::from_utf8(text).unwrap()
            };
            let key = Key::from_hex(scalar.as_bytes()).unwrap();
            assert_eq!(hex(&key), scalar);
            assert_eq!(hex(&key.clamped()), decoded);
        }
    }

    #[test]
    fn hexadecimal_is_64_digits() {
        let good = "0f".repeat(KEY_LEN);
        assert!(Key::from_hex(good.as_bytes()).is_some());
        for wrong in [&good[1..], &(good.clone() + "0"), &good.replace('f', "g")] {
            assert!(Key::from_hex(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
