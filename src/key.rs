// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A 32-byte Curve25519 or preshared key: wiped when dropped, hidden in Debug.

use std::fmt;
use std::hint;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes in a key (`WG_KEY_LEN`, linux/wireguard.h).
pub const KEY_LEN: usize = 32;
/// Characters in a key's base64 text, padding included.
pub const BASE64_LEN: usize = 44;

/// 32 bytes that no program prints by accident.
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
        if text.len() != BASE64_LEN {
            return None;
        }
        // Wiped also where the text is wrong: what was decoded before that is most of a key.
        let mut bytes = Zeroizing::new([0; BASE64_LEN]);
        let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        Key::from_slice(&bytes[..length])
    }

    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Exactly 64 hexadecimal digits, or `None` (the userspace API's form).
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != KEY_LEN * 2 {
            return None;
        }
        let mut key = Key::zero();
        for (byte, pair) in key.0.iter_mut().zip(text.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(key)
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(KEY_LEN * 2));
        for byte in self.0.iter() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
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
    pub fn public(&self) -> Key {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        let public = x25519_dalek::PublicKey::from(&secret);
        drop(secret);
        // The arithmetic keeps the key in local variables of many functions.
        wipe_stack();
        Key::from_bytes(public.to_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
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
            let key = Key::from_hex(scalar).unwrap();
            assert_eq!(*key.to_hex(), scalar);
            assert_eq!(*key.clamped().to_hex(), decoded);
        }
    }

    #[test]
    fn hexadecimal_is_64_digits() {
        let good = "0f".repeat(KEY_LEN);
        assert!(Key::from_hex(&good).is_some());
        for wrong in [&good[1..], &(good.clone() + "0"), &good.replace('f', "g")] {
            assert!(Key::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
