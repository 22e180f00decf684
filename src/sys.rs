// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The only place for `unsafe`: the libc calls that neither std nor neli wraps. bpf(2) is half of it:
//! rustix and nix do not have it.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crate::ifname;

// Bytes, names, services and random bytes.

/// The place of the first `byte`: `memchr(3)`, which std has and does not always use.
pub fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    // SAFETY: the slice is readable for its length. What is found is inside of it.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}

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

/// The bytes of a host. What stands behind the first `%` of an address is the name of an interface, or
/// its number.
fn host_bytes(host: &str) -> Vec<u8> {
    match host.split_once('%') {
        Some((address, scope)) if address.contains(':') => {
            [address.as_bytes(), b"%", &ifname::name_bytes(scope)].concat()
        }
        _ => ifname::name_bytes(host).into_owned(),
    }
}

/// `getaddrinfo(3)` for UDP; `host: None` looks up only the service. The first answer counts,
/// as in the reference. With `numeric`, no name service is asked about the host.
pub fn look_up_name(
    host: Option<&str>,
    service: &str,
    numeric: bool,
) -> std::result::Result<SocketAddr, LookupError> {
    // A NUL cannot be part of a name or a service: the same answer as for an unknown one.
    let service = CString::new(service).map_err(|_| LookupError(libc::EAI_SERVICE))?;
    let host = host
        .map(|host| CString::new(host_bytes(host)))
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
    Some(ifname::from_bytes(name.to_bytes()))
}

/// Fills `bytes` from the kernel's generator, waiting until it is seeded.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // Not by the function of libc: std's reference to it is a weak one, which a static link with
        // LTO takes for the only one, and leaves the function out.
        // SAFETY: rest is writable for rest.len() bytes.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, rest.as_mut_ptr(), rest.len(), 0) };
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

/// A program that runs beside this one. It is killed when this is dropped before it ended.
///
/// std's own has symbols of glibc 2.39, where it was built with one: such a `wg` would not start on
/// Debian 12.
pub struct Child {
    pid: libc::pid_t,
    ended: bool,
}

impl Child {
    /// Runs the program at `path` with `args`, `LC_ALL=C` and the usual PATH. It reads nothing, its
    /// stderr is dropped, and its output comes out of the file.
    ///
    /// # Errors
    /// Those of `pipe2(2)` and `posix_spawn(3)`.
    pub fn spawn(path: &CStr, args: &[&CStr]) -> io::Result<(Self, std::fs::File)> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for both descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: pipe2 made both, and nobody else has them.
        let [output, input] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let mut argv: Vec<*mut libc::c_char> = vec![path.as_ptr().cast_mut()];
        argv.extend(args.iter().map(|arg| arg.as_ptr().cast_mut()));
        argv.push(ptr::null_mut());
        let env = [
            c"LC_ALL=C".as_ptr().cast_mut(),
            c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr().cast_mut(),
            ptr::null_mut(),
        ];
        let null = c"/dev/null".as_ptr();
        let mut pid = 0;
        // SAFETY: the actions are initialised before they are used and destroyed afterwards; all
        // strings are NUL-terminated and outlive the call, and both lists end with a null pointer.
        let code = unsafe {
            let mut actions = std::mem::MaybeUninit::uninit();
            let actions = actions.as_mut_ptr();
            let mut code = libc::posix_spawn_file_actions_init(actions);
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code));
            }
            let open = libc::posix_spawn_file_actions_addopen;
            for (fd, flags) in [(0, libc::O_RDONLY), (2, libc::O_WRONLY)] {
                code = code.max(open(actions, fd, null, flags, 0));
            }
            code = code.max(libc::posix_spawn_file_actions_adddup2(
                actions,
                input.as_raw_fd(),
                1,
            ));
            if code == 0 {
                let (argv, env) = (argv.as_ptr(), env.as_ptr());
                code = libc::posix_spawn(&mut pid, path.as_ptr(), actions, ptr::null(), argv, env);
            }
            libc::posix_spawn_file_actions_destroy(actions);
            code
        };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok((Child { pid, ended: false }, output.into()))
    }

    /// How it ended, as an exit code (128 and more for a signal); `None` while it runs.
    ///
    /// # Errors
    /// Those of `waitpid(2)`.
    pub fn read_exit(&mut self) -> io::Result<Option<i32>> {
        let mut status = 0;
        // SAFETY: `status` is a valid place, and the process is a child that was not waited for.
        match unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } {
            0 => Ok(None),
            -1 => Err(io::Error::last_os_error()),
            _ => {
                self.ended = true;
                Ok(Some(if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                }))
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: the process is a child that was not waited for, so that the number is its.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, ptr::null_mut(), 0);
            }
        }
    }
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

