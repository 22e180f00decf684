// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A kernel for tests: answers netlink requests of this thread as a script says.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use neli::consts::socket::NlFamily;

use super::bpf::Unavailable;
use super::routing::Routing;
use crate::model::HookEntry;
use crate::wire::route::Link;

/// Datagrams with the port id of their sender; 0 is the kernel.
pub type Datagrams = Vec<(u32, Vec<u8>)>;

type Answer = dyn FnMut(NlFamily, &[u8]) -> Datagrams;

/// The bind hooks with the entries of one network namespace.
#[derive(Default)]
pub struct ScriptedHooks {
    pub entries: BTreeMap<u16, HookEntry>,
    /// Why they can neither be seen nor changed.
    pub unavailable: Option<Unavailable>,
    /// Their programs cannot tell the kernel's sockets from others, and bind all on a port.
    pub blind: bool,
}

impl ScriptedHooks {
    /// What the hooks say to somebody who wants the kernel's sockets bound, or `all_sockets`.
    pub fn refusal(&self, all_sockets: bool) -> Option<Unavailable> {
        let blind = (self.blind && !all_sockets).then_some(Unavailable::NoBtf);
        self.unavailable.clone().or(blind)
    }
}

#[derive(Clone)]
pub struct ScriptedKernel {
    answer: Rc<RefCell<Answer>>,
    /// What other namespaces have.
    elsewhere: Vec<ScriptedKernel>,
    /// Processes of the host do not show.
    in_container: bool,
    hooks: Rc<RefCell<ScriptedHooks>>,
}

impl ScriptedKernel {
    pub fn saying(answer: impl FnMut(NlFamily, &[u8]) -> Datagrams + 'static) -> Self {
        ScriptedKernel {
            answer: Rc::new(RefCell::new(answer)),
            elsewhere: Vec::new(),
            in_container: false,
            hooks: Rc::default(),
        }
    }

    pub fn with_hooks(mut self, hooks: &Rc<RefCell<ScriptedHooks>>) -> Self {
        self.hooks = Rc::clone(hooks);
        self
    }

    pub fn beside(mut self, other: Option<ScriptedKernel>) -> Self {
        self.elsewhere.extend(other);
        self
    }

    pub fn in_container(mut self) -> Self {
        self.in_container = true;
        self
    }
}

thread_local! {
    static KERNEL: RefCell<Option<ScriptedKernel>> = const { RefCell::new(None) };
}

/// Runs `test` with this kernel in place of the machine's.
pub fn with<T>(kernel: ScriptedKernel, test: impl FnOnce() -> T) -> T {
    struct Back(Option<ScriptedKernel>);
    impl Drop for Back {
        fn drop(&mut self) {
            KERNEL.set(self.0.take());
        }
    }
    let _back = Back(KERNEL.replace(Some(kernel)));
    test()
}

/// What `look` sees in each of the other namespaces; `None` on the machine's own kernel.
pub fn elsewhere<T>(look: impl Fn() -> T) -> Option<Vec<T>> {
    let kernel = KERNEL.with_borrow(Clone::clone)?;
    let others = kernel.elsewhere.into_iter();
    Some(others.map(|other| with(other, &look)).collect())
}

/// Whether the processes of the whole machine show; `None` on the machine's own kernel.
pub fn sees_all_processes() -> Option<bool> {
    KERNEL.with_borrow(|kernel| kernel.as_ref().map(|kernel| !kernel.in_container))
}

/// The bind hooks; `None` on the machine's own kernel.
pub fn hooks() -> Option<Rc<RefCell<ScriptedHooks>>> {
    KERNEL.with_borrow(|kernel| kernel.as_ref().map(|kernel| Rc::clone(&kernel.hooks)))
}

/// The links; `None` on the machine's own kernel.
pub fn links() -> Option<Vec<Link>> {
    let scripted = KERNEL.with_borrow(Option::is_some);
    scripted.then(|| {
        Routing::open()
            .expect("a socket")
            .read_links()
            .unwrap_or_default()
    })
}

pub fn connect(family: NlFamily) -> Option<Connection> {
    let kernel = KERNEL.with_borrow(Clone::clone)?;
    Some(Connection {
        kernel,
        family,
        waiting: RefCell::default(),
    })
}

/// One socket.
pub struct Connection {
    kernel: ScriptedKernel,
    family: NlFamily,
    waiting: RefCell<VecDeque<(u32, Vec<u8>)>>,
}

impl Connection {
    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        let answer = (self.kernel.answer.borrow_mut())(self.family, request);
        self.waiting.borrow_mut().extend(answer);
        Ok(())
    }

    pub fn receive(&self, buffer: &mut [u8], flags: i32) -> io::Result<(usize, u32)> {
        let mut waiting = self.waiting.borrow_mut();
        let (from, datagram) = waiting.front().expect("the tool waits for ever here");
        let (from, length) = (*from, datagram.len());
        let fits = length.min(buffer.len());
        buffer[..fits].copy_from_slice(&datagram[..fits]);
        if flags & libc::MSG_PEEK == 0 {
            waiting.pop_front();
        }
        Ok((length, from))
    }
}

// linux/netlink.h
pub const ERROR: u16 = 2;
pub const DONE: u16 = 3;

/// A message with its `struct nlmsghdr`.
pub fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("a message");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The payload of an acknowledgement or of the end of a dump, with an empty copy of the request.
pub fn done(errno: i32) -> Vec<u8> {
    let mut bytes = (-errno).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&frame(0, 0, 0, &[]));
    bytes
}
