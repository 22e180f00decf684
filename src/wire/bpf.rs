// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The program that binds a stock kernel's WireGuard sockets to a VRF, and what it is told.
//!
//! The kernel asks the cgroup bind hooks before a UDP socket takes its port, also for sockets of
//! the kernel's own. One program per address family looks the namespace and the port up in a map
//! and binds the socket to the VRF that the map names:
//!
//! ```text
//! UDP, wildcard address, a port?             no: leave
//! an entry for (namespace, port)?            no: leave
//! on a device already?                       yes: leave, its owner chose
//! a socket of a process?                     yes: leave, unless the entry is for a process
//! SO_BINDTODEVICE <VRF>                      done: leave
//! SO_BINDTOIFINDEX <no device has it>        the VRF is missing: receive nothing, wait
//! refuse the bind
//! ```
//!
//! Pure: a list of instructions, the layout of the map, and the two offsets out of the kernel's
//! BTF. Loading it is the backend's.
//!
//! Written here, because the programs are some thirty instructions whose offsets are known only at run
//! time. aya loads object files of a BPF compiler, which Debian 13's own cargo does not have,
//! and its links end with the process. libbpf is a C library that would have to be linked.

use crate::model::{Family, HookEntry, IFNAME_MAX};

/// Registers, by what they are used for. The first six are the kernel's calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Result = 0,
    Arg1 = 1,
    Arg2 = 2,
    Arg3 = 3,
    Arg4 = 4,
    Arg5 = 5,
    /// `struct bpf_sock_addr`
    Context = 6,
    Port = 7,
    /// The map's value.
    Entry = 8,
    Socket = 9,
    /// The end of the stack.
    Frame = 10,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Word,
    Double,
}

/// Functions of the kernel, numbered as in linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    MapLookup = 1,
    SetSockopt = 49,
    ProbeReadKernel = 113,
    GetNetnsCookie = 122,
    SetRetval = 187,
}

/// Places that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The device is to be set.
    Bind,
    /// The socket stays as it is, and the bind goes on.
    Leave,
}

/// What a jump asks of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    Equals(i32),
    Differs(i32),
    HasBits(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    Move {
        to: Register,
        from: Register,
    },
    Set {
        to: Register,
        value: i32,
    },
    Add {
        to: Register,
        value: i32,
    },
    Load {
        width: Width,
        to: Register,
        from: Register,
        at: i16,
    },
    Store {
        width: Width,
        to: Register,
        at: i16,
        from: Register,
    },
    /// Four bytes.
    StoreValue {
        to: Register,
        at: i16,
        value: i32,
    },
    /// The map itself, not a value of it.
    LoadMap {
        to: Register,
    },
    Call(Helper),
    Jump {
        register: Register,
        condition: If,
        to: Label,
    },
    /// Where jumps to this label land; no instruction of its own.
    Here(Label),
    Exit,
}

use Instruction::{Add, Call, Exit, Here, Jump, Load, LoadMap, Move, Set, Store, StoreValue};
use Register::{Arg1, Arg2, Arg3, Arg4, Arg5, Context, Entry, Frame, Port, Socket};

/// Offsets in `struct bpf_sock_addr` (linux/bpf.h).
mod context {
    pub const USER_IP4: i16 = 4;
    pub const USER_IP6: [i16; 4] = [8, 12, 16, 20];
    /// In network byte order.
    pub const USER_PORT: i16 = 24;
    pub const PROTOCOL: i16 = 36;
    pub const SOCKET: i16 = 64;
}

/// `bound_dev_if` of `struct bpf_sock`.
const SOCKET_DEVICE: i16 = 0;

// asm-generic/socket.h
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const SO_BINDTOIFINDEX: i32 = 62;

/// An index that no device has: a socket bound to it receives nothing.
pub const NO_DEVICE: u32 = 0x7fff_ffff;

/// What the program answers: the bind goes on, or fails.
const ALLOW: i32 = 1;
const DENY: i32 = 0;

/// The stack: the map's key, and below it a slot that helpers write and read.
const KEY: i16 = -(KEY_LEN as i16);
const KEY_PORT: i16 = KEY + 8;
const KEY_REST: i16 = KEY + 12;
const POINTER: i16 = KEY - 8;
const ANSWER: i16 = KEY - 16;

/// What may differ from kernel to kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Where to see whether a socket is a process's. Without it such sockets are bound as well.
    pub offsets: Option<Offsets>,
    /// The kernel has `bpf_set_retval` (5.18): a refused bind then fails with ENODEV.
    pub set_retval: bool,
}