// The unwinder from its static archive: libgcc_s.so is a second library to load at each start.
// SAFETY: nothing is declared; std has the declarations.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

// Standard streams that were closed.

/// A bit for each of the descriptors 0, 1 and 2 that was closed when the process began.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Whether SIGPIPE was ignored when the process began.
static IGNORES_SIGPIPE: AtomicBool = AtomicBool::new(false);

/// Makes a function of the arguments, argv[0] among them, the program's own `main`.
///
/// The one that std makes also reads /proc/self/maps with sscanf(3), to know the end of the stack
/// for a message: a quarter of a start. All else that it does is in [`enter`].
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(
            argc: ::std::ffi::c_int,
            argv: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: these are what the C library gave to `main`.
            unsafe { $crate::cli::enter(argc, argv, $run) }
        }
    };
}

/// Runs the program as std would: standard streams that were closed are /dev/null, a reader that
/// has gone is an error and no signal, and a panic ends in exit code 101. But what is written to a
/// standard output that was closed is an error.
///
/// # Safety
/// `argc` and `argv` are those of a C `main`.
pub unsafe fn enter(
    argc: libc::c_int,
    argv: *const *const libc::c_char,
    run: fn(Vec<OsString>) -> u8,
) -> libc::c_int {
    for fd in 0..3 {
        // SAFETY: F_GETFD takes any number for a descriptor; the path is a C string. A new
        // descriptor has the lowest number that is free, which is this one.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) < 0 {
                CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
                let mode = if fd == libc::STDOUT_FILENO {
                    libc::O_RDONLY
                } else {
                    libc::O_RDWR
                };
                libc::open(c"/dev/null".as_ptr(), mode);
            }
        }
    }
    // SAFETY: ignoring a signal touches no memory of ours.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    IGNORES_SIGPIPE.store(before == libc::SIG_IGN, Ordering::Relaxed);
    let args = (0..usize::try_from(argc).unwrap_or(0)).map(|at| {
        // SAFETY: there are `argc` C strings in `argv`, and they outlive `main`.
        let arg = unsafe { CStr::from_ptr(*argv.add(at)) };
        OsStr::from_bytes(arg.to_bytes()).to_owned()
    });
    let args = args.collect();
    std::panic::catch_unwind(|| run(args)).unwrap_or(101).into()
}

/// Whether the caller ignores SIGPIPE.
pub fn ignores_sigpipe() -> bool {
    IGNORES_SIGPIPE.load(Ordering::Relaxed)
}

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
    check_result(done)
}

