// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One QEMU process: its command line, its four serial ports, its end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err::{self as fs, File};
use kit::{Error, Result, process, sys};

pub const PROGRAM: &str = "qemu-system-x86_64";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    /// QEMU's own translator: slower, works everywhere.
    #[default]
    Tcg,
}

/// The files of a run that QEMU writes, in its results folder: one for each serial port.
pub const PORTS: [&str; 4] = ["console.log", "verdict.log", "stdout.log", "dmesg.log"];

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub accelerator: Accelerator,
    pub image: PathBuf,
    pub initramfs: PathBuf,
    pub cmdline: Vec<String>,
    pub memory: u32,
    pub smp: u32,
    /// Count instructions: each one takes 2^N virtual nanoseconds, and nothing else takes time.
    pub icount: Option<u32>,
    pub folder: PathBuf,
    /// The first port is our own terminal.
    pub interactive: bool,
}

impl Machine {
    pub fn list_arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = vec![PROGRAM.into()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|w| (*w).to_owned()));
        match self.choose_accelerator() {
            Accelerator::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
            // QEMU 7.2 gets cmpxchg16b wrong when it translates; Debian's 6.12 dies of it.
            Accelerator::Tcg => add(&["-accel", "tcg", "-cpu", "max,cx16=off"]),
        }
        if let Some(shift) = self.icount {
            add(&["-icount", &format!("shift={shift},sleep=off")]);
            // The same instructions each time: neither time nor chance come from outside.
            add(&["-rtc", "base=2026-01-01,clock=vm", "-seed", "1"]);
        }
        add(&["-nodefaults", "-no-user-config", "-nic", "none"]);
        add(&["-display", "none", "-no-reboot"]);
        let smp = self.icount.map_or(self.smp, |_| 1).to_string();
        add(&["-m", &format!("{}M", self.memory), "-smp", &smp]);
        add(&["-kernel", &self.image.to_string_lossy()]);
        add(&["-initrd", &self.initramfs.to_string_lossy()]);
        add(&["-append", &self.join_cmdline()]);
        for (index, port) in PORTS.iter().enumerate() {
            if index == 0 && self.interactive {
                add(&["-serial", "mon:stdio"]);
            } else {
                let file = self.folder.join(port);
                add(&["-serial", &format!("file:{}", file.display())]);
            }
        }
        words
    }

    /// Only a translator can count instructions.
    fn choose_accelerator(&self) -> Accelerator {
        self.icount.map_or(self.accelerator, |_| Accelerator::Tcg)
    }

    fn join_cmdline(&self) -> String {
        let mut words = read_words(include_str!("../../cmdline/guest"));
        if self.icount.is_some() {
            words.push("nokaslr");
        }
        if self.choose_accelerator() == Accelerator::Tcg {
            words.extend(read_words(include_str!("../../cmdline/translated")));
        }
        if self.interactive {
            words.push("quiet");
        }
        words.extend(self.cmdline.iter().map(String::as_str));
        words.join(" ")
    }

    pub fn format_command(&self) -> String {
        let words = self.list_arguments();
        let words: Vec<_> = words.iter().map(|word| process::quote_word(word)).collect();
        words.join(" ")
    }

    pub fn start_qemu(&self) -> Result<Qemu> {
        fs::create_dir_all(&self.folder)?;
        let log = File::create(self.folder.join("qemu.log"))?;
        let words = self.list_arguments();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if !self.interactive {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(log.into_file());
        }
        sys::die_with_parent(&mut command);
        let child = command.spawn();
        let child = child.map_err(|e| process::explain_start(&command, e))?;
        let folder = self.folder.clone();
        Ok(Qemu { child, folder })
    }
}

/// A running machine; it ends with this value.
pub struct Qemu {
    child: Child,
    folder: PathBuf,
}

impl Qemu {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended; an error when QEMU itself complained.
    pub fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(Error::Failed {
                command: PROGRAM.into(),
                status: status.to_string(),
                output: self.read_port("qemu.log"),
            }),
        }
    }

    pub fn wait(&mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    pub fn read_port(&self, port: &str) -> String {
        read_log(&self.folder.join(port))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself just now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a list that are no comments.
fn read_words(list: &str) -> Vec<&str> {
    let lines = list.lines();
    lines.filter(|line| !line.starts_with('#')).collect()
}

/// A log may be absent, and holds any bytes that a guest wrote.
pub fn read_log(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_no_network_and_counts_instructions_of_one_processor() {
        let mut machine = Machine {
            initramfs: "/k/init rd".into(),
            cmdline: vec!["ipv6.disable=1".into()],
            memory: 512,
            smp: 2,
            folder: "/r".into(),
            ..Machine::default()
        };
        let line = machine.format_command();
        let without = "-nic none|-nodefaults|-no-reboot|-cpu max,cx16=off|panic=-1|-smp 2|\
                       ipv6.disable=1'|'/k/init rd'|-serial file:/r/verdict.log";
        for part in without.split('|') {
            assert!(line.contains(part), "{part} in {line}");
        }
        machine.accelerator = Accelerator::Kvm;
        machine.icount = Some(0);
        let line = machine.format_command();
        for part in "-accel tcg|-icount shift=0,sleep=off|-smp 1|clock=vm".split('|') {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("kvm"), "{line}");
    }
}