/// The program for sockets of a family.
pub fn build_program(family: Family, features: &Features) -> Vec<Instruction> {
    let mut code = vec![Move {
        to: Context,
        from: Arg1,
    }];
    code.extend(leave_unless_udp_wildcard(family));
    code.extend(find_entry());
    code.extend(leave_if_on_a_device());
    if let Some(offsets) = &features.offsets {
        code.extend(leave_if_of_a_process(offsets));
    }
    code.push(Here(Label::Bind));
    code.extend(bind_to_entry());
    code.extend(bind_to_nothing());
    if features.set_retval {
        code.push(Set {
            to: Arg1,
            value: -libc::ENODEV,
        });
        code.push(Call(Helper::SetRetval));
    }
    code.extend(make_answer(DENY));
    code.push(Here(Label::Leave));
    code.extend(make_answer(ALLOW));
    code
}

fn make_answer(value: i32) -> [Instruction; 2] {
    let to = Register::Result;
    [Set { to, value }, Exit]
}

fn jump_if(register: Register, condition: If, to: Label) -> Instruction {
    Jump {
        register,
        condition,
        to,
    }
}

fn load_word(to: Register, from: Register, at: i16) -> Instruction {
    let width = Width::Word;
    Load {
        width,
        to,
        from,
        at,
    }
}

fn leave_unless_udp_wildcard(family: Family) -> Vec<Instruction> {
    let address: &[i16] = match family {
        Family::V4 => &[context::USER_IP4],
        Family::V6 => &context::USER_IP6,
    };
    let mut code = vec![
        load_word(Arg1, Context, context::PROTOCOL),
        jump_if(Arg1, If::Differs(libc::IPPROTO_UDP), Label::Leave),
    ];
    for at in address {
        code.push(load_word(Arg1, Context, *at));
        code.push(jump_if(Arg1, If::Differs(0), Label::Leave));
    }
    code.push(load_word(Port, Context, context::USER_PORT));
    code.push(jump_if(Port, If::Equals(0), Label::Leave));
    code
}

/// Puts the entry for namespace and port into [`Register::Entry`].
fn find_entry() -> Vec<Instruction> {
    vec![
        Move {
            to: Arg1,
            from: Context,
        },
        Call(Helper::GetNetnsCookie),
        Store {
            width: Width::Double,
            to: Frame,
            at: KEY,
            from: Register::Result,
        },
        Store {
            width: Width::Word,
            to: Frame,
            at: KEY_PORT,
            from: Port,
        },
        StoreValue {
            to: Frame,
            at: KEY_REST,
            value: 0,
        },
        LoadMap { to: Arg1 },
        Move {
            to: Arg2,
            from: Frame,
        },
        Add {
            to: Arg2,
            value: i32::from(KEY),
        },
        Call(Helper::MapLookup),
        jump_if(Register::Result, If::Equals(0), Label::Leave),
        Move {
            to: Entry,
            from: Register::Result,
        },
    ]
}

fn leave_if_on_a_device() -> Vec<Instruction> {
    vec![
        Load {
            width: Width::Double,
            to: Socket,
            from: Context,
            at: context::SOCKET,
        },
        load_word(Arg1, Socket, SOCKET_DEVICE),
        jump_if(Arg1, If::Differs(0), Label::Leave),
    ]
}

/// A socket of the kernel's own has no file: `sk->sk_socket->file` is NULL.
fn leave_if_of_a_process(offsets: &Offsets) -> Vec<Instruction> {
    let mut code = vec![
        load_word(Arg1, Entry, ENTRY_FLAGS),
        jump_if(Arg1, If::HasBits(FLAG_PROCESS as i32), Label::Bind),
        // The kernel does arithmetic on numbers, not on a socket: a copy of the pointer out of
        // the stack is a number.
        Store {
            width: Width::Double,
            to: Frame,
            at: POINTER,
            from: Socket,
        },
        Move {
            to: Arg3,
            from: Frame,
        },
        Add {
            to: Arg3,
            value: i32::from(POINTER),
        },
    ];
    code.extend(read_pointer());
    for offset in [offsets.sock_socket, offsets.socket_file] {
        code.push(Load {
            width: Width::Double,
            to: Arg3,
            from: Frame,
            at: ANSWER,
        });
        code.push(Add {
            to: Arg3,
            value: offset as i32,
        });
        code.extend(read_pointer());
    }
    code.push(Load {
        width: Width::Double,
        to: Arg1,
        from: Frame,
        at: ANSWER,
    });
    code.push(jump_if(Arg1, If::Differs(0), Label::Leave));
    code
}

/// Reads the pointer that [`Register::Arg3`] points to.
fn read_pointer() -> [Instruction; 5] {
    [
        Move {
            to: Arg1,
            from: Frame,
        },
        Add {
            to: Arg1,
            value: i32::from(ANSWER),
        },
        Set { to: Arg2, value: 8 },
        Call(Helper::ProbeReadKernel),
        jump_if(Register::Result, If::Differs(0), Label::Leave),
    ]
}

