// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! 32-byte keys: secret ones are wiped when dropped and hidden in Debug, public ones are values.

use std::fmt;
use std::hint;
use std::io::{self, Write};
use std::mem::MaybeUninit;

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
        // The decoder asks for room for the padding, too.
        let mut bytes = [0; KEY_LEN + 1];
        let whole =
            text.len() == BASE64_LEN && STANDARD.decode_slice(text, &mut bytes) == Ok(KEY_LEN);
        let key = *bytes.first_chunk()?;
        whole.then_some(PublicKey(key))
    }

    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Writes [`BASE64_LEN`] characters.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_base64(&self, out: &mut impl Write) -> io::Result<()> {
        let mut text = [0; BASE64_LEN];
        // It is as long as the text of a key.
        let _ = STANDARD.encode_slice(self.0, &mut text);
        out.write_all(&text)
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
        let mut bytes = Zeroizing::new([0; BASE64_LEN]);
        encode_base64(&self.0, &mut bytes);
        // Reserved beforehand: growing would leave a copy behind that is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(BASE64_LEN));
        text.extend(bytes.iter().copied().map(char::from));
        text
    }

    /// Writes [`BASE64_LEN`] characters.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_base64(&self, out: &mut impl Write) -> io::Result<()> {
        let mut text = Zeroizing::new([0; BASE64_LEN]);
        encode_base64(&self.0, &mut text);
        out.write_all(text.as_slice())
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

// Base64 of secret keys, and hexadecimal, without tables and branches: how long it takes, and what is in
// the caches afterwards, says nothing about a key. The crate base64, which public keys take, decodes by a
// table. In loops over whole arrays, so that the compiler takes many
// digits in one instruction.

/// All ones where `byte` is one of `first` to `last`, else 0.
fn within(byte: u8, first: u8, last: u8) -> u8 {
    let above = byte.wrapping_sub(first);
    spread_sign(above.wrapping_sub(last - first + 1) & !above)
}

/// All ones where the highest bit is one, else 0.
fn spread_sign(byte: u8) -> u8 {
    ((byte as i8) >> 7) as u8
}

/// From 128 for what is no digit.
fn base64_digit(char: u8) -> u8 {
    let upper = within(char, b'A', b'Z') & char.wrapping_sub(b'A' - 1);
    let lower = within(char, b'a', b'z') & char.wrapping_sub(b'a' - 27);
    let number = within(char, b'0', b'9') & char.wrapping_add(53 - b'0');
    let plus = within(char, b'+', b'+') & 63;
    let slash = within(char, b'/', b'/') & 64;
    (upper | lower | number | plus | slash).wrapping_sub(1)
}

fn base64_char(digit: u8) -> u8 {
    let above = |last: u8, step: u8| spread_sign(last.wrapping_sub(digit)) & step;
    let letter = digit + b'A' + above(25, 6);
    letter - above(51, 75) - above(61, 15) + above(62, 3)
}

/// From 128 for what is no digit.
fn hex_digit(char: u8) -> u8 {
    let number = within(char, b'0', b'9') & char.wrapping_sub(b'0' - 1);
    let upper = within(char, b'A', b'F') & char.wrapping_sub(b'A' - 11);
    let lower = within(char, b'a', b'f') & char.wrapping_sub(b'a' - 11);
    (number | upper | lower).wrapping_sub(1)
}

fn hex_char(digit: u8) -> u8 {
    digit + b'0' + (spread_sign(9u8.wrapping_sub(digit)) & (b'a' - b'0' - 10))
}

/// Whether all were digits.
fn are_digits(digits: &[u8]) -> bool {
    digits.iter().fold(0, |all, digit| all | digit) < 128
}