/// The longest message that a netlink socket takes. Its buffer is made larger first where `wanted`
/// needs that and the system allows it.
pub fn make_send_room(socket: RawFd, wanted: usize) -> usize {
    /// What the kernel keeps for itself (`netlink_sendmsg`).
    const KEPT: usize = 32;
    let room = || {
        let mut size: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointers are to a number and its length, which outlive the call.
        let done = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw mut size).cast(),
                &raw mut length,
            )
        };
        match done {
            0 => usize::try_from(size).unwrap_or(0).saturating_sub(KEPT),
            _ => wanted,
        }
    };
    let size = libc::c_int::try_from(wanted + KEPT).unwrap_or(libc::c_int::MAX);
    // The second one takes rights, and no limit counts for it.
    for option in [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE] {
        if room() >= wanted {
            break;
        }
        // SAFETY: the pointer and the length describe `size`, which outlives the call.
        unsafe {
            libc::setsockopt(
                socket,
                libc::SOL_SOCKET,
                option,
                (&raw const size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
    room()
}

/// Connects to the Unix socket at `path`. Waits no longer than `patience` for a program that does
/// not accept.
///
/// # Errors
/// Those of `connect(2)`; then it is `TimedOut`.
pub fn connect_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    // SAFETY: sockaddr_un is plain data for which all zero is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let path = path.as_os_str().as_bytes();
    // A NUL stays behind it.
    if path.len() >= address.sun_path.len() || path.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in address.sun_path.iter_mut().zip(path) {
        *place = *byte as libc::c_char;
    }
    // SAFETY: socket takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check_result(socket.min(0))?;
    // SAFETY: socket made it, and nobody else has it.
    let stream = unsafe { UnixStream::from_raw_fd(socket) };
    // The kernel waits as long in connect(2) as in send(2).
    stream.set_write_timeout(Some(patience))?;
    // SAFETY: the address is readable for its length.
    let done = unsafe {
        libc::connect(
            socket,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    };
    match check_result(done) {
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
        }
        done => done.map(|()| stream),
    }
}

/// Takes the exclusive lock of an open file, or says `WouldBlock`.
pub fn try_lock(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    check_result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })
}