fn bind_to_entry() -> Vec<Instruction> {
    let mut code = set_option(SO_BINDTODEVICE);
    code.extend([
        Move {
            to: Arg4,
            from: Entry,
        },
        Set {
            to: Arg5,
            value: NAME_LEN as i32,
        },
        Call(Helper::SetSockopt),
        jump_if(Register::Result, If::Equals(0), Label::Leave),
    ]);
    code
}

fn bind_to_nothing() -> Vec<Instruction> {
    let mut code = vec![StoreValue {
        to: Frame,
        at: ANSWER,
        value: NO_DEVICE as i32,
    }];
    code.extend(set_option(SO_BINDTOIFINDEX));
    code.extend([
        Move {
            to: Arg4,
            from: Frame,
        },
        Add {
            to: Arg4,
            value: i32::from(ANSWER),
        },
        Set { to: Arg5, value: 4 },
        Call(Helper::SetSockopt),
        jump_if(Register::Result, If::Equals(0), Label::Leave),
    ]);
    code
}

/// The first three arguments of `bpf_setsockopt`.
fn set_option(option: i32) -> Vec<Instruction> {
    vec![
        Move {
            to: Arg1,
            from: Context,
        },
        Set {
            to: Arg2,
            value: SOL_SOCKET,
        },
        Set {
            to: Arg3,
            value: option,
        },
    ]
}

// Opcodes, from their parts (linux/bpf_common.h, linux/bpf.h).
const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const MODE_IMM: u8 = 0x00;
const MODE_MEM: u8 = 0x60;
const SIZE_W: u8 = 0x00;
const SIZE_DW: u8 = 0x18;
const SOURCE_VALUE: u8 = 0x00;
const SOURCE_REGISTER: u8 = 0x08;
const ALU_ADD: u8 = 0x00;
const ALU_MOV: u8 = 0xb0;
const JMP_JEQ: u8 = 0x10;
const JMP_JSET: u8 = 0x40;
const JMP_JNE: u8 = 0x50;
const JMP_CALL: u8 = 0x80;
const JMP_EXIT: u8 = 0x90;
/// Says of a 64-bit value that it is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;

/// Bytes of `struct bpf_insn`.
pub const INSTRUCTION_LEN: usize = 8;

impl Instruction {
    /// How many of the kernel's instructions it takes.
    fn count_slots(&self) -> usize {
        match self {
            Here(_) => 0,
            LoadMap { .. } => 2,
            _ => 1,
        }
    }
}

impl Width {
    fn size(self) -> u8 {
        match self {
            Width::Word => SIZE_W,
            Width::Double => SIZE_DW,
        }
    }
}

/// Where a label is, in slots.
fn find_place(code: &[Instruction], label: Label) -> Option<usize> {
    let at = code.iter().position(|one| *one == Here(label))?;
    Some(code[..at].iter().map(Instruction::count_slots).sum())
}

/// One `struct bpf_insn`.
fn encode_slot(opcode: u8, to: u8, from: u8, offset: i16, value: i32) -> [u8; INSTRUCTION_LEN] {
    let registers = if cfg!(target_endian = "little") {
        (from << 4) | to
    } else {
        (to << 4) | from
    };
    let mut bytes = [opcode, registers, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&value.to_ne_bytes());
    bytes
}

/// The kernel's form of a program, with the map that it looks into. `None` when a jump has no
/// place to go to, forwards and near enough.
pub fn encode_program(code: &[Instruction], map: i32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for instruction in code {
        let next = bytes.len() / INSTRUCTION_LEN + instruction.count_slots();
        match *instruction {
            Move { to, from } => bytes.extend(encode_slot(
                CLASS_ALU64 | SOURCE_REGISTER | ALU_MOV,
                to as u8,
                from as u8,
                0,
                0,
            )),
            Set { to, value } => bytes.extend(encode_slot(
                CLASS_ALU64 | SOURCE_VALUE | ALU_MOV,
                to as u8,
                0,
                0,
                value,
            )),
            Add { to, value } => bytes.extend(encode_slot(
                CLASS_ALU64 | SOURCE_VALUE | ALU_ADD,
                to as u8,
                0,
                0,
                value,
            )),
            Load {
                width,
                to,
                from,
                at,
            } => bytes.extend(encode_slot(
                CLASS_LDX | MODE_MEM | width.size(),
                to as u8,
                from as u8,
                at,
                0,
            )),
            Store {
                width,
                to,
                at,
                from,
            } => bytes.extend(encode_slot(
                CLASS_STX | MODE_MEM | width.size(),
                to as u8,
                from as u8,
                at,
                0,
            )),
            StoreValue { to, at, value } => {
                bytes.extend(encode_slot(
                    CLASS_ST | MODE_MEM | SIZE_W,
                    to as u8,
                    0,
                    at,
                    value,
                ));
            }
            LoadMap { to } => {
                let opcode = CLASS_LD | MODE_IMM | SIZE_DW;
                bytes.extend(encode_slot(opcode, to as u8, PSEUDO_MAP_FD, 0, map));
                bytes.extend(encode_slot(0, 0, 0, 0, 0));
            }
            Call(helper) => bytes.extend(encode_slot(CLASS_JMP | JMP_CALL, 0, 0, 0, helper as i32)),
            Jump {
                register,
                condition,
                to,
            } => {
                let (operation, value) = match condition {
                    If::Equals(value) => (JMP_JEQ, value),
                    If::Differs(value) => (JMP_JNE, value),
                    If::HasBits(value) => (JMP_JSET, value),
                };
                let distance = find_place(code, to)?.checked_sub(next)?;
                bytes.extend(encode_slot(
                    CLASS_JMP | SOURCE_VALUE | operation,
                    register as u8,
                    0,
                    i16::try_from(distance).ok()?,
                    value,
                ));
            }
            Here(_) => {}
            Exit => bytes.extend(encode_slot(CLASS_JMP | JMP_EXIT, 0, 0, 0, 0)),
        }
    }
    Some(bytes)
}

