// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The netlink frame: headers, acknowledgements and the kernel's own words about an error.
//!
//! Headers are encoded by netlink-packet-core. Answers are taken apart here, in place: its
//! messages copy what they hold, keys as well, into memory that is not wiped, and they know no
//! extended acknowledgement.

use netlink_packet_core::{
    Emitable, NLA_HEADER_SIZE, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader,
    NetlinkSerializable, NlaBuffer, NlasIterator,
};
use zeroize::Zeroizing;

/// Bytes of `struct nlmsghdr`.
pub const HEADER_LEN: usize = 16;
/// Bytes of `struct genlmsghdr`.
pub const GENL_HEADER_LEN: usize = 4;

// linux/netlink.h
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A request as bytes. It may hold keys, so it is wiped when dropped.
pub type Request = Zeroizing<Vec<u8>>;

/// Frames `payload`. [`set_sequence`] fills in the sequence number when it is sent.
pub fn encode_request<P: NetlinkSerializable>(payload: &P, flags: u16) -> Request {
    let mut bytes = encode_header(payload.message_type(), flags, payload.buffer_len());
    payload.serialize(&mut bytes[HEADER_LEN..]);
    bytes
}

/// Frames a payload that is already bytes.
pub fn request_raw(message_type: u16, flags: u16, payload: &[u8]) -> Request {
    let mut bytes = encode_header(message_type, flags, payload.len());
    bytes[HEADER_LEN..].copy_from_slice(payload);
    bytes
}

fn encode_header(message_type: u16, flags: u16, payload: usize) -> Request {
    let mut header = NetlinkHeader::default();
    header.length = (HEADER_LEN + payload) as u32;
    header.message_type = message_type;
    header.flags = NLM_F_REQUEST | flags;
    let mut bytes = Zeroizing::new(vec![0; HEADER_LEN + payload]);
    header.emit(&mut bytes[..HEADER_LEN]);
    bytes
}

/// The flags of a request that wants nothing but an acknowledgement.
pub const ACK: u16 = NLM_F_ACK;
/// The flags of a request for all there is.
pub const DUMP: u16 = NLM_F_DUMP;

/// `NLA_F_NESTED` (linux/netlink.h)
const NESTED: u16 = 0x8000;

/// Adds an attribute to a request. `value` is far shorter than 16 bits can say.
pub fn put_attribute(request: &mut Request, kind: u16, value: &[u8]) {
    let length = (4 + value.len()) as u16;
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(value);
    let padding = value.len().next_multiple_of(4) - value.len();
    request.extend_from_slice(&[0; 3][..padding]);
}

/// Begins an attribute that holds others, and says where, for [`close_nest`].
pub fn open_nest(request: &mut Request, kind: u16) -> usize {
    put_attribute(request, kind | NESTED, &[]);
    request.len() - 4
}

/// Ends an attribute that holds others: at most 65 535 bytes, its header included.
pub fn close_nest(request: &mut Request, at: usize) {
    let length = (request.len() - at) as u16;
    request[at..at + 2].copy_from_slice(&length.to_ne_bytes());
}

/// Says how long a request is to which attributes were added.
pub fn set_length(request: &mut Request) {
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
}

pub fn set_sequence(request: &mut [u8], sequence: u32) {
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
}

/// One message as received.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A message of the family, without its `struct nlmsghdr`.
    Data { payload: &'a [u8], torn: bool },
    /// The end of a dump; `errno` is 0 when the dump went through.
    Done {
        errno: i32,
        extack: Option<String>,
        torn: bool,
    },
    /// An acknowledgement; `errno` is 0 for "done as asked".
    Ack { errno: i32, extack: Option<String> },
    /// The kernel dropped messages.
    Overrun,
}

/// The messages in `datagram` that answer `sequence`, in order.
///
/// # Errors
/// The datagram is not made of whole messages.
pub fn read_replies(mut datagram: &[u8], sequence: u32) -> Result<Vec<Reply<'_>>, &'static str> {
    let mut found = Vec::new();
    while !datagram.is_empty() {
        if datagram.len() < HEADER_LEN {
            return Err("netlink: a message shorter than its header");
        }
        let length = u32_at(datagram, 0) as usize;
        let kind = u16_at(datagram, 4);
        let flags = u16_at(datagram, 6);
        if length < HEADER_LEN || length > datagram.len() {
            return Err("netlink: a message with an impossible length");
        }
        let (message, answers) = (&datagram[..length], u32_at(datagram, 8) == sequence);
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
        if !answers {
            continue;
        }
        let payload = &message[HEADER_LEN..];
        let torn = flags & NLM_F_DUMP_INTR != 0;
        found.push(match kind {
            NLMSG_NOOP => continue,
            NLMSG_OVERRUN => Reply::Overrun,
            NLMSG_ERROR => {
                if payload.len() < 4 {
                    return Err("netlink: an acknowledgement without a code");
                }
                Reply::Ack {
                    errno: errno_at(payload),
                    extack: error_text(payload, flags),
                }
            }
            NLMSG_DONE => Reply::Done {
                // Old kernels end some dumps without a code.
                errno: if payload.len() < 4 {
                    0
                } else {
                    errno_at(payload)
                },
                extack: done_text(payload, flags),
                torn,
            },
            _ => Reply::Data { payload, torn },
        });
    }
    Ok(found)
}