/// Moves the calling thread into a network namespace.
pub fn enter_netns(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    check_result(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// The index of an interface.
pub fn if_index(name: &str) -> Option<u32> {
    let name = CString::new(ifname::to_bytes(name)?).ok()?;
    // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

fn check_result(done: libc::c_int) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A number that tells this thread's network namespace from every other since boot.
pub fn netns_cookie() -> io::Result<u64> {
    /// asm-generic/socket.h; since 5.14.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to `cookie` and to its length, which outlive the call; the kernel
    // writes at most `length` bytes.
    check_result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    })?;
    Ok(cookie)
}

// bpf(2): the commands of linux/bpf.h that the bind hooks take.

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
/// Others may attach as well; each program is asked.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Bytes of an object's name (`BPF_OBJ_NAME_LEN`).
const NAME_LEN: usize = 16;

/// Calls bpf(2).
///
/// # Safety
/// `A` is the kernel's `union bpf_attr` for this command, from its start: plain data without
/// padding, whose pointers are null or to memory that the command may read or write, in the
/// lengths that `A` and the objects behind its descriptors state, until the call returns.
unsafe fn call_bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the size describe `attributes`; the caller promises the rest.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    match libc::c_int::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// `command` returns a new descriptor; otherwise as for [`bpf`].
unsafe fn bpf_object<A>(command: libc::c_int, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller promises what `bpf` asks for, and that the descriptor has no owner yet.
    unsafe { call_bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// An address as the kernel takes it in `union bpf_attr`.
fn address_of<T>(pointer: *const T) -> u64 {
    pointer as usize as u64
}

fn object_name(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    let length = name.len().min(NAME_LEN - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

fn read_object_name(bytes: &[u8; NAME_LEN]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(NAME_LEN);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A descriptor as `union bpf_attr` has it.
fn number_of(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// A hash map with keys of `K` and values of `V` bytes.
///
/// The kernel reads and writes as many bytes as the map's own sizes say. It does not know the size
/// of our buffers. So the descriptor is private, and each way to make one has compared the sizes.
#[derive(Debug)]
pub struct BpfMap<const K: usize, const V: usize>(OwnedFd);

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl<const K: usize, const V: usize> BpfMap<K, V> {
    /// An empty map that takes memory for what is in it only.
    pub fn create(name: &str, entries: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            kind: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            flags: u32,
            inner_map: u32,
            numa_node: u32,
            name: [u8; NAME_LEN],
        }
        let mut create = Create {
            kind: BPF_MAP_TYPE_HASH,
            key_size: K as u32,
            value_size: V as u32,
            max_entries: entries,
            flags: BPF_F_NO_PREALLOC,
            inner_map: 0,
            numa_node: 0,
            name: object_name(name),
        };
        // SAFETY: no pointers; returns a new descriptor. The map has the sizes of `Self`.
        unsafe { bpf_object(BPF_MAP_CREATE, &mut create).map(BpfMap) }
    }

    /// The map with this id, if it has this name and these sizes.
    pub fn open(id: u32, name: &str) -> io::Result<Option<Self>> {
        /// The start of `struct bpf_map_info`.
        #[repr(C)]
        #[derive(Default)]
        struct MapInfo {
            kind: u32,
            id: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            flags: u32,
            name: [u8; NAME_LEN],
        }
        let fd = object_by_id(BPF_MAP_GET_FD_BY_ID, id)?;
        let mut found = MapInfo::default();
        // SAFETY: MapInfo is the start of what the kernel writes for a map: plain data.
        unsafe { object_info(fd.as_fd(), &mut found) }?;
        let same = found.kind == BPF_MAP_TYPE_HASH
            && found.key_size == K as u32
            && found.value_size == V as u32
            && read_object_name(&found.name) == name;
        Ok(same.then_some(BpfMap(fd)))
    }

    /// For the program that looks into it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Adds or replaces.
    pub fn insert(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
        let mut element = MapElement {
            map: number_of(self.0.as_fd()),
            padding: 0,
            key: address_of(key),
            value: address_of(value),
            flags: 0,
        };
        // SAFETY: the kernel reads K and V bytes, the lengths of the arrays that outlive the call.
        unsafe { call_bpf(BPF_MAP_UPDATE_ELEM, &mut element) }.map(drop)
    }

    /// Whether there was one.
    pub fn remove(&self, key: &[u8; K]) -> io::Result<bool> {
        let mut element = MapElement {
            map: number_of(self.0.as_fd()),
            padding: 0,
            key: address_of(key),
            value: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads K bytes, the length of the array that outlives the call.
        was_found(unsafe { call_bpf(BPF_MAP_DELETE_ELEM, &mut element) })
    }

    pub fn get(&self, key: &[u8; K]) -> io::Result<Option<[u8; V]>> {
        let mut value = [0; V];
        let mut element = MapElement {
            map: number_of(self.0.as_fd()),
            padding: 0,
            key: address_of(key),
            value: address_of(&raw mut value),
            flags: 0,
        };
        // SAFETY: the kernel reads K bytes and writes V, the lengths of the arrays that outlive
        // the call.
        let there = was_found(unsafe { call_bpf(BPF_MAP_LOOKUP_ELEM, &mut element) })?;
        Ok(there.then_some(value))
    }

    /// The key after this one, or the first; in no order.
    pub fn next_key(&self, after: Option<&[u8; K]>) -> io::Result<Option<[u8; K]>> {
        let mut next = [0; K];
        let mut element = MapElement {
            map: number_of(self.0.as_fd()),
            padding: 0,
            key: after.map_or(0, |key| address_of(key)),
            value: address_of(&raw mut next),
            flags: 0,
        };
        // SAFETY: the kernel reads K bytes or, with a null pointer, none, and writes K to `next`,
        // which outlives the call.
        let there = was_found(unsafe { call_bpf(BPF_MAP_GET_NEXT_KEY, &mut element) })?;
        Ok(there.then_some(next))
    }
}

/// Turns "no such entry" into an answer.
fn was_found(done: io::Result<libc::c_int>) -> io::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(err) => Err(err),
    }
}

fn object_by_id(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut by_id = ById {
        id,
        next: 0,
        flags: 0,
    };
    // SAFETY: no pointers; both callers' commands return a new descriptor.
    unsafe { bpf_object(command, &mut by_id) }
}

/// Fills `info` with as much as fits of what the kernel says about an object.
///
/// # Safety
/// `I` is the start of the kernel's structure for the kind of object that `fd` is, for which any
/// bytes are a value; its pointers obey [`bpf`].
unsafe fn object_info<I>(fd: BorrowedFd<'_>, info: &mut I) -> io::Result<()> {
    #[repr(C)]
    struct Get {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut get = Get {
        fd: number_of(fd),
        length: size_of::<I>() as u32,
        info: address_of(std::ptr::from_mut(info)),
    };
    // SAFETY: the kernel reads and writes at most `length` bytes of `info`; the caller promises
    // that they may be any.
    unsafe { call_bpf(BPF_OBJ_GET_INFO_BY_FD, &mut get) }.map(drop)
}

/// A program for the bind hooks.
#[derive(Debug)]
pub struct BpfProgram(OwnedFd);

impl BpfProgram {
    /// Has the kernel check and take a program for the hook `attach`; `log` gets the checker's
    /// words when it is not empty.
    pub fn load(
        name: &str,
        attach: u32,
        instructions: &[u8],
        license: &CStr,
        log: &mut [u8],
    ) -> io::Result<Self> {
        #[repr(C)]
        struct Load {
            kind: u32,
            count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
            kernel_version: u32,
            flags: u32,
            name: [u8; NAME_LEN],
            ifindex: u32,
            attach: u32,
        }
        let mut load = Load {
            kind: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            count: (instructions.len() / crate::wire::bpf::INSTRUCTION_LEN) as u32,
            instructions: address_of(instructions.as_ptr()),
            license: address_of(license.as_ptr()),
            log_level: u32::from(!log.is_empty()),
            log_size: log.len() as u32,
            log: if log.is_empty() {
                0
            } else {
                address_of(log.as_mut_ptr())
            },
            kernel_version: 0,
            flags: 0,
            name: object_name(name),
            ifindex: 0,
            attach,
        };
        // SAFETY: the kernel reads `count` whole instructions and a NUL-terminated string, and
        // writes at most `log_size` bytes of `log`; all outlive the call. Returns a new descriptor.
        unsafe { bpf_object(BPF_PROG_LOAD, &mut load).map(BpfProgram) }
    }

    pub fn open(id: u32) -> io::Result<Self> {
        object_by_id(BPF_PROG_GET_FD_BY_ID, id).map(BpfProgram)
    }

    /// Its name, and the ids of the first maps that it looks into.
    pub fn read_info(&self) -> io::Result<(String, Vec<u32>)> {
        /// The start of `struct bpf_prog_info`.
        #[repr(C)]
        #[derive(Default)]
        struct ProgramInfo {
            kind: u32,
            id: u32,
            tag: [u8; 8],
            jited_len: u32,
            xlated_len: u32,
            jited: u64,
            xlated: u64,
            load_time: u64,
            created_by: u32,
            maps_len: u32,
            maps: u64,
            name: [u8; NAME_LEN],
        }
        let mut maps = [0u32; 4];
        let mut found = ProgramInfo {
            maps_len: maps.len() as u32,
            maps: address_of(&raw mut maps),
            ..ProgramInfo::default()
        };
        // SAFETY: ProgramInfo is the start of what the kernel writes for a program: plain data.
        // It writes at most `maps_len` ids to `maps`, and nothing to what has the length 0.
        unsafe { object_info(self.0.as_fd(), &mut found) }?;
        let used = (found.maps_len as usize).min(maps.len());
        Ok((read_object_name(&found.name), maps[..used].to_vec()))
    }

    /// Has the kernel ask this program, besides others', at a hook of a cgroup.
    pub fn attach(&self, cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<()> {
        self.attach_or_detach(BPF_PROG_ATTACH, cgroup, attach, BPF_F_ALLOW_MULTI)
    }

    /// The opposite of [`BpfProgram::attach`].
    pub fn detach(&self, cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<()> {
        self.attach_or_detach(BPF_PROG_DETACH, cgroup, attach, 0)
    }

    fn attach_or_detach(
        &self,
        command: libc::c_int,
        cgroup: BorrowedFd<'_>,
        attach: u32,
        flags: u32,
    ) -> io::Result<()> {
        #[repr(C)]
        struct Attach {
            cgroup: u32,
            program: u32,
            attach: u32,
            flags: u32,
        }
        let mut one = Attach {
            cgroup: number_of(cgroup),
            program: number_of(self.0.as_fd()),
            attach,
            flags,
        };
        // SAFETY: no pointers.
        unsafe { call_bpf(command, &mut one) }.map(drop)
    }
}

/// The programs at a hook of a cgroup, by id, and the flags that they were attached with.
pub fn bpf_attached(cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<(Vec<u32>, u32)> {
    #[repr(C)]
    struct Query {
        cgroup: u32,
        attach: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
        /// New kernels write here, even past the size that they were told.
        rest: [u64; 4],
    }
    // As many as the kernel takes (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0u32; 64];
    let mut query = Query {
        cgroup: number_of(cgroup),
        attach,
        query_flags: 0,
        attach_flags: 0,
        ids: address_of(&raw mut ids),
        count: ids.len() as u32,
        padding: 0,
        rest: [0; 4],
    };
    // SAFETY: the kernel writes at most `count` ids to `ids`, which outlives the call, and to
    // `query`, which has all members of the command, those of 7.3 included.
    unsafe { call_bpf(BPF_PROG_QUERY, &mut query) }?;
    let count = (query.count as usize).min(ids.len());
    Ok((ids[..count].to_vec(), query.attach_flags))
}

/// The id of the BPF program that comes after this id, whoever loaded it. It takes `CAP_SYS_ADMIN`.
pub fn next_bpf_program(after: u32) -> io::Result<Option<u32>> {
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
    }
    let mut id = NextId {
        start: after,
        next: 0,
    };
    // SAFETY: no pointers.
    let there = was_found(unsafe { call_bpf(BPF_PROG_GET_NEXT_ID, &mut id) })?;
    Ok(there.then_some(id.next))
}

/// Whether the caller may turn ids into descriptors, which takes `CAP_SYS_ADMIN`.
pub fn bpf_may_look() -> io::Result<()> {
    next_bpf_program(i32::MAX as u32 - 1).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn wait_for_exit(child: &mut Child) -> i32 {
        loop {
            if let Some(code) = child.read_exit().unwrap() {
                return code;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// `a0` is also how a byte is shown.
    #[test]
    fn a_scope_begins_behind_the_first_percent_sign() {
        assert_eq!(host_bytes("fe80::1%a0"), b"fe80::1%a0");
        assert_eq!(host_bytes("fe80::1%%a0"), b"fe80::1%\xa0");
        assert_eq!(host_bytes("b%fcro.example"), b"b\xfcro.example");
        // The name of lo may be anything; its number is 1.
        let named = look_up_name(Some("fe80::1%1"), "51820", true).unwrap();
        assert_eq!(named, "[fe80::1%1]:51820".parse().unwrap());
    }

    #[test]
    fn a_program_is_run_and_read() {
        let script = c"read line; echo \"$LC_ALL $?\"; echo no >&2; exit 3";
        let (mut child, mut output) = Child::spawn(c"/bin/sh", &[c"-c", script]).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "C 1\n");
        assert_eq!(wait_for_exit(&mut child), 3);
        let killed = Child::spawn(c"/bin/sh", &[c"-c", c"kill -9 $$"]);
        assert_eq!(wait_for_exit(&mut killed.unwrap().0), 128 + libc::SIGKILL);
        let error = Child::spawn(c"/nowhere/sh", &[]).err().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_program_that_nobody_waits_for_is_killed() {
        let (child, mut output) = Child::spawn(c"/bin/sh", &[c"-c", c"exec sleep 1000"]).unwrap();
        drop(child);
        // Its end of the pipe is closed.
        assert_eq!(output.read(&mut [0]).unwrap(), 0);
    }
}
