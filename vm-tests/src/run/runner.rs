// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs scenarios on kernels: one machine, one folder of results, one report for each pair.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::guest::initramfs::{Initramfs, Overlay};
use crate::guest::programs::{self, Found};
use crate::kernel::table::BootableKernel;
use crate::run::qemu::{Accelerator, Machine, Qemu, read_log};
use crate::run::scenario::{self, Scenario};
use crate::run::verdict::{self, End, Evidence, Outcome, Stages};
use kit::cache::{Cache, Key, remove};
use kit::error::{Error, Result};
use kit::progress::Progress;

/// Modules that every guest loads, those of the kernel under test among them.
const MODULES: &[&str] = &["wireguard", "vrf", "veth", "dummy"];

/// How long a `/dev/kvm` has to prove itself.
const TRIAL: Duration = Duration::from_secs(12);

/// A program put into guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// A program of this machine, with whatever libraries it needs.
    Program(PathBuf),
    /// A program of an unpacked root (`usr/bin/wg`), run by that root's own loader.
    Rooted { root: PathBuf, program: String },
}

/// The limits of a run, before the slowness of kernel and accelerator multiplies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From QEMU's start to init.
    pub boot: Duration,
    /// What the guest gets to end a scenario by itself, beyond the scenario's own limit.
    pub grace: Duration,
    /// From the scenario's end to QEMU's.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            shutdown: Duration::from_secs(45),
        }
    }
}

/// What happens while scenarios run.
#[derive(Clone, Debug)]
pub enum RunEvent<'a> {
    Started {
        kernel: &'a str,
        scenario: &'a str,
    },
    /// Init was reached.
    Booted {
        kernel: &'a str,
        scenario: &'a str,
        took: Duration,
    },
    /// A line of the scenario's output.
    Line {
        kernel: &'a str,
        scenario: &'a str,
        line: &'a str,
    },
    Finished(&'a Report),
}

/// What became of one scenario on one kernel.
#[derive(Clone, Debug)]
pub struct Report {
    pub kernel: String,
    pub scenario: String,
    pub title: String,
    pub outcome: Outcome,
    /// The `result` lines of the scenario.
    pub results: Vec<(String, String)>,
    /// What a reader should know, passed or not: a check that could not be made.
    pub notes: Vec<String>,
    /// From QEMU's start to init; none if it was not reached.
    pub boot: Option<Duration>,
    pub took: Duration,
    /// What QEMU used of the processors: unlike the time it took, no matter of who else is busy.
    pub cpu: Duration,
    /// console.log, stdout.log, dmesg.log, verdict.log, verdict, command.
    pub folder: PathBuf,
}

impl Report {
    /// The one command that repeats it.
    pub fn repeat(&self) -> String {
        repeat_command(&self.kernel, &self.scenario)
    }

    /// The value of a `result` line.
    pub fn result(&self, key: &str) -> Option<&str> {
        let found = self.results.iter().rev().find(|(k, _)| k == key)?;
        Some(&found.1)
    }
}

fn repeat_command(kernel: &str, scenario: &str) -> String {
    format!("cargo xtask vm run --kernel {kernel} --scenario {scenario}")
}

/// Boots kernels and runs scenarios. Cheap to build; guests' parts are made when first wanted.
pub struct Runner {
    pub(crate) cache: Cache,
    pub(crate) progress: Progress,
    results: PathBuf,
    parallel: usize,
    limits: Limits,
    pub(crate) tools: BTreeMap<String, Tool>,
    /// The tools with their libraries, as guests get them.
    carried: Mutex<Option<Arc<Overlay>>>,
    /// See `inputs`: what large files were found to hold.
    pub(crate) hashes: Mutex<BTreeMap<String, String>>,
    accelerator: Mutex<Option<Accelerator>>,
    initramfs: Mutex<Option<Arc<Initramfs>>>,
}

impl Runner {
    /// `results` is the folder under which KERNEL/SCENARIO/ folders are made.
    pub fn new(cache: &Cache, results: impl Into<PathBuf>, progress: &Progress) -> Self {
        Self {
            cache: cache.clone(),
            progress: progress.clone(),
            results: results.into(),
            parallel: 2,
            limits: Limits::default(),
            tools: BTreeMap::new(),
            carried: Mutex::new(None),
            hashes: Mutex::new(BTreeMap::new()),
            accelerator: Mutex::new(None),
            initramfs: Mutex::new(None),
        }
    }