/// A code in the kernel's way (0 or negative) as a positive errno.
fn errno_at(payload: &[u8]) -> i32 {
    (u32_at(payload, 0) as i32).checked_neg().unwrap_or(0)
}

/// The text behind a `struct nlmsgerr`.
fn error_text(payload: &[u8], flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // The request's header always comes back, its payload only without NETLINK_CAP_ACK.
    let echoed = if flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        (u32_at(payload.get(4..8)?, 0) as usize).next_multiple_of(4)
    };
    attribute_text(payload.get(4 + echoed..)?)
}

/// The text behind the code of an `NLMSG_DONE`.
fn done_text(payload: &[u8], flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    attribute_text(payload.get(4..)?)
}

fn attribute_text(attributes: &[u8]) -> Option<String> {
    find_attribute(attributes, NLMSGERR_ATTR_MSG).map(|value| read_text(&value))
}

/// The value of the first attribute of this type.
pub fn find_attribute(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    attributes_of(attributes)
        .find(|nla| nla.kind() == kind)
        .map(|nla| nla.value().to_vec())
}

/// The whole attributes in front of the first broken one.
pub fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// As [`attributes_of`], types and values in a fraction of the instructions: for what a device has
/// thousands of.
pub fn iter_attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(NLA_HEADER_SIZE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// The name of an interface, without its NUL.
pub fn read_name(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    crate::ifname::from_bytes(&value[..end])
}

/// A string attribute, without its NUL.
pub fn read_text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The bytes at `at`, which must be there.
pub fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes_at(bytes, at))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written from linux/netlink.h by hand; numbers are in the byte order of the machine.
    fn header(length: u32, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_error_brings_the_kernels_words() {
        let words = attribute(NLMSGERR_ATTR_MSG, b"no such device here\0");
        let capped = {
            let length = 16 + 4 + 16 + words.len() as u32;
            let mut bytes = header(length, 2, 0x100 | 0x200, 7);
            bytes.extend_from_slice(&(-19i32).to_ne_bytes());
            bytes.extend_from_slice(&header(400, 30, 5, 7));
            bytes.extend_from_slice(&words);
            bytes
        };
        let whole = {
            let length = 16 + 4 + 20 + words.len() as u32;
            let mut bytes = header(length, 2, 0x200, 7);
            bytes.extend_from_slice(&(-19i32).to_ne_bytes());
            bytes.extend_from_slice(&header(20, 30, 5, 7));
            bytes.extend_from_slice(&[9; 4]);
            bytes.extend_from_slice(&words);
            bytes
        };
        for bytes in [capped, whole] {
            assert_eq!(
                read_replies(&bytes, 7).unwrap(),
                [Reply::Ack {
                    errno: libc::ENODEV,
                    extack: Some("no such device here".into())
                }]
            );
        }
    }

    /// Without the flag, what follows is the request that failed, be it as long as it may.
    #[test]
    fn an_error_without_words_has_none() {
        let mut bytes = header(16 + 4 + 16 + 12, 2, 0, 7);
        bytes.extend_from_slice(&(-19i32).to_ne_bytes());
        bytes.extend_from_slice(&header(16, 30, 5, 7));
        bytes.extend_from_slice(&attribute(NLMSGERR_ATTR_MSG, b"request\0"));
        let silent = Reply::Ack {
            errno: libc::ENODEV,
            extack: None,
        };
        assert_eq!(read_replies(&bytes, 7).unwrap(), [silent]);
    }

    #[test]
    fn other_answers_are_left_out_and_torn_ones_are_marked() {
        let mut bytes = header(20, 30, 2 | 0x10, 5);
        bytes.extend_from_slice(b"abcd");
        bytes.extend_from_slice(&header(16, 30, 2, 4));
        bytes.extend_from_slice(&header(20, 3, 2, 5));
        bytes.extend_from_slice(&0i32.to_ne_bytes());
        assert_eq!(
            read_replies(&bytes, 5).unwrap(),
            [
                Reply::Data {
                    payload: b"abcd",
                    torn: true
                },
                Reply::Done {
                    errno: 0,
                    extack: None,
                    torn: false
                }
            ]
        );
    }

    #[test]
    fn half_a_message_is_an_error() {
        let whole = header(20, 30, 0, 5);
        assert!(read_replies(&whole, 5).is_err());
        assert!(read_replies(&whole[..10], 5).is_err());
        assert!(read_replies(&header(3, 30, 0, 5), 5).is_err());
    }
}
