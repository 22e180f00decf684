// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The only place for `unsafe`: the few libc calls that neither std nor neli wraps.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

// Names, services and random bytes.

/// A refusal of `getaddrinfo(3)`: one of its `EAI_*` codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupError(pub i32);

impl LookupError {
    /// The C library's words for it; scripts know them from the reference.
    pub fn text(self) -> String {
        if self.0 == libc::EAI_SYSTEM {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return crate::error::strerror(errno);
        }
        // SAFETY: gai_strerror returns a pointer to a constant, NUL-terminated string.
        let text = unsafe { CStr::from_ptr(libc::gai_strerror(self.0)) };
        text.to_string_lossy().into_owned()
    }
}

/// `getaddrinfo(3)` for UDP; `host: None` looks up only the service. The first answer counts,
/// as in the reference. With `numeric`, no name service is asked about the host.
pub fn lookup(
    host: Option<&str>,
    service: &str,
    numeric: bool,
) -> std::result::Result<SocketAddr, LookupError> {
    // A NUL cannot be part of a name or a service: the same answer as for an unknown one.
    let service = CString::new(service).map_err(|_| LookupError(libc::EAI_SERVICE))?;
    let host = host
        .map(CString::new)
        .transpose()
        .map_err(|_| LookupError(libc::EAI_NONAME))?;
    // SAFETY: addrinfo is plain data for which all zero is a valid "no hint" value.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = libc::AF_UNSPEC;
    hints.ai_socktype = libc::SOCK_DGRAM;
    hints.ai_protocol = libc::IPPROTO_UDP;
    if host.is_none() {
        hints.ai_flags |= libc::AI_PASSIVE;
    }
    if numeric {
        hints.ai_flags |= libc::AI_NUMERICHOST;
    }
    let mut list: *mut libc::addrinfo = ptr::null_mut();
    // SAFETY: both strings are NUL-terminated or null, hints is initialised, list is a valid
    // place for the answer.
    let code = unsafe {
        libc::getaddrinfo(
            host.as_ref().map_or(ptr::null(), |h| h.as_ptr()),
            service.as_ptr(),
            &hints,
            &mut list,
        )
    };
    if code != 0 {
        return Err(LookupError(code));
    }
    let mut found = None;
    let mut entry = list;
    while !entry.is_null() && found.is_none() {
        // SAFETY: a non-null entry of the list is valid until freeaddrinfo below, and so is the
        // address it points to, of ai_addrlen bytes.
        unsafe {
            found = socket_addr((*entry).ai_addr, (*entry).ai_addrlen);
            entry = (*entry).ai_next;
        }
    }
    // SAFETY: list came from a successful getaddrinfo and is freed once.
    unsafe { libc::freeaddrinfo(list) };
    found.ok_or(LookupError(libc::EAI_NONAME))
}

/// # Safety
/// `addr` is null or points to `len` readable bytes that start with a socket address.
unsafe fn socket_addr(addr: *const libc::sockaddr, len: libc::socklen_t) -> Option<SocketAddr> {
    if addr.is_null() {
        return None;
    }
    // SAFETY: the caller promises a readable address; its family says which struct it is, and
    // each is read only when `len` covers it. Unaligned reads, as nothing promises alignment.
    unsafe {
        match i32::from((*addr).sa_family) {
            libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
                let v4 = ptr::read_unaligned(addr.cast::<libc::sockaddr_in>());
                Some(SocketAddr::new(
                    IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))),
                    u16::from_be(v4.sin_port),
                ))
            }
            libc::AF_INET6 if len as usize >= size_of::<libc::sockaddr_in6>() => {
                let v6 = ptr::read_unaligned(addr.cast::<libc::sockaddr_in6>());
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(v6.sin6_addr.s6_addr),
                    u16::from_be(v6.sin6_port),
                    0,
                    v6.sin6_scope_id,
                )))
            }
            _ => None,
        }
    }
}

/// The name of the interface with this index, where there is one.
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that if_indextoname may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    name.to_str().ok().map(str::to_owned)
}

/// Fills `bytes` from the kernel's generator, waiting until it is seeded.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: rest is writable for rest.len() bytes.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => done += got,
            Err(_) => {
                let err = io::Error::last_os_error();
                if err.kind() != io::ErrorKind::Interrupted {
                    return Err(err);
                }
            }
        }
    }
    Ok(())
}

/// Ends the process by SIGPIPE, as a C program ends whose reader is gone.
pub fn die_of_sigpipe() -> ! {
    // SAFETY: restoring the default action and raising a signal touch no memory of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
    }
    std::process::exit(128 + libc::SIGPIPE)
}

/// Forbids core files, which would hold keys, also where a program collects them. Then no other
/// process of the same user may look into this one either; root may.
pub fn forbid_core_dumps() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a struct that outlives the call; prctl takes plain numbers here.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

// Standard streams that were closed.

/// A bit for each of the descriptors 0, 1 and 2 that was closed when the process began.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before std, which opens /dev/null in place of closed standard streams before `main`.
extern "C" fn note_closed() {
    for fd in 0..3 {
        // SAFETY: F_GETFD takes any number for a descriptor and touches no memory.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

// SAFETY: the loader calls what stands in this section, once, with the C calling convention.
// The function needs nothing of std that is not there yet, and cannot unwind.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

/// Whether this descriptor (0, 1 or 2) was closed when the process began: what it is now is not
/// what the caller gave.
pub fn was_closed(fd: RawFd) -> bool {
    (0..3).contains(&fd) && CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0
}

// Netlink, locks and namespaces.

/// One datagram, and the port id of its sender: 0 is the kernel.
pub fn receive_netlink(
    socket: RawFd,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> io::Result<(usize, u32)> {
    // SAFETY: sockaddr_nl is plain data for which all zero is valid.
    let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the buffer is writable for its length, `from` for `length` bytes.
    let got = unsafe {
        libc::recvfrom(
            socket,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    match usize::try_from(got) {
        Ok(got) => Ok((got, from.nl_pid)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Turns a `SOL_NETLINK` option on.
pub fn netlink_option(socket: RawFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(done)
}

/// Takes the exclusive lock of an open file, or says `WouldBlock`.
pub fn try_lock(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })
}

/// Moves the calling thread into a network namespace.
pub fn enter_netns(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// The index of an interface.
pub fn if_index(name: &str) -> Option<u32> {
    let name = CString::new(crate::ifname::to_bytes(name)?).ok()?;
    // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

fn check(done: libc::c_int) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
