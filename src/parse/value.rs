// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Single values, with the reference's rules and words.

use std::net::IpAddr;

use crate::address::parse_ip;
use crate::bytes::split_text;
use crate::error::{Error, HIDDEN, Result, hide_keys, shown, shown_value};
use crate::ifname;
use crate::key::{Key, PublicKey};
use crate::model::{AllowedIp, AllowedIpUpdate, Change, IFNAME_MAX, bind_table};
use crate::parse::AllowedIps;

/// `isspace(3)` in the C locale.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn reject_value<T>(what: &str, value: &str) -> Result<T> {
    Err(Error::Invalid(format!("{what}: `{}'", shown_value(value))))
}

/// Digits only, and not more than `max`. Leading zeros do not make it octal.
fn parse_decimal(text: &str, max: u64) -> Option<u64> {
    let number = text.bytes().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        let shifted = number.checked_mul(10).filter(|_| digit < 10)?;
        shifted.checked_add(digit.into())
    });
    number.filter(|number| !text.is_empty() && *number <= max)
}

/// `off`, a decimal number or a hexadecimal one behind `0x`.
pub fn parse_fwmark(text: &str) -> Result<Change<u32>> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(Change::Clear);
    }
    let value = match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => parse_decimal(text, u64::MAX),
    };
    match value.map(u32::try_from) {
        Some(Ok(0)) => Ok(Change::Clear),
        Some(Ok(mark)) => Ok(Change::Set(mark)),
        _ => reject_value("Fwmark is neither 0/off nor 0-0xffffffff", text),
    }
}

/// `off` or seconds.
pub fn parse_keepalive(text: &str) -> Result<Change<u16>> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(Change::Clear);
    }
    match parse_decimal(text, u64::from(u16::MAX)).map(u16::try_from) {
        Some(Ok(0)) => Ok(Change::Clear),
        Some(Ok(seconds)) => Ok(Change::Set(seconds)),
        _ => reject_value(
            "Persistent keepalive interval is neither 0/off nor 1-65535",
            text,
        ),
    }
}

/// A device to bind to, or `off` (or nothing) to unbind.
///
/// A name may hold bytes that a file cannot: `%23` stands for `#`, as in a URL. No interface can
/// have a `%` in its name, so nothing is lost. `table:1023` stands for the VRF with that table.
pub fn parse_bind_dev(text: &str) -> Result<Change<String>> {
    if text.is_empty() || text.eq_ignore_ascii_case("off") {
        return Ok(Change::Clear);
    }
    if bind_table(text).is_some() {
        return Ok(Change::Set(text.to_owned()));
    }
    let Some(name) = ifname::to_bytes(text) else {
        return reject_value(
            "Bind device has a % without the two digits of a byte behind it",
            text,
        );
    };
    if name.len() > IFNAME_MAX {
        return reject_value(
            &format!("Bind device is longer than {IFNAME_MAX} bytes, which no interface name is"),
            text,
        );
    }
    // The kernel's own rule for names (dev_valid_name).
    let forbidden = |byte: &u8| b"/: \t\n\x0b\x0c\r\0".contains(byte);
    if name == b"." || name == b".." || name.iter().any(forbidden) {
        return reject_value("Bind device is not a name that an interface can have", text);
    }
    Ok(Change::Set(ifname::from_bytes(&name)))
}

/// A device as a file can name it, for [`parse_bind_dev`] to read.
pub fn bind_dev_text(name: &str) -> String {
    // A file has comments, a word that unbinds, and readers on a terminal.
    match name.split_at_checked(1) {
        Some((first, rest)) if name.eq_ignore_ascii_case("off") => {
            format!("%{:02x}{rest}", first.as_bytes()[0])
        }
        _ => name
            .chars()
            .map(|c| match c {
                '#' | '\0'..=' ' | '\x7f' => format!("%{:02x}", u32::from(c)),
                c => c.to_string(),
            })
            .collect(),
    }
}

/// A key that may be shown when it is wrong.
pub fn parse_public_key(text: &str) -> Result<PublicKey> {
    match PublicKey::from_base64(text) {
        Some(key) => Ok(key),
        None => Err(Error::Invalid(format!("{WRONG_KEY}: `{}'", shown(text)))),
    }
}