// The map.

/// `{ u64 namespace's cookie, be32 port, u32 0 }`
pub const KEY_LEN: usize = 16;
/// `{ char vrf[16], u32 flags, u32 owner, u32 mark, u32 0 }`
pub const VALUE_LEN: usize = 32;

const NAME_LEN: usize = IFNAME_MAX + 1;
const ENTRY_FLAGS: i16 = NAME_LEN as i16;
/// The sockets are a process's: userspace WireGuard.
const FLAG_PROCESS: u32 = 1;
/// Not for the program.
const FLAG_INHERITED: u32 = 2;

pub fn encode_key(namespace: u64, port: u16) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&namespace.to_ne_bytes());
    key[8..12].copy_from_slice(&u32::from(port.to_be()).to_ne_bytes());
    key
}

/// Namespace and port of a key.
pub fn read_key(key: &[u8; KEY_LEN]) -> (u64, u16) {
    let [a, b, c, d, e, f, g, h, port @ ..] = *key;
    let [i, j, k, l, ..] = port;
    let port = u32::from_ne_bytes([i, j, k, l]);
    (
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u16::from_be(port as u16),
    )
}

pub fn encode_entry(entry: &HookEntry) -> [u8; VALUE_LEN] {
    let HookEntry {
        vrf,
        leaving,
        process,
        owner,
        mark,
        inherited,
    } = entry;
    let mut value = [0; VALUE_LEN];
    let name = crate::ifname::to_bytes(vrf).unwrap_or_default();
    let length = name.len().min(IFNAME_MAX);
    value[..length].copy_from_slice(&name[..length]);
    if vrf.is_empty() && !leaving {
        // An empty name takes the socket off its device. No device can have this one.
        value[0] = b'/';
    }
    let bits = [(*process, FLAG_PROCESS), (*inherited, FLAG_INHERITED)];
    let flags: u32 = bits.iter().map(|(set, bit)| u32::from(*set) * bit).sum();
    for (at, number) in [flags, *owner, *mark].into_iter().enumerate() {
        let at = NAME_LEN + 4 * at;
        value[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    value
}

pub fn read_entry(value: &[u8; VALUE_LEN]) -> HookEntry {
    let number = |at: usize| super::nlmsg::u32_at(value, NAME_LEN + 4 * at);
    let name = super::nlmsg::read_name(&value[..NAME_LEN]);
    HookEntry {
        leaving: name.is_empty(),
        vrf: if name == "/" { String::new() } else { name },
        process: number(0) & FLAG_PROCESS != 0,
        inherited: number(0) & FLAG_INHERITED != 0,
        owner: number(1),
        mark: number(2),
    }
}

// The kernel's own description of its structures.

/// Where `struct sock` keeps its `sk_socket`, and `struct socket` its `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub sock_socket: u32,
    pub socket_file: u32,
}

// linux/btf.h
const BTF_MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
/// Bytes of `struct btf_type` and of `struct btf_member`.
const TYPE_LEN: usize = 12;
const MEMBER_LEN: usize = 12;

/// The offsets out of the contents of /sys/kernel/btf/vmlinux; `None` when they are not there.
pub fn find_offsets(btf: &[u8]) -> Option<Offsets> {
    let word = |at: usize| -> Option<u32> {
        let bytes = btf.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    if btf.get(..2)? != BTF_MAGIC.to_ne_bytes() {
        return None;
    }
    let header = word(4)? as usize;
    let section = |at: usize| -> Option<&[u8]> {
        let start = header.checked_add(word(at)? as usize)?;
        btf.get(start..start.checked_add(word(at + 4)? as usize)?)
    };
    let (types, strings) = (section(8)?, section(16)?);
    let mut sock_socket = None;
    let mut socket_file = None;
    let mut rest = types;
    while sock_socket.is_none() || socket_file.is_none() {
        let (head, tail) = rest.split_at_checked(TYPE_LEN)?;
        let info = super::nlmsg::u32_at(head, 4);
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let length = match kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION => count * MEMBER_LEN,
            KIND_ENUM | KIND_FUNC_PROTO => count * 8,
            KIND_DATASEC | KIND_ENUM64 => count * 12,
            // Those that consist of their header; one that is unknown could not be passed over.
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        let (body, after) = tail.split_at_checked(length)?;
        rest = after;
        if kind != KIND_STRUCT {
            continue;
        }
        let bitfields = info >> 31 != 0;
        let member = |wanted: &[u8]| find_member(body, bitfields, strings, wanted);
        match name(strings, super::nlmsg::u32_at(head, 0))? {
            b"sock" => sock_socket = sock_socket.or_else(|| member(b"sk_socket")),
            b"socket" => socket_file = socket_file.or_else(|| member(b"file")),
            _ => {}
        }
    }
    Some(Offsets {
        sock_socket: sock_socket?,
        socket_file: socket_file?,
    })
}

fn name(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(at as usize..)?.split(|byte| *byte == 0).next()
}

/// The offset of a member, in bytes.
fn find_member(body: &[u8], bitfields: bool, strings: &[u8], wanted: &[u8]) -> Option<u32> {
    let found = body
        .chunks_exact(MEMBER_LEN)
        .find(|member| name(strings, super::nlmsg::u32_at(member, 0)) == Some(wanted))?;
    let offset = super::nlmsg::u32_at(found, 8);
    // With bit fields the upper byte is the width, and a pointer has none.
    let bits = if bitfields {
        offset & 0x00ff_ffff
    } else {
        offset
    };
    (bits % 64 == 0).then_some(bits / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: Offsets = Offsets {
        sock_socket: 0x260,
        socket_file: 0x10,
    };
    const WITH: Features = Features {
        offsets: Some(OFFSETS),
        set_retval: true,
    };
    const WITHOUT: Features = Features {
        offsets: None,
        set_retval: false,
    };

    /// A socket that is about to be bound, and the kernel around it.
    #[derive(Clone)]
    struct World {
        family: Family,
        protocol: u32,
        address: [u32; 4],
        port: u16,
        device: u32,
        of_process: bool,
        entry: Option<HookEntry>,
        vrf_is_there: bool,
        any_device_works: bool,
    }

    impl World {
        fn wireguard(family: Family) -> Self {
            World {
                family,
                protocol: 17,
                address: [0; 4],
                port: 51820,
                device: 0,
                of_process: false,
                entry: Some(HookEntry {
                    vrf: "vrf_external".into(),
                    leaving: false,
                    process: false,
                    owner: 7,
                    mark: 9,
                    inherited: true,
                }),
                vrf_is_there: true,
                any_device_works: true,
            }
        }
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Outcome {
        allowed: bool,
        /// What SO_BINDTODEVICE was given.
        named: Option<String>,
        /// What SO_BINDTOIFINDEX was given.
        index: Option<u32>,
        errno: Option<i32>,
    }

    const NAMESPACE: u64 = 0x1_0000_0007;
    const STACK: u64 = 0x10_0000;
    const CONTEXT: u64 = 0x20_0000;
    const SK: u64 = 0x30_0000;
    const SOCKET: u64 = 0x40_0000;
    const FILE: u64 = 0x50_0000;
    const VALUE: u64 = 0x60_0000;
    const MAP: u64 = 0x70_0000;

    /// Runs the kernel's form of the program, as the kernel's interpreter does.
    fn run(world: &World, features: &Features) -> Outcome {
        let code =
            encode_program(&build_program(world.family, features), 5).expect("jumps that land");
        let mut machine = Machine {
            registers: [0; 11],
            stack: [None; 512],
            world,
            outcome: Outcome::default(),
        };
        machine.registers[1] = CONTEXT;
        machine.registers[10] = STACK;
        let mut at = 0;
        for _ in 0..200 {
            let slot = &code[at * 8..at * 8 + 8];
            let (to, from) = ((slot[1] & 0xf) as usize, (slot[1] >> 4) as usize);
            let offset = i16::from_ne_bytes([slot[2], slot[3]]);
            let value = i32::from_ne_bytes(slot[4..8].try_into().unwrap());
            at += 1;
            let registers = machine.registers;
            match slot[0] {
                0xbf => machine.registers[to] = registers[from],
                0xb7 => machine.registers[to] = value as i64 as u64,
                0x07 => machine.registers[to] = registers[to].wrapping_add_signed(value.into()),
                0x18 => {
                    assert_eq!((from, value), (1, 5), "the map by its descriptor");
                    machine.registers[to] = MAP;
                    at += 1;
                }
                0x61 => {
                    machine.registers[to] =
                        machine.load(registers[from].wrapping_add_signed(offset.into()), 4);
                }
                0x79 => {
                    machine.registers[to] =
                        machine.load(registers[from].wrapping_add_signed(offset.into()), 8);
                }
                0x62 => machine.store(registers[to], offset, &value.to_ne_bytes()),
                0x63 => {
                    machine.store(
                        registers[to],
                        offset,
                        &(registers[from] as u32).to_ne_bytes(),
                    );
                }
                0x7b => machine.store(registers[to], offset, &registers[from].to_ne_bytes()),
                0x15 if registers[to] == value as i64 as u64 => at += offset as usize,
                0x55 if registers[to] != value as i64 as u64 => at += offset as usize,
                0x45 if registers[to] & value as i64 as u64 != 0 => at += offset as usize,
                0x15 | 0x55 | 0x45 => {}
                0x85 => machine.call(value),
                0x95 => {
                    machine.outcome.allowed = match registers[0] {
                        0 => false,
                        1 => true,
                        other => panic!("the hook answers {other}"),
                    };
                    return machine.outcome;
                }
                other => panic!("opcode {other:#x}"),
            }
        }
        panic!("it does not end");
    }

    struct Machine<'a> {
        registers: [u64; 11],
        /// `None`: never written, so not to be read.
        stack: [Option<u8>; 512],
        world: &'a World,
        outcome: Outcome,
    }

    impl Machine<'_> {
        fn stack_at(address: u64) -> usize {
            let below = STACK.checked_sub(address).expect("inside the stack") as usize;
            512 - below
        }

        fn store(&mut self, base: u64, offset: i16, bytes: &[u8]) {
            let address = base.wrapping_add_signed(offset.into());
            assert_eq!(address % bytes.len() as u64, 0, "aligned");
            let at = Self::stack_at(address);
            for (cell, byte) in self.stack[at..].iter_mut().zip(bytes) {
                *cell = Some(*byte);
            }
        }

        fn stack_bytes(&self, address: u64, length: usize) -> Vec<u8> {
            let at = Self::stack_at(address);
            let cells = &self.stack[at..at + length];
            cells.iter().map(|cell| cell.expect("written")).collect()
        }

        fn load(&self, address: u64, width: usize) -> u64 {
            let world = self.world;
            let v6 = world.family == Family::V6;
            match (address, width) {
                (_, 4) if address == CONTEXT + 4 && !v6 => world.address[0].into(),
                (_, 4) if (CONTEXT + 8..CONTEXT + 24).contains(&address) && v6 => {
                    world.address[(address - CONTEXT - 8) as usize / 4].into()
                }
                (_, 4) if address == CONTEXT + 24 => world.port.to_be().into(),
                (_, 4) if address == CONTEXT + 36 => world.protocol.into(),
                (_, 8) if address == CONTEXT + 64 => SK,
                (_, 4) if address == SK => world.device.into(),
                (_, 4) if address == VALUE + 16 => {
                    let entry = encode_entry(world.entry.as_ref().expect("an entry"));
                    super::super::nlmsg::u32_at(&entry, 16).into()
                }
                (STACK_LOW..=STACK, 8) => {
                    let bytes = self.stack_bytes(address, 8);
                    u64::from_ne_bytes(bytes.try_into().unwrap())
                }
                _ => panic!("{width} bytes at {address:#x}"),
            }
        }

        fn call(&mut self, helper: i32) {
            let [_, a1, a2, a3, a4, a5, ..] = self.registers;
            let result = match helper {
                122 => {
                    assert_eq!(a1, CONTEXT);
                    NAMESPACE
                }
                1 => {
                    assert_eq!(a1, MAP);
                    let wanted = encode_key(NAMESPACE, 51820);
                    let there = self.stack_bytes(a2, KEY_LEN) == wanted;
                    if there && self.world.entry.is_some() {
                        VALUE
                    } else {
                        0
                    }
                }
                113 => {
                    assert_eq!(a2, 8);
                    let read = match a3 {
                        STACK_LOW..=STACK => {
                            u64::from_ne_bytes(self.stack_bytes(a3, 8).try_into().unwrap())
                        }
                        _ if a3 == SK + u64::from(OFFSETS.sock_socket) => SOCKET,
                        _ if a3 == SOCKET + u64::from(OFFSETS.socket_file) => {
                            if self.world.of_process { FILE } else { 0 }
                        }
                        other => panic!("reads {other:#x}"),
                    };
                    self.store(a1, 0, &read.to_ne_bytes());
                    0
                }
                49 => {
                    assert_eq!((a1, a2), (CONTEXT, 1));
                    match (a3, a5) {
                        (25, 16) => {
                            assert_eq!(a4, VALUE, "the name comes first");
                            let entry = self.world.entry.as_ref().expect("an entry");
                            let name = super::super::nlmsg::read_text(&encode_entry(entry)[..16]);
                            self.outcome.named = Some(name);
                            if self.world.vrf_is_there {
                                0
                            } else {
                                -19i64 as u64
                            }
                        }
                        (62, 4) => {
                            let index = self.stack_bytes(a4, 4);
                            let index = u32::from_ne_bytes(index.try_into().unwrap());
                            self.outcome.index = Some(index);
                            if self.world.any_device_works {
                                0
                            } else {
                                -1i64 as u64
                            }
                        }
                        other => panic!("sets {other:?}"),
                    }
                }
                187 => {
                    self.outcome.errno = Some(a1 as i32);
                    0
                }
                other => panic!("helper {other}"),
            };
            // A call leaves nothing in these.
            self.registers[1..6].fill(0xdead_beef_0000);
            self.registers[0] = result;
        }
    }

    const STACK_LOW: u64 = STACK - 512;

    fn left_alone() -> Outcome {
        Outcome {
            allowed: true,
            ..Outcome::default()
        }
    }

    fn bound() -> Outcome {
        Outcome {
            named: Some("vrf_external".into()),
            ..left_alone()
        }
    }

    #[test]
    fn wireguards_sockets_are_bound() {
        for family in Family::ALL {
            for features in [WITH, WITHOUT] {
                assert_eq!(run(&World::wireguard(family), &features), bound());
            }
        }
    }

    #[test]
    fn other_sockets_are_left_alone() {
        for family in Family::ALL {
            let ours = World::wireguard(family);
            let parts = if family == Family::V4 { 1 } else { 4 };
            let mut others = vec![
                World {
                    protocol: 6,
                    ..ours.clone()
                },
                World {
                    port: 0,
                    ..ours.clone()
                },
                World {
                    port: 51821,
                    ..ours.clone()
                },
                World {
                    device: 3,
                    ..ours.clone()
                },
                World {
                    entry: None,
                    ..ours.clone()
                },
            ];
            others.extend((0..parts).map(|part| {
                let mut world = ours.clone();
                world.address[part] = 1;
                world
            }));
            for world in &others {
                for features in [WITH, WITHOUT] {
                    assert_eq!(run(world, &features), left_alone());
                }
            }
        }
    }

    #[test]
    fn a_process_is_told_from_the_kernel() {
        for family in Family::ALL {
            let mut world = World::wireguard(family);
            world.of_process = true;
            assert_eq!(run(&world, &WITH), left_alone());
            assert_eq!(run(&world, &WITHOUT), bound(), "it cannot be told");
            // Userspace WireGuard.
            world.entry.as_mut().unwrap().process = true;
            assert_eq!(run(&world, &WITH), bound());
        }
    }

    #[test]
    fn a_missing_vrf_closes() {
        for family in Family::ALL {
            let mut world = World::wireguard(family);
            world.vrf_is_there = false;
            let waits = Outcome {
                // The largest index, which no device has; with 0 it would receive from everywhere.
                index: Some(0x7fff_ffff),
                ..bound()
            };
            assert_eq!(run(&world, &WITH), waits);
            world.any_device_works = false;
            let refused = Outcome {
                allowed: false,
                errno: Some(-libc::ENODEV),
                ..waits
            };
            assert_eq!(run(&world, &WITH), refused);
            let without_errno = Outcome {
                errno: None,
                ..refused
            };
            assert_eq!(run(&world, &WITHOUT), without_errno);
        }
    }

    #[test]
    fn an_entry_for_no_vrf_closes() {
        let no_vrf = HookEntry::default();
        let mut world = World::wireguard(Family::V4);
        world.entry = Some(no_vrf.clone());
        // No device can have this name, and an empty one would mean "any device".
        assert_eq!(run(&world, &WITH).named.as_deref(), Some("/"));
        assert_eq!(read_entry(&encode_entry(&no_vrf)), no_vrf);
    }

    /// What the program binds to is the name as the kernel has it.
    #[test]
    fn a_name_that_is_not_text_is_written_as_its_bytes() {
        let entry = HookEntry {
            vrf: "gr%fcn".to_owned(),
            ..HookEntry::default()
        };
        let value = encode_entry(&entry);
        assert_eq!(value[..5], *b"gr\xfcn\0");
        assert_eq!(read_entry(&value), entry);
    }

    /// The list itself: its length, its stack, and that it says what it is meant to say.
    #[test]
    fn the_list() {
        for (family, features, slots) in [
            (Family::V4, WITH, 70),
            (Family::V6, WITH, 76),
            (Family::V4, WITHOUT, 42),
            (Family::V6, WITHOUT, 48),
        ] {
            let code = build_program(family, &features);
            let bytes = encode_program(&code, 5).expect("jumps that land");
            assert_eq!(bytes.len() / INSTRUCTION_LEN, slots, "{family:?}");
            assert_eq!(
                code[0],
                Move {
                    to: Context,
                    from: Arg1
                }
            );
            assert_eq!(code.last(), Some(&Exit));
            for one in &code {
                let at = match one {
                    Store { to: Frame, at, .. } | StoreValue { to: Frame, at, .. } => *at,
                    Load {
                        from: Frame, at, ..
                    } => *at,
                    _ => continue,
                };
                assert!((-32..0).contains(&at), "{one:?}");
            }
        }
        assert_eq!(
            encode_program(&[jump_if(Arg1, If::Equals(0), Label::Leave), Exit], 5),
            None,
            "nowhere to go"
        );
        let back = [
            Here(Label::Leave),
            jump_if(Arg1, If::Equals(0), Label::Leave),
            Exit,
        ];
        assert_eq!(encode_program(&back, 5), None, "a loop");
    }

    #[test]
    fn keys_and_values_are_read_back() {
        assert_eq!(read_key(&encode_key(NAMESPACE, 51820)), (NAMESPACE, 51820));
        // The port as the kernel has it in the context.
        assert_eq!(encode_key(0, 51820)[8..10], [0xca, 0x6c]);
        let long = HookEntry {
            vrf: "exactly15bytes_".into(),
            leaving: false,
            process: true,
            owner: u32::MAX,
            mark: 0x7767_03ff,
            inherited: true,
        };
        assert_eq!(read_entry(&encode_entry(&long)), long);
        assert_eq!(encode_entry(&long)[15], 0, "terminated");
        // SO_BINDTODEVICE with an empty name takes a socket off its device (socket(7)); one that
        // no device can have is refused.
        for (leaving, first) in [(true, 0), (false, b'/')] {
            let nameless = HookEntry {
                leaving,
                ..HookEntry::default()
            };
            assert_eq!(encode_entry(&nameless)[0], first);
            assert_eq!(read_entry(&encode_entry(&nameless)), nameless);
        }
    }

    /// Writes BTF as linux/btf.h has it.
    #[derive(Default)]
    struct Btf {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Btf {
        fn name(&mut self, name: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            at
        }

        fn words(&mut self, words: &[u32]) {
            for word in words {
                self.types.extend_from_slice(&word.to_ne_bytes());
            }
        }

        fn structure(&mut self, name: &str, flag: u32, members: &[(&str, u32)]) {
            let name = self.name(name);
            self.words(&[name, (flag << 31) | (4 << 24) | members.len() as u32, 64]);
            for (member, bits) in members {
                let member = self.name(member);
                self.words(&[member, 1, *bits]);
            }
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = 0xeb9fu16.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0]);
            for word in [
                24,
                0,
                self.types.len() as u32,
                self.types.len() as u32,
                self.strings.len() as u32,
            ] {
                bytes.extend_from_slice(&word.to_ne_bytes());
            }
            bytes.extend_from_slice(&self.types);
            bytes.extend_from_slice(&self.strings);
            bytes
        }
    }

    #[test]
    fn offsets_are_found_among_all_kinds_of_types() {
        let mut btf = Btf::default();
        // Each kind with one element where it can have some: int, ptr, array, enum, fwd,
        // typedef, volatile, const, restrict, func, func_proto, var, datasec, float, decl_tag,
        // type_tag, enum64.
        for (kind, count, extra) in [
            (1, 0, 1),
            (2, 0, 0),
            (3, 0, 3),
            (6, 1, 2),
            (7, 0, 0),
            (8, 0, 0),
            (9, 0, 0),
            (10, 0, 0),
            (11, 0, 0),
            (12, 0, 0),
            (13, 1, 2),
            (14, 0, 1),
            (15, 1, 3),
            (16, 0, 0),
            (17, 0, 1),
            (18, 0, 0),
            (19, 1, 3),
        ] {
            btf.words(&[0, (kind << 24) | count, 0]);
            btf.words(&vec![0; extra]);
        }
        btf.structure("sock_common", 0, &[("sk_socket", 8)]);
        btf.structure("sock", 1, &[("__sk_common", 0), ("sk_socket", 0x260 * 8)]);
        btf.structure("socket", 0, &[("state", 0), ("file", 0x10 * 8)]);
        assert_eq!(find_offsets(&btf.bytes()), Some(OFFSETS));

        // Cut short anywhere in the types, it is not there; and nothing panics.
        let whole = btf.bytes();
        for length in 0..whole.len() {
            let _ = find_offsets(&whole[..length]);
        }
        btf.words(&[0, 30 << 24, 0]);
        assert_eq!(
            find_offsets(&btf.bytes()),
            Some(OFFSETS),
            "not needed any more"
        );
        let mut unknown = Btf::default();
        unknown.words(&[0, 30 << 24, 0]);
        unknown.structure("sock", 0, &[("sk_socket", 64)]);
        unknown.structure("socket", 0, &[("file", 64)]);
        assert_eq!(find_offsets(&unknown.bytes()), None);
        let mut bit_field = Btf::default();
        bit_field.structure("sock", 1, &[("sk_socket", (1 << 24) | 65)]);
        bit_field.structure("socket", 0, &[("file", 64)]);
        assert_eq!(find_offsets(&bit_field.bytes()), None);
    }
}
