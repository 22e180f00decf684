// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The ways into a mount and a network namespace of the tests' own.

use std::process::{Command, Stdio};

/// Arguments of unshare(1).
pub type Way = &'static [&'static str];

/// As root.
pub const ROOT: Way = &["--mount", "--net"];
/// As root of a user namespace, where the system allows one. It is root of nothing else.
pub const USER: Way = &["--user", "--map-root-user", "--mount", "--net"];
/// As root in a chroot. A chroot has no user namespaces, and unshare(1) cannot make a file system
/// private that has no mount point of its own.
pub const CHROOT: Way = &["--mount", "--propagation", "unchanged", "--net"];

/// Mounts on the folder `$1`. Where nothing was made private, the process that asks must not see it.
const PROBE: &str = r#"
    mount -t tmpfs tmpfs "$1" && : >"$1/mounted" && ip link set lo up && {
        [ "$2" = private ] ||
            { [ -d "/proc/$PPID/root$1" ] && [ ! -e "/proc/$PPID/root$1/mounted" ]; }
    }
    code=$?
    umount "$1"
    exit $code"#;

/// The first of these ways that works here.
pub fn find_way(ways: &[Way]) -> Option<Way> {
    let folder = std::env::temp_dir().join(format!("wg-vrf-probe-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder to try mounts in");
    let works = |way: &Way| {
        let propagation = if *way == CHROOT {
            "unchanged"
        } else {
            "private"
        };
        Command::new("unshare")
            .args(*way)
            .args(["sh", "-c", PROBE, "sh"])
            .args([folder.as_os_str(), propagation.as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let way = ways.iter().copied().find(works);
    let _ = std::fs::remove_dir(&folder);
    way
}
