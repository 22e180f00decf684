// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Socket diagnosis: which device the UDP sockets on a port are bound to, and whose they are.
//!
//! Written here, because two structures of the kernel's headers are read: netlink-packet-sock-diag
//! brings types for TCP, Unix sockets and their states for the sake of three members.

use netlink_packet_core::NLM_F_DUMP;

use super::nlmsg::{self, Request, u32_at};
use crate::model::{Family, UdpSocket};

// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Where `SK_MEMINFO_SNDBUF` begins in its array of u32.
const MEMINFO_SNDBUF: usize = 3 * 4;

/// `INET_DIAG_SKMEMINFO` and `INET_DIAG_MARK` (linux/inet_diag.h). The kernel tells the mark unasked, to who
/// has CAP_NET_ADMIN.
const SKMEMINFO: u16 = 7;
const MARK: u16 = 15;

/// The send buffer of the wireguard module's sockets: `set_sock_opts()` in
/// drivers/net/wireguard/socket.c. SO_SNDBUF and SO_SNDBUFFORCE give even numbers only
/// (net/core/sock.c), so no process has one, unless net.core.wmem_default is exactly this.
const MODULE_SNDBUF: u32 = i32::MAX as u32;

/// Bytes of `struct inet_diag_req_v2`, and where its `struct inet_diag_sockid` begins.
const REQUEST_LEN: usize = 56;
const REQUEST_ID: usize = 8;
/// Bytes of `struct inet_diag_msg`, and where its `struct inet_diag_sockid` and its inode begin.
const MESSAGE_LEN: usize = 72;
const MESSAGE_ID: usize = 4;
const MESSAGE_INODE: usize = 68;
/// Offsets in `struct inet_diag_sockid`.
const ID_SOURCE: usize = 4;
const ID_DEVICE: usize = 36;

/// Asks for the UDP sockets of a family; of one port unless that is 0.
pub fn get_udp(family: Family, port: u16) -> Request {
    let mut request = [0; REQUEST_LEN];
    request[0] = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    request[1] = libc::IPPROTO_UDP as u8;
    request[2] = 1 << (SKMEMINFO - 1);
    // In every state.
    request[4..8].fill(0xff);
    request[REQUEST_ID..REQUEST_ID + 2].copy_from_slice(&port.to_be_bytes());
    nlmsg::request_raw(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request)
}

/// A socket out of an answer to [`get_udp`].
pub fn decode_udp(payload: &[u8]) -> Option<UdpSocket> {
    let (message, attributes) = payload.split_at_checked(MESSAGE_LEN)?;
    let sndbuf = nlmsg::find_attribute(attributes, SKMEMINFO)
        .filter(|meminfo| meminfo.len() >= MEMINFO_SNDBUF + 4)
        .map(|meminfo| u32_at(&meminfo, MEMINFO_SNDBUF));
    let mark = nlmsg::find_attribute(attributes, MARK).filter(|mark| mark.len() == 4);
    let id = &message[MESSAGE_ID..];
    Some(UdpSocket {
        port: u16::from_be_bytes([id[0], id[1]]),
        wildcard: id[ID_SOURCE..ID_SOURCE + 16].iter().all(|byte| *byte == 0),
        device: u32_at(id, ID_DEVICE),
        v6: i32::from(message[0]) == libc::AF_INET6,
        inode: u32_at(message, MESSAGE_INODE),
        process: sndbuf.map(|size| size != MODULE_SNDBUF),
        mark: mark.map_or(0, |mark| u32_at(&mark, 0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ss -lunm 'sport = :51001'` asks under strace, but for the states.
    #[test]
    fn a_request_names_family_protocol_and_port() {
        let request = get_udp(Family::V6, 51001);
        assert_eq!(request.len(), 16 + 56);
        assert_eq!(nlmsg::u16_at(&request, 4), 20, "SOCK_DIAG_BY_FAMILY");
        assert_eq!(nlmsg::u16_at(&request, 6), 0x301, "REQUEST|DUMP");
        assert_eq!(request[16..19], [10, 17, 0x40]);
        assert_eq!(request[20..24], [0xff; 4]);
        assert_eq!(request[24..26], [0xc7, 0x39]);
    }

    #[test]
    fn a_socket_has_its_device_in_its_id() {
        // struct inet_diag_msg, by hand from linux/inet_diag.h.
        let mut message = vec![2, 7, 0, 0];
        message.extend_from_slice(&[0xc7, 0x39, 0, 0]);
        message.extend_from_slice(&[0; 32]);
        message.extend_from_slice(&7u32.to_ne_bytes());
        message.extend_from_slice(&[0xaa; 8]);
        message.extend_from_slice(&[0; 16]);
        message.extend_from_slice(&4711u32.to_ne_bytes());
        assert_eq!(message.len(), 72);
        let socket = UdpSocket {
            port: 51001,
            wildcard: true,
            device: 7,
            inode: 4711,
            ..UdpSocket::default()
        };
        assert_eq!(decode_udp(&message), Some(socket));
        message[8] = 127;
        assert_eq!(
            decode_udp(&message),
            Some(UdpSocket {
                wildcard: false,
                ..socket
            })
        );
        message[0] = 10;
        assert!(decode_udp(&message).is_some_and(|one| one.v6));
        assert_eq!(decode_udp(&message[..71]), None);
        // The numbers of `ss -lunm` on 6.1: rmem, rb, wmem, tb, ... The module's and a process's.
        for (sndbuf, process) in [(2147483647u32, false), (2147483646, true), (212992, true)] {
            let mut memory = message.clone();
            memory.extend_from_slice(&40u16.to_ne_bytes());
            memory.extend_from_slice(&7u16.to_ne_bytes());
            for number in [0, 212992, 0, sndbuf, 0, 0, 0, 0, 0] {
                memory.extend_from_slice(&number.to_ne_bytes());
            }
            assert_eq!(decode_udp(&memory).unwrap().process, Some(process));
            let mark = [&[8, 0, 15, 0][..], &0x42u32.to_ne_bytes()].concat();
            let marked = [memory.clone(), mark].concat();
            assert_eq!(decode_udp(&marked).unwrap().mark, 0x42);
            memory.truncate(84);
            memory[72] = 12;
            assert_eq!(decode_udp(&memory).unwrap().process, None, "cut");
        }
    }
}