    /// How many machines run at once (2).
    pub fn parallel(mut self, machines: usize) -> Self {
        self.parallel = machines.max(1);
        self
    }

    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts a program into guests as `/usr/bin/NAME`. The one called `wg` is `$WG`.
    pub fn tool(mut self, name: &str, tool: Tool) -> Self {
        self.tools.insert(name.to_owned(), tool);
        self
    }

    /// Takes an accelerator as given, without a trial.
    pub fn with_accelerator(self, accelerator: Accelerator) -> Self {
        *self.accelerator.lock().expect("no holder panics") = Some(accelerator);
        self
    }

    /// Runs every pair, some at a time; the reports are in the order of the pairs.
    pub fn run_all(
        &self,
        pairs: &[(BootableKernel, Scenario)],
        watch: &(dyn Fn(RunEvent<'_>) + Sync),
    ) -> Vec<Report> {
        if let Some((kernel, _)) = pairs.first() {
            // Once, before the machines compete for the processors. An error shows in each run.
            let _ = self.accelerator(kernel);
        }
        let next = AtomicUsize::new(0);
        let reports: Vec<_> = pairs.iter().map(|_| Mutex::new(None)).collect();
        thread::scope(|scope| {
            for _ in 0..self.parallel.min(pairs.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((kernel, scenario)) = pairs.get(index) else {
                            return;
                        };
                        let report = self.run(kernel, scenario, watch);
                        *reports[index].lock().expect("no holder panics") = Some(report);
                    }
                });
            }
        });
        reports
            .into_iter()
            .filter_map(|slot| slot.into_inner().expect("no holder panics"))
            .collect()
    }

    /// Runs one scenario on one kernel. Whatever goes wrong is the report's outcome.
    pub fn run(
        &self,
        kernel: &BootableKernel,
        scenario: &Scenario,
        watch: &(dyn Fn(RunEvent<'_>) + Sync),
    ) -> Report {
        let name = kernel.kernel.name.as_str();
        watch(RunEvent::Started {
            kernel: name,
            scenario: &scenario.name,
        });
        let begun = Instant::now();
        let mut report = Report {
            kernel: name.to_owned(),
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            outcome: Outcome::Passed,
            results: Vec::new(),
            notes: Vec::new(),
            boot: None,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            folder: self.results.join(name).join(&scenario.name),
        };
        report.outcome = match self.attempt(kernel, scenario, &mut report, watch) {
            Ok(outcome) => scenario.expected(outcome),
            Err(error) => Outcome::HarnessError(error.to_string()),
        };
        report.took = begun.elapsed();
        if let Err(error) = keep(&report) {
            report.outcome = Outcome::HarnessError(error.to_string());
        }
        watch(RunEvent::Finished(&report));
        report
    }

    fn attempt(
        &self,
        kernel: &BootableKernel,
        scenario: &Scenario,
        report: &mut Report,
        watch: &(dyn Fn(RunEvent<'_>) + Sync),
    ) -> Result<Outcome> {
        let accelerator = self.accelerator(kernel)?;
        let folder = report.folder.clone();
        // Somebody else may be running the same pair into the same folder.
        let place = Key::new().add("folder", folder.to_string_lossy().as_bytes());
        let _lock = self.cache.lock(&format!("run-{}", place.finish()))?;
        // Nothing of an earlier run may be taken for this one's.
        remove(&folder)?;
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let slow = kernel.kernel.slow * patience(accelerator);
        let timeout = scenario.timeout * slow;
        let overlay = self.overlay(kernel, Some(scenario), "run", timeout)?;
        let initramfs = folder.join("initramfs");
        let parts = self.initramfs()?;
        let archives = parts.archives(kernel, &scenario.packages)?;
        parts.join(&archives, &overlay, &initramfs)?;

        let machine = Machine {
            image: kernel.image.clone(),
            initramfs: initramfs.clone(),
            folder: folder.clone(),
            ..machine(kernel, scenario, accelerator)
        };
        let commands = format!(
            "# Repeats this run:\n{}\n# What was run (the initramfs is gone):\n{}\n",
            repeat_command(&report.kernel, &report.scenario),
            machine.command_line()
        );
        let file = folder.join("command");
        fs::write(&file, commands).map_err(Error::io("write", &file))?;

        let limits = Limits {
            boot: scenario.boot.unwrap_or(self.limits.boot * slow),
            grace: self.limits.grace,
            shutdown: scenario.shutdown.unwrap_or(self.limits.shutdown * slow),
        };
        let mut seen = 0;
        let mut qemu = machine.start()?;
        let pid = qemu.id();
        let watched = watch_machine(&mut qemu, limits, timeout, &mut |stages, took, stdout| {
            report.cpu = used(pid).unwrap_or(report.cpu);
            if stages.init && report.boot.is_none() {
                report.boot = Some(took);
                watch(RunEvent::Booted {
                    kernel: &report.kernel,
                    scenario: &report.scenario,
                    took,
                });
            }
            // Whole lines only.
            let Some(new) = stdout.get(seen..) else {
                return;
            };
            let end = new.rfind('\n').map_or(0, |at| at + 1);
            for line in new[..end].lines() {
                watch(RunEvent::Line {
                    kernel: &report.kernel,
                    scenario: &report.scenario,
                    line,
                });
            }
            seen += end;
        });
        drop(qemu);
        // It is large, and made again in no time.
        remove(&initramfs)?;
        let end = watched?;
        report.results = verdict::results(&read_log(&folder.join("stdout.log")));
        let port = read_log(&folder.join("verdict.log"));
        report.notes = Stages::read(&port).notes;
        Ok(verdict::judge(Evidence {
            port: &port,
            console: &read_log(&folder.join("console.log")),
            dmesg: &read_log(&folder.join("dmesg.log")),
            end,
        }))
    }

    /// A guest on this terminal, with the tools and scenarios in it.
    pub fn shell(&self, kernel: &BootableKernel, scenario: Option<&Scenario>) -> Result<()> {
        let scratch = Scratch::new("shell")?;
        let folder = scratch.0.clone();
        let overlay = self.overlay(kernel, scenario, "shell", Duration::ZERO)?;
        let initramfs = folder.join("initramfs");
        let parts = self.initramfs()?;
        let packages = scenario.map(|s| s.packages.clone()).unwrap_or_default();
        parts.join(&parts.archives(kernel, &packages)?, &overlay, &initramfs)?;
        let mut cmdline = kernel.kernel.cmdline.clone();
        cmdline.extend(scenario.iter().flat_map(|s| s.cmdline.iter().cloned()));
        let machine = Machine {
            accelerator: self.accelerator(kernel)?,
            image: kernel.image.clone(),
            initramfs,
            cmdline,
            memory: kernel.kernel.memory,
            smp: 2,
            icount: None,
            folder: folder.clone(),
            interactive: true,
        };
        machine.start()?.wait()
    }

    /// What runs guests here: KVM if it really boots `kernel` in time, else TCG. Tried once per
    /// boot of this machine; `WGVRF_ACCEL=kvm|tcg` decides without a trial.
    pub fn accelerator(&self, kernel: &BootableKernel) -> Result<Accelerator> {
        let mut chosen = self.accelerator.lock().expect("no holder panics");
        if let Some(accelerator) = *chosen {
            return Ok(accelerator);
        }
        let accelerator = match env::var("WGVRF_ACCEL") {
            Ok(word) if !word.is_empty() => Accelerator::from_word(&word).ok_or_else(|| {
                Error::other(format!("WGVRF_ACCEL=`{word}' is neither kvm nor tcg"))
            })?,
            _ => self.tried_accelerator(kernel)?,
        };
        *chosen = Some(accelerator);
        Ok(accelerator)
    }

    fn tried_accelerator(&self, kernel: &BootableKernel) -> Result<Accelerator> {
        let opens = File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        if !opens {
            return Ok(Accelerator::Tcg);
        }
        let boot_id = read_log(Path::new("/proc/sys/kernel/random/boot_id"));
        let memory = self.cache.folder("accelerator")?.join(boot_id.trim());
        if let Some(known) = Accelerator::from_word(read_log(&memory).trim()) {
            return Ok(known);
        }
        self.progress.step("trial boot with KVM");
        let accelerator = if self.trial(kernel)? {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        };
        fs::write(&memory, accelerator.word()).map_err(Error::io("write", &memory))?;
        self.progress.tell(kit::progress::Event::Done);
        Ok(accelerator)
    }

    /// Whether KVM brings `kernel` to init in time.
    fn trial(&self, kernel: &BootableKernel) -> Result<bool> {
        let scratch = Scratch::new("trial")?;
        let folder = scratch.0.clone();
        let initramfs = folder.join("initramfs");
        let parts = self.initramfs()?;
        let overlay = self.overlay(kernel, None, "trial", Duration::ZERO)?;
        parts.join(&parts.archives(kernel, &[])?, &overlay, &initramfs)?;
        let machine = Machine {
            accelerator: Accelerator::Kvm,
            image: kernel.image.clone(),
            initramfs,
            cmdline: kernel.kernel.cmdline.clone(),
            memory: kernel.kernel.memory,
            smp: 2,
            icount: None,
            folder: folder.clone(),
            interactive: false,
        };
        let mut qemu = machine.start()?;
        let end = Instant::now() + TRIAL;
        let mut works = false;
        while Instant::now() < end {
            // A QEMU that cannot use /dev/kvm at all ends with an error: that is an answer too.
            if !matches!(qemu.ended(), Ok(false)) {
                works = Stages::read(&qemu.read("verdict.log")).verdict.is_some();
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(works)
    }

    pub(crate) fn initramfs(&self) -> Result<Arc<Initramfs>> {
        let mut slot = self.initramfs.lock().expect("no holder panics");
        if let Some(parts) = &*slot {
            return Ok(parts.clone());
        }
        let parts = Arc::new(Initramfs::new(&self.cache, &self.progress)?);
        *slot = Some(parts.clone());
        Ok(parts)
    }

    /// The run's own archive.
    fn overlay(
        &self,
        kernel: &BootableKernel,
        scenario: Option<&Scenario>,
        mode: &str,
        timeout: Duration,
    ) -> Result<Overlay> {
        let mut overlay = self.own(kernel, scenario, mode, timeout)?;
        overlay.extend(&*self.carried()?);
        let parts = self.initramfs()?;
        for name in scenario.iter().flat_map(|s| &s.programs) {
            match programs::find(name, &self.cache, &self.progress)? {
                Found::Program(tool) => put(&parts, name, &tool, &mut overlay)?,
                Found::Lacking(why) => {
                    overlay.file(&format!("usr/lib/wgvrf/lacks/{name}"), false, why);
                }
            }
        }
        parts.replace_modules(kernel, &mut overlay)?;
        Ok(overlay)
    }

    /// The tools: the same in every guest, so looked at once.
    fn carried(&self) -> Result<Arc<Overlay>> {
        let parts = self.initramfs()?;
        let mut slot = self.carried.lock().expect("no holder panics");
        if let Some(overlay) = &*slot {
            return Ok(overlay.clone());
        }
        let mut overlay = Overlay::default();
        for (name, tool) in &self.tools {
            put(&parts, name, tool, &mut overlay)?;
        }
        let overlay = Arc::new(overlay);
        *slot = Some(overlay.clone());
        Ok(overlay)
    }

    /// The same without what is compiled: tools and modules.
    pub(crate) fn own(
        &self,
        kernel: &BootableKernel,
        scenario: Option<&Scenario>,
        mode: &str,
        timeout: Duration,
    ) -> Result<Overlay> {
        let mut overlay = Overlay::default();
        let guest = scenario::crate_folder().join("guest");
        for path in scenario::libraries(&guest, scenario.filter(|_| mode != "shell"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            overlay.copy(&format!("usr/lib/wgvrf/{name}"), false, &path)?;
        }
        overlay.copy("init", true, &guest.join("init"))?;
        // What we tell users to write is what the scenarios run.
        let examples = scenario::crate_folder().join("../packaging/examples");
        copy_tree(&mut overlay, "usr/lib/wgvrf/examples", &examples)?;
        // Only who looks around in a guest wants them all.
        let others = match mode {
            "shell" => scenario::all()?,
            _ => Vec::new(),
        };
        for other in others.iter().chain(scenario) {
            let place = format!("usr/lib/wgvrf/scenarios/{}.sh", other.name);
            overlay.copy(&place, true, &other.path)?;
        }
        let wanted = scenario.map_or(&[][..], |s| &s.source);
        if !wanted.is_empty() {
            let source = kernel.source.as_ref().ok_or_else(|| {
                Error::other(format!("nobody has the source of {}", kernel.kernel.name))
            })?;
            let folders = source.get(wanted)?;
            for path in wanted {
                let place = |kind: &str| format!("usr/lib/wgvrf/source/{kind}/{path}");
                overlay.copy(&place("stock"), true, &folders.stock.join(path))?;
                if let Some(patched) = &folders.patched {
                    overlay.copy(&place("patched"), true, &patched.join(path))?;
                }
            }
        }
        let mut modules: Vec<&str> = MODULES.to_vec();
        modules.extend(
            scenario
                .iter()
                .flat_map(|s| s.modules.iter().map(String::as_str)),
        );
        if mode == "trial" {
            modules.clear();
        }
        overlay.file(
            "etc/wgvrf/run.env",
            false,
            format!(
                "WGVRF_MODE={mode}\nWGVRF_KERNEL={}\nWGVRF_KERNEL_HAS_ATTR={}\n\
                 WGVRF_SCENARIO={}\nWGVRF_TIMEOUT={}\nWGVRF_SLOW={}\nWGVRF_MODULES='{}'\n",
                kernel.kernel.name,
                u8::from(kernel.kernel.attr),
                scenario.map_or("", |s| &s.name),
                timeout.as_secs(),
                kernel.kernel.slow,
                modules.join(" ")
            ),
        );
        Ok(overlay)
    }
}

fn put(parts: &Initramfs, name: &str, tool: &Tool, overlay: &mut Overlay) -> Result<()> {
    match tool {
        Tool::Program(path) => parts.program(name, path, overlay),
        Tool::Rooted { root, program } => parts.foreign_program(name, root, program, overlay),
    }
}

/// A folder that goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("wg-vrf-{name}-{}", process::id()));
        remove(&path)?;
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // In the folder for such things: whoever empties it takes the rest.
        let _ = remove(&self.0);
    }
}

/// The machine for a scenario on a kernel, without its files.
pub(crate) fn machine(
    kernel: &BootableKernel,
    scenario: &Scenario,
    accelerator: Accelerator,
) -> Machine {
    let mut cmdline = kernel.kernel.cmdline.clone();
    cmdline.extend(scenario.cmdline.iter().cloned());
    Machine {
        accelerator,
        image: PathBuf::new(),
        initramfs: PathBuf::new(),
        cmdline,
        memory: memory(kernel, scenario),
        smp: scenario.smp,
        icount: scenario.icount,
        folder: PathBuf::new(),
        interactive: false,
    }
}

/// MiB of a guest.
pub fn memory(kernel: &BootableKernel, scenario: &Scenario) -> u32 {
    kernel.kernel.memory.max(scenario.memory.unwrap_or(0))
}

/// The processor time of a process so far.
fn used(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that may hold anything; utime and stime are the 14th
    // and the 15th.
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on every machine that this runs on.
    (ticks > 0).then(|| Duration::from_millis(ticks * 10))
}

/// A scenario states its limit for a machine of its own. A translated guest on a host that is
/// busy with others (or with a second guest) takes several times as long.
fn patience(accelerator: Accelerator) -> u32 {
    match accelerator {
        Accelerator::Kvm => 1,
        Accelerator::Tcg => 3,
    }
}

/// Puts a folder into guests.
fn copy_tree(overlay: &mut Overlay, place: &str, from: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::io("read", from))? {
        let path = entry.map_err(Error::io("read", from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{place}/{name}");
        if path.is_dir() {
            copy_tree(overlay, &place, &path)?;
        } else {
            overlay.copy(&place, false, &path)?;
        }
    }
    Ok(())
}

/// Watches a machine until its end or one of its limits.
fn watch_machine(
    qemu: &mut Qemu,
    limits: Limits,
    timeout: Duration,
    tell: &mut dyn FnMut(&Stages, Duration, &str),
) -> Result<End> {
    let begun = Instant::now();
    let (mut booted, mut ended) = (None, None);
    loop {
        let over = qemu.ended()?;
        let stages = Stages::read(&qemu.read("verdict.log"));
        tell(&stages, begun.elapsed(), &qemu.read("stdout.log"));
        if over {
            return Ok(End::Exited);
        }
        let now = Instant::now();
        if stages.init {
            booted.get_or_insert(now);
        }
        if stages.ended.is_some() || stages.verdict.is_some() {
            ended.get_or_insert(now);
        }
        let (since, limit, end) = match (booted, ended) {
            (_, Some(ended)) => (ended, limits.shutdown, End::ShutdownLimit),
            // Loading modules counts as booting.
            (Some(booted), None) => (booted, timeout + limits.grace, End::ScenarioLimit),
            (None, None) => (begun, limits.boot, End::BootLimit),
        };
        if now.duration_since(since) > limit {
            qemu.kill();
            return Ok(end);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Writes the outcome beside the logs.
fn keep(report: &Report) -> Result<()> {
    let mut text = format!("{}\n", report.outcome.word());
    for line in report.outcome.details() {
        text += &line;
        text += "\n";
    }
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    let file = report.folder.join("verdict");
    fs::create_dir_all(&report.folder)
        .and_then(|()| fs::write(&file, text))
        .map_err(Error::io("write", &file))
}