/// Whether `text` was a whole key. What was decoded of a wrong one is most of a key, so nothing of
/// it is left anywhere but in `key`.
fn decode_base64(text: &str, key: &mut [u8; KEY_LEN]) -> bool {
    let [text @ .., b'='] = text.as_bytes() else {
        return false;
    };
    if text.len() != BASE64_LEN - 1 {
        return false;
    }
    // The padding is taken for an `A`, and there are as many as instructions take at once.
    let mut digits = Zeroizing::new([b'A'; BASE64_LEN.next_multiple_of(16)]);
    digits[..BASE64_LEN - 1].copy_from_slice(text);
    for digit in digits.iter_mut() {
        *digit = base64_digit(*digit);
    }
    for (bytes, four) in key.chunks_mut(3).zip(digits.chunks_exact(4)) {
        let word = four
            .iter()
            .fold(0, |word, digit| (word << 6) | u32::from(*digit));
        bytes.copy_from_slice(&word.to_be_bytes()[1..][..bytes.len()]);
    }
    // Nor has the last digit bits that no byte has.
    are_digits(digits.as_slice()) && digits[BASE64_LEN - 2] & 3 == 0
}

/// Into a place of the caller: text that moves would leave a copy behind.
fn encode_base64(key: &[u8; KEY_LEN], text: &mut [u8; BASE64_LEN]) {
    for (four, bytes) in text.chunks_exact_mut(4).zip(key.chunks(3)) {
        let byte = |at: usize| u32::from(bytes.get(at).copied().unwrap_or(0));
        let word = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for (digit, shift) in four.iter_mut().zip([18, 12, 6, 0]) {
            *digit = (word >> shift & 63) as u8;
        }
    }
    for digit in text.iter_mut() {
        *digit = base64_char(*digit);
    }
    text[BASE64_LEN - 1] = b'=';
}

/// Whether `text` was a whole key.
fn decode_hex(text: &[u8], key: &mut [u8; KEY_LEN]) -> bool {
    if text.len() != KEY_LEN * 2 {
        return false;
    }
    let mut digits = Zeroizing::new([0; KEY_LEN * 2]);
    digits.copy_from_slice(text);
    for digit in digits.iter_mut() {
        *digit = hex_digit(*digit);
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4) | pair[1];
    }
    are_digits(digits.as_slice())
}

fn write_hex(key: &[u8; KEY_LEN], out: &mut impl Write) -> io::Result<()> {
    let mut text = Zeroizing::new([0; KEY_LEN * 2]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(key) {
        pair[0] = byte >> 4;
        pair[1] = byte & 15;
    }
    for digit in text.iter_mut() {
        *digit = hex_char(*digit);
    }
    out.write_all(text.as_slice())
}

/// More than the functions that handle keys use of the stack.
const STACK: usize = 64 * 1024;

/// Overwrites what functions that have returned left on the stack. Local variables cannot be
/// wiped one by one: the compiler moves and spills them as it likes.
#[inline(never)]
pub fn wipe_stack() {
    // A word at a time, which takes an eighth of the time.
    let mut stack = [MaybeUninit::<u64>::uninit(); STACK / 8];
    stack.as_mut_slice().zeroize();
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

    /// Ours for secret keys and the crate for public ones agree on each byte in each place.
    #[test]
    fn base64_of_secret_keys_is_that_of_public_ones() {
        let read = |text: &str| {
            let secret = Key::from_base64(text).map(|key| *key.0);
            let public = PublicKey::from_base64(text).map(|key| key.0);
            assert_eq!(secret, public, "{text}");
            secret
        };
        let good: [u8; KEY_LEN] = std::array::from_fn(|at| (at * 97) as u8);
        for at in 0..KEY_LEN {
            for byte in 0..=u8::MAX {
                let mut key = good;
                key[at] = byte;
                let text = PublicKey(key).to_base64();
                assert_eq!(*Key(Box::new(key)).to_base64(), text);
                assert_eq!(read(&text), Some(key));
            }
        }
        let text = PublicKey(good).to_base64();
        for at in 0..BASE64_LEN {
            for byte in 0..128 {
                let mut text = text.clone();
                text.replace_range(at..=at, char::from(byte).encode_utf8(&mut [0]));
                read(&text);
            }
        }
        for wrong in [
            "",
            "=",
            &text[1..],
            &format!("{text}="),
            &text.replace('=', "\u{ff}"),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_digits() {
        for byte in 0..=u8::MAX {
            let value = char::from(byte).to_digit(16);
            assert_eq!(
                value,
                Some(hex_digit(byte).into()).filter(|digit| *digit < 128)
            );
            let text = format!("{byte:02x}");
            assert_eq!([hex_char(byte >> 4), hex_char(byte & 15)], text.as_bytes());
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