const WRONG_KEY: &str = "Key is not the correct length or format";

/// A key that is not shown, as a wrong one is mostly a right one with a typing error.
pub fn parse_secret_key(text: &str) -> Result<Key> {
    match Key::from_base64(text) {
        Some(key) => Ok(key),
        None => reject_value(WRONG_KEY, HIDDEN),
    }
}

/// Host and service of `host:port` or `[host]:port`.
pub fn split_endpoint(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::Invalid("Unable to parse empty endpoint".to_owned()));
    }
    let parts = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, rest)) = rest.split_once(']') else {
                return reject_value("Unable to find matching brace of endpoint", text);
            };
            rest.strip_prefix(':').map(|port| (host, port))
        }
        None => text.rsplit_once(':'),
    };
    match parts {
        Some((host, port)) if !port.is_empty() => Ok((host, port)),
        _ => reject_value("Unable to find port of endpoint", text),
    }
}

/// The number that a port is, or how it is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    /// A number that the C library would silently cut to 16 bits.
    TooLarge,
    /// The name of a service, perhaps.
    Name,
}

/// What `getaddrinfo(3)` takes for a number: blanks and a sign before the digits are fine.
pub fn parse_port(text: &str) -> Port {
    let number = text.trim_start_matches(is_space);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Port::Name;
    }
    match digits.parse::<u64>() {
        Ok(0) => Port::Number(0),
        Ok(value) if !negative => u16::try_from(value).map_or(Port::TooLarge, Port::Number),
        _ => Port::TooLarge,
    }
}

/// A list of prefixes, each with an optional `+` or `-` before it, without blanks.
///
/// A bad prefix ends the list; those before it are still given, for their warnings.
pub fn parse_allowed_ips(text: &str) -> (AllowedIps, Result<()>) {
    let mut list = AllowedIps {
        replace: true,
        ..AllowedIps::default()
    };
    let result = add_prefixes(text, &mut list);
    (list, result)
}

fn add_prefixes(text: &str, list: &mut AllowedIps) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (entry, after) = match split_text(text, b',') {
            Some((entry, after)) => (entry, Some(after)),
            None => (text, None),
        };
        rest = after;
        let (remove, sign) = match entry.as_bytes().first() {
            Some(b'-') => (true, 1),
            Some(b'+') => (false, 1),
            _ => (false, 0),
        };
        if sign == 1 {
            list.replace = false;
        }
        let prefix = parse_prefix(&entry[sign..])?;
        if has_host_part(prefix) {
            list.warnings.push(format!(
                "Warning: AllowedIP has nonzero host part: {}",
                &entry[sign..]
            ));
        }
        list.prefixes.push(&AllowedIpUpdate { prefix, remove });
    }
    Ok(())
}

/// `address[/bits]`.
fn parse_prefix(text: &str) -> Result<AllowedIp> {
    let (addr, bits) = match split_text(text, b'/') {
        Some((addr, bits)) => (addr, Some(bits)),
        None => (text, None),
    };
    let Some(ip) = parse_ip(addr.as_bytes()) else {
        // A key may have a slash.
        let whole = hide_keys(text);
        let addr = if *whole == *text { addr } else { &*whole };
        return reject_value("Unable to parse IP address", addr);
    };
    let max = match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let cidr = match bits {
        None => Some(max),
        Some(bits) => parse_decimal(bits, max),
    };
    match cidr.and_then(|cidr| u8::try_from(cidr).ok()) {
        Some(cidr) => Ok(AllowedIp { addr: ip, cidr }),
        None => reject_value("AllowedIP is not in the correct format", text),
    }
}

