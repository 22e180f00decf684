// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The generic netlink controller: a family's id, and what a command accepts.
//!
//! The policy dump is how the tool learns whether `WGDEVICE_A_BIND_DEV` exists. It asks for the
//! attribute's type as well, because a kernel may carry another feature's attribute 9.
//!
//! Requests are encoded by netlink-packet-generic. Answers are decoded here, because its decoder
//! gives up a whole message for one attribute or type that it does not know (kernels since 6.7
//! have NL_ATTR_TYPE_SINT), and of a policy it keeps the first attribute only; see the tests.

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_ID, CTRL_ATTR_OP_POLICY, CTRL_ATTR_POLICY, CTRL_ATTR_POLICY_DO,
    NL_ATTR_TYPE_NUL_STRING, NL_ATTR_TYPE_STRING, NL_POLICY_TYPE_ATTR_TYPE,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlHeader, GenlMessage};

use super::nlmsg::{self, GENL_HEADER_LEN, Request, attributes_of, u32_at};

fn encode_request(cmd: GenlCtrlCmd, flags: u16, nlas: Vec<GenlCtrlAttrs>) -> Request {
    // The version that the reference names; the kernel does not look at it.
    let header = GenlHeader {
        cmd: cmd.into(),
        version: 1,
    };
    nlmsg::encode_request(
        &GenlMessage::from_parts(header, GenlCtrl { cmd, nlas }),
        flags,
    )
}

/// Asks for the id of a family; the kernel loads the module when it can.
pub fn get_family(family: &str) -> Request {
    let name = GenlCtrlAttrs::FamilyName(family.to_owned());
    encode_request(GenlCtrlCmd::GetFamily, nlmsg::ACK, vec![name])
}

/// The id in an answer to [`get_family`].
pub fn family_id(payload: &[u8]) -> Option<u16> {
    let id = nlmsg::find_attribute(payload.get(GENL_HEADER_LEN..)?, CTRL_ATTR_FAMILY_ID)?;
    Some(u16::from_ne_bytes(id.try_into().ok()?))
}

/// Asks which attributes the command takes.
pub fn get_policy(family: u16, command: u8) -> Request {
    let attributes = vec![
        GenlCtrlAttrs::FamilyId(family),
        GenlCtrlAttrs::Op(command.into()),
    ];
    encode_request(GenlCtrlCmd::GetPolicy, NLM_F_DUMP, attributes)
}

/// What a policy dump said, gathered over its messages.
#[derive(Default, Debug)]
pub struct Policy {
    /// The policy's index that the command uses, once the kernel said so.
    of_command: Option<u32>,
    /// (policy index, attribute, type)
    attributes: Vec<(u32, u16, u32)>,
}