fn has_host_part(prefix: AllowedIp) -> bool {
    let AllowedIp { addr, cidr } = prefix;
    match addr {
        IpAddr::V4(v4) => u32::from(v4).checked_shl(u32::from(cidr)).unwrap_or(0) != 0,
        IpAddr::V6(v6) => u128::from(v6).checked_shl(u32::from(cidr)).unwrap_or(0) != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_devices() {
        for off in ["", "off", "Off", "OFF"] {
            assert_eq!(parse_bind_dev(off), Ok(Change::Clear));
        }
        for name in [
            "vrf_external",
            "a",
            "123456789012345",
            "eth0.1023",
            "-",
            "...",
        ] {
            assert_eq!(parse_bind_dev(name), Ok(Change::Set(name.to_owned())));
        }
        // As the kernel: no slash, colon or blank, not the two names of directories, 15 bytes.
        for name in [
            "1234567890123456",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\n",
            "ééééééééé",
        ] {
            let error = parse_bind_dev(name).expect_err(name).to_string();
            assert!(error.contains(&format!("`{}'", shown(name))), "{error}");
        }
    }

    /// Also one that a file would take for a comment or for "none".
    #[test]
    fn every_bind_device_can_be_written() {
        for name in ["vrf_external", "red#1", "#", "off", "Off", "offside"] {
            let text = bind_dev_text(name);
            let draft = crate::parse::conf::parse(&format!("[Interface]\nBindDev = {text}\n"));
            let read = crate::parse::Step::BindDev(Change::Set(name.to_owned()));
            assert_eq!(draft.steps, [read], "{text}");
        }
    }

    /// A secret that is wrong is a secret still.
    #[test]
    fn secrets_are_not_shown() {
        let wrong = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=";
        assert!(
            !parse_secret_key(wrong)
                .expect_err("wrong")
                .to_string()
                .contains("AAEC")
        );
        for line in [
            format!("[Interface]\nPrivateKey = {wrong}\n"),
            format!("[Peer]\nPrivateKey = {wrong}\n"),
            format!("[Interface]\npresharedkey = {wrong}\n"),
            format!("PrivateKey = {wrong}\n"),
            format!("[Interface]\nPrivateKey: {wrong}\n"),
            format!("[Interface]\nPrivatKey = {wrong}\n"),
        ] {
            let draft = crate::parse::conf::parse(&line);
            let error = draft.stopped.expect("an error").to_string();
            assert!(!error.contains("AAEC"), "{error}");
        }
    }

    /// Nor is one that stands under another word, or under none.
    #[test]
    fn keys_in_other_places_are_not_shown() {
        // With a slash in its middle, at which a prefix would end.
        let key = "qAECAwQFBgcICQoLDA0ODxAREhM/FRYXGBkaGxwdHh8=";
        for (line, wanted) in [
            (
                "[Interface]\nPrivatKey = @",
                "`PrivatKey=(hidden)' (did you mean `PrivateKey'?)",
            ),
            ("[Interface]\nPrivate-Key = @", "`Private-Key=(hidden)'"),
            ("[Interface]\nPrivateKey: @", "`PrivateKey:(hidden)'"),
            ("[Peer]\nPresharedKey @", "`PresharedKey(hidden)'"),
            ("[Peer]\nPSK=@", "`PSK=(hidden)'"),
            ("[Peer]\n@", "`(hidden)'"),
            ("@", "`(hidden)'"),
            ("[Interface]\n@ = x", "`(hidden)=x'"),
            ("[Peer]\nAllowedIPs = @", "address: `(hidden)'"),
            ("[Peer]\nAllowedIPs = 10.0.0.0/8, +@", "address: `(hidden)'"),
            (
                "[Peer]\nAllowedIPs = 10.0.0.0/@",
                "format: `10.0.0.(hidden)'",
            ),
            ("[Peer]\nPersistentKeepalive = @", "1-65535: `(hidden)'"),
            ("[Interface]\nFwMark = @", "0xffffffff: `(hidden)'"),
            (
                "[Interface]\nBindDev = @",
                "bytes, which no interface name is: `(hidden)'",
            ),
            // What everybody may see is shown.
            ("[Interface]\nPublicKey = @", "`PublicKey=@'"),
        ] {
            let text = format!("{}\n", line.replace('@', key));
            let error = crate::parse::conf::parse(&text).stopped.expect("an error");
            let error = error.to_string();
            assert!(error.contains(&wanted.replace('@', key)), "{error}");
            let public = line.contains("PublicKey");
            assert_eq!(
                error.contains("qAEC") || error.contains("FRYX"),
                public,
                "{error}"
            );
        }
    }
}