impl Policy {
    /// Takes one message of the dump that [`get_policy`] asked for.
    pub fn add_answer(&mut self, payload: &[u8], command: u8) {
        let Some(payload) = payload.get(GENL_HEADER_LEN..) else {
            return;
        };
        for outer in attributes_of(payload) {
            match outer.kind() {
                // { command: { DO: index, DUMP: index } }
                CTRL_ATTR_OP_POLICY => {
                    for op in attributes_of(outer.value()) {
                        if op.kind() == u16::from(command) {
                            self.of_command =
                                nlmsg::find_attribute(op.value(), CTRL_ATTR_POLICY_DO)
                                    .and_then(read_number)
                                    .or(self.of_command);
                        }
                    }
                }
                // { policy index: { attribute: { TYPE: type, ... } } }
                CTRL_ATTR_POLICY => {
                    for policy in attributes_of(outer.value()) {
                        for attribute in attributes_of(policy.value()) {
                            let kind =
                                nlmsg::find_attribute(attribute.value(), NL_POLICY_TYPE_ATTR_TYPE)
                                    .and_then(read_number);
                            if let Some(kind) = kind {
                                self.attributes.push((
                                    u32::from(policy.kind()),
                                    attribute.kind(),
                                    kind,
                                ));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the command takes this attribute, and as a string.
    pub fn is_string(&self, attribute: u16) -> bool {
        // A dump for one command numbers that command's own policy 0.
        let index = self.of_command.unwrap_or(0);
        self.attributes.iter().any(|(policy, number, kind)| {
            *policy == index
                && *number == attribute
                && matches!(*kind, NL_ATTR_TYPE_STRING | NL_ATTR_TYPE_NUL_STRING)
        })
    }
}

fn read_number(value: Vec<u8>) -> Option<u32> {
    (value.len() >= 4).then(|| u32_at(&value, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: u16 = 0x8000;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A message as ctrl_dumppolicy() in net/netlink/genetlink.c builds it.
    fn dumped(body: Vec<u8>) -> Vec<u8> {
        let mut bytes = vec![10, 2, 0, 0];
        bytes.extend(attribute(1, &31u16.to_ne_bytes()));
        bytes.extend(body);
        bytes
    }

    fn op(command: u16, index: u32) -> Vec<u8> {
        let each = attribute(1, &index.to_ne_bytes());
        dumped(attribute(9 | NESTED, &attribute(command | NESTED, &each)))
    }

    fn row(index: u16, number: u16, kind: u32) -> Vec<u8> {
        let kind = attribute(1, &kind.to_ne_bytes());
        let number = attribute(number | NESTED, &kind);
        dumped(attribute(8 | NESTED, &attribute(index | NESTED, &number)))
    }

    fn policy(messages: &[Vec<u8>]) -> Policy {
        let mut policy = Policy::default();
        for message in messages {
            policy.add_answer(message, 1);
        }
        policy
    }

    #[test]
    fn a_string_nine_is_the_attribute() {
        assert!(policy(&[op(1, 0), row(0, 8, 14), row(0, 9, 12)]).is_string(9));
        assert!(policy(&[op(1, 0), row(0, 9, 11)]).is_string(9));
    }

    #[test]
    fn a_stock_kernel_has_none() {
        assert!(!policy(&[op(1, 0), row(0, 7, 4), row(0, 8, 14)]).is_string(9));
    }

    #[test]
    fn a_foreign_nine_is_not_it() {
        for kind in [3, 4, 10, 13] {
            assert!(!policy(&[op(1, 0), row(0, 9, kind)]).is_string(9));
        }
    }

    #[test]
    fn the_peers_nine_is_not_the_devices() {
        // WGPEER_A_ALLOWEDIPS is 9 too, in the nested policy 1.
        assert!(!policy(&[op(1, 0), row(0, 8, 14), row(1, 9, 12)]).is_string(9));
        // Split policies: GET_DEVICE uses 0, SET_DEVICE 1.
        assert!(policy(&[op(0, 0), op(1, 1), row(1, 9, 12)]).is_string(9));
        assert!(!policy(&[op(0, 0), op(1, 1), row(0, 9, 12)]).is_string(9));
    }

    /// Why answers are decoded here. When this fails, the crate's decoder may do.
    #[test]
    fn the_crates_decoder_loses_what_we_need() {
        use netlink_packet_core::ParseableParametrized;
        let header = || GenlHeader {
            cmd: 10,
            version: 2,
        };
        let decode = |message: &[u8]| GenlCtrl::parse_with_param(&message[4..], header());
        // NL_ATTR_TYPE_SINT (16) beside the attribute.
        assert!(decode(&row(0, 10, 16)).is_err());
        assert!(policy(&[op(1, 0), row(0, 10, 16), row(0, 9, 12)]).is_string(9));
        // Two attributes of a policy in one message.
        let string = attribute(1, &12u32.to_ne_bytes());
        let both = [8, 9]
            .map(|number| attribute(number | NESTED, &string))
            .concat();
        let both = dumped(attribute(8 | NESTED, &attribute(NESTED, &both)));
        let seen = format!("{:?}", decode(&both));
        assert!(
            seen.contains("index: 8") && !seen.contains("index: 9"),
            "{seen}"
        );
        assert!(policy(&[op(1, 0), both]).is_string(9));
    }

    #[test]
    fn the_policy_request_is_what_genetlink_expects() {
        // ctrl_dumppolicy_start(): cmd 10, CTRL_ATTR_FAMILY_ID as u16, CTRL_ATTR_OP as u32.
        let bytes = get_policy(31, 1);
        let expected = [
            &[10, 1, 0, 0][..],
            &attribute(1, &31u16.to_ne_bytes()),
            &attribute(10, &1u32.to_ne_bytes()),
        ];
        assert_eq!(&bytes[16..], expected.concat());
        assert_eq!(nlmsg::u16_at(&bytes, 6), 0x301, "REQUEST | DUMP");
    }

    #[test]
    fn the_request_is_what_genetlink_expects() {
        let bytes = get_family("wireguard");
        // As the reference sends it (strace): len 36, nlctrl, REQUEST|ACK, then cmd 3, version 1.
        assert_eq!(bytes.len(), 36);
        assert_eq!(&bytes[4..8], &[16, 0, 5, 0]);
        assert_eq!(
            &bytes[16..],
            b"\x03\x01\x00\x00\x0e\x00\x02\x00wireguard\0\0\0"
        );
    }
}
