// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs a scenario on a kernel: one machine, one folder of results, one report.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fs_err::{self as fs, File};

use crate::guest::initramfs::{Archive, Initramfs};
use crate::guest::programs::{self, Program};
use crate::kernel::BootableKernel;
use crate::run::qemu::{Accelerator, Machine, Qemu, read_log};
use crate::run::scenario::{self, Scenario};
use crate::run::verdict::{self, End, Ending, Outcome, Stages};
use kit::cache::{Key, remove_path};
use kit::{Cache, Error, Result, repo};

/// Modules that every guest loads, those of the kernel under test among them.
const MODULES: &[&str] = &["wireguard", "vrf", "veth", "dummy"];

/// The time in which a `/dev/kvm` has to prove itself.
const TRIAL: Duration = Duration::from_secs(12);

/// The limits of a run, before the slowness of kernel and accelerator multiplies them: from QEMU's
/// start to init; what the guest gets to end a scenario by itself, beyond the scenario's own limit;
/// from the scenario's end to QEMU's.
const BOOT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(30);
const SHUTDOWN: Duration = Duration::from_secs(45);

/// The folder of the results; ignored by git.
pub fn find_results_folder() -> PathBuf {
    repo::find_root().join("target/vm-results")
}

#[derive(Clone, Copy, Debug)]
pub enum RunEvent<'a> {
    Booted,
    Line(&'a str),
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub kernel: String,
    pub scenario: String,
    pub outcome: Outcome,
    pub results: Vec<(String, String)>,
    /// A hint for readers, passed or not: a check that could not be made.
    pub notes: Vec<String>,
    /// From QEMU's start to init; none if it was not reached.
    pub boot: Option<Duration>,
    pub took: Duration,
    /// The processor time of QEMU: unlike the time it took, no matter of who else is busy.
    pub cpu: Duration,
    /// console.log, stdout.log, dmesg.log, verdict.log, verdict, command.
    pub folder: PathBuf,
}

impl Report {
    /// The one command that repeats it.
    pub fn suggest_repeat(&self) -> String {
        let (kernel, scenario) = (&self.kernel, &self.scenario);
        format!("cargo xtask vm run --kernel {kernel} --scenario {scenario}")
    }

    pub fn find_result(&self, key: &str) -> Option<&str> {
        let found = self.results.iter().rev().find(|(k, _)| k == key)?;
        Some(&found.1)
    }

    fn save_report(&self) -> Result<()> {
        let mut lines = vec![self.outcome.ending.to_string()];
        lines.extend(self.outcome.why.lines().map(str::to_owned));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("verdict"), lines.join("\n") + "\n")?;
        Ok(())
    }
}

/// A value that is made when it is first wanted.
type Late<T> = Mutex<Option<T>>;

fn get_late<T: Clone>(slot: &Late<T>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut slot = slot.lock().expect("no holder panics");
    if slot.is_none() {
        *slot = Some(make()?);
    }
    Ok(slot.clone().expect("it was just made"))
}

/// Boots kernels and runs scenarios. Cheap to build; guests' parts are made when first wanted.
pub struct Runner {
    pub(crate) cache: Cache,
    results: PathBuf,
    /// The `wg` under test, in guests `$WG`.
    pub(crate) wg: Program,
    /// The program under test with its libraries, as guests get it.
    carried: Late<Arc<Archive>>,
    /// See `inputs`: what large files were found to hold.
    pub(crate) hashes: Mutex<BTreeMap<String, String>>,
    accelerator: Late<Accelerator>,
    initramfs: Late<Arc<Initramfs>>,
}

impl Runner {
    /// `results` is the folder under which KERNEL/SCENARIO/ folders are made.
    pub fn new(wg: Program, cache: &Cache, results: PathBuf) -> Self {
        Self {
            cache: cache.clone(),
            results,
            wg,
            carried: Late::default(),
            hashes: Mutex::default(),
            accelerator: Late::default(),
            initramfs: Late::default(),
        }
    }

    /// Runs one scenario on one kernel. A failure of any kind is the report's outcome.
    pub fn run(
        &self,
        kernel: &BootableKernel,
        scenario: &Scenario,
        watch: &dyn Fn(RunEvent<'_>),
    ) -> Report {
        let begun = Instant::now();
        let name = &kernel.kernel.name;
        let mut report = Report {
            kernel: name.clone(),
            scenario: scenario.name.clone(),
            folder: self.results.join(name).join(&scenario.name),
            ..Report::default()
        };
        let broken = |error: Error| Outcome::new(Ending::HarnessError, error.to_string());
        report.outcome = match self.boot_guest(kernel, scenario, &mut report, watch) {
            Ok(outcome) => scenario.compare_expected(outcome),
            Err(error) => broken(error),
        };
        report.took = begun.elapsed();
        if let Err(error) = report.save_report() {
            report.outcome = broken(error);
        }
        report
    }

    fn boot_guest(
        &self,
        kernel: &BootableKernel,
        scenario: &Scenario,
        report: &mut Report,
        watch: &dyn Fn(RunEvent<'_>),
    ) -> Result<Outcome> {
        let accelerator = self.find_accelerator(kernel)?;
        let folder = report.folder.clone();
        // Another process may run the same pair into the same folder.
        let place = Key::new().add_value("folder", folder.to_string_lossy().as_bytes());
        let _lock = self.cache.hold_lock(&format!("run-{}", place.finish()))?;
        // Nothing of an earlier run may be taken for this one's.
        remove_path(&folder)?;
        fs::create_dir_all(&folder)?;
        // A scenario states its limit for a machine of its own. A translated guest on a host that
        // is busy with others (or with a second guest) takes several times as long.
        let translated = accelerator == Accelerator::Tcg;
        let slow = kernel.kernel.slow * if translated { 3 } else { 1 };
        let timeout = scenario.timeout * slow;
        let machine =
            self.make_machine(kernel, Some(scenario), "run", timeout, accelerator, &folder)?;
        let commands = format!(
            "# Repeats this run:\n{}\n# What was run (the initramfs is gone):\n{}\n",
            report.suggest_repeat(),
            machine.format_command()
        );
        fs::write(folder.join("command"), commands)?;
        let boot = scenario.boot.unwrap_or(BOOT * slow);
        let shutdown = scenario.shutdown.unwrap_or(SHUTDOWN * slow);
        let limits = [boot, timeout + GRACE, shutdown];
        let mut shown = 0;
        let mut qemu = machine.start_qemu()?;
        let pid = qemu.id();
        let watched = watch_machine(&mut qemu, limits, &mut |stages, took, stdout| {
            report.cpu = read_cpu_time(pid).unwrap_or(report.cpu);
            if stages.init && report.boot.is_none() {
                report.boot = Some(took);
                watch(RunEvent::Booted);
            }
            // Whole lines only.
            let new = stdout.get(shown..).unwrap_or_default();
            let end = new.rfind('\n').map_or(0, |at| at + 1);
            for line in new[..end].lines() {
                watch(RunEvent::Line(line));
            }
            shown += end;
        });
        drop(qemu);
        // It is large, and made again in no time.
        remove_path(&machine.initramfs)?;
        let end = watched?;
        let log = |name| read_log(&folder.join(name));
        report.results = verdict::read_results(&log("stdout.log"));
        let port = log("verdict.log");
        report.notes = Stages::read(&port).notes;
        let (console, dmesg) = (log("console.log"), log("dmesg.log"));
        Ok(verdict::judge_run(&port, &console, &dmesg, end))
    }

    /// A guest on this terminal, with the tools and scenarios in it.
    pub fn open_shell(&self, kernel: &BootableKernel, scenario: Option<&Scenario>) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let accelerator = self.find_accelerator(kernel)?;
        let zero = Duration::ZERO;
        let machine =
            self.make_machine(kernel, scenario, "shell", zero, accelerator, folder.path())?;
        machine.start_qemu()?.wait()
    }

    /// Finds the accelerator of this machine: KVM if it really boots `kernel` in time, else TCG.
    /// Tried once per boot of this machine; `WGVRF_ACCEL=kvm|tcg` decides without a trial.
    pub fn find_accelerator(&self, kernel: &BootableKernel) -> Result<Accelerator> {
        get_late(&self.accelerator, || match env::var("WGVRF_ACCEL") {
            Ok(word) if !word.is_empty() => word
                .parse()
                .map_err(|_| Error::other(format!("WGVRF_ACCEL=`{word}' is neither kvm nor tcg"))),
            _ => self.try_accelerator(kernel),
        })
    }

    fn try_accelerator(&self, kernel: &BootableKernel) -> Result<Accelerator> {
        let kvm = File::options().read(true).write(true).open("/dev/kvm");
        if kvm.is_err() {
            return Ok(Accelerator::Tcg);
        }
        let boot_id = read_log(Path::new("/proc/sys/kernel/random/boot_id"));
        let memory = self.cache.open_folder("accelerator")?.join(boot_id.trim());
        if let Ok(known) = read_log(&memory).trim().parse() {
            return Ok(known);
        }
        self.cache.begin_step("trial boot with KVM");
        let accelerator = match self.try_kvm(kernel)? {
            true => Accelerator::Kvm,
            false => Accelerator::Tcg,
        };
        fs::write(&memory, accelerator.to_string())?;
        self.cache.end_step();
        Ok(accelerator)
    }

    fn try_kvm(&self, kernel: &BootableKernel) -> Result<bool> {
        let folder = tempfile::tempdir()?;
        let (kvm, zero) = (Accelerator::Kvm, Duration::ZERO);
        let machine = self.make_machine(kernel, None, "trial", zero, kvm, folder.path())?;
        let mut qemu = machine.start_qemu()?;
        let end = Instant::now() + TRIAL;
        while Instant::now() < end {
            // A QEMU that cannot use /dev/kvm at all ends with an error: that is an answer too.
            if !matches!(qemu.has_ended(), Ok(false)) {
                let stages = Stages::read(&qemu.read_port("verdict.log"));
                return Ok(stages.verdict.is_some());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }

    fn make_machine(
        &self,
        kernel: &BootableKernel,
        scenario: Option<&Scenario>,
        mode: &str,
        timeout: Duration,
        accelerator: Accelerator,
        folder: &Path,
    ) -> Result<Machine> {
        let mut archive = self.collect_own_files(kernel, scenario, mode, timeout)?;
        let parts = self.get_initramfs()?;
        archive.extend(&*get_late(&self.carried, || {
            let mut carried = Archive::default();
            parts.add_program("wg", &self.wg, &mut carried)?;
            Ok(Arc::new(carried))
        })?);
        for name in scenario.iter().flat_map(|s| &s.programs) {
            let program = programs::make_program(name, &self.cache)?;
            parts.add_program(name, &program, &mut archive)?;
        }
        parts.replace_module(kernel, &mut archive)?;
        let packages = scenario.map_or(&[][..], |s| &s.packages);
        let initramfs = folder.join("initramfs");
        archive.write_file(&initramfs, &parts.find_archives(kernel, packages)?)?;
        let mut machine = describe_machine(kernel, scenario, accelerator);
        machine.image.clone_from(&kernel.image);
        machine.initramfs = initramfs;
        machine.folder = folder.to_path_buf();
        if mode == "shell" {
            machine.interactive = true;
            machine.icount = None;
        }
        Ok(machine)
    }

    pub(crate) fn get_initramfs(&self) -> Result<Arc<Initramfs>> {
        let make = || Initramfs::new(&self.cache).map(Arc::new);
        get_late(&self.initramfs, make)
    }

    /// The run's own files without what is compiled: init, libraries, scenario, settings.
    pub(crate) fn collect_own_files(
        &self,
        kernel: &BootableKernel,
        scenario: Option<&Scenario>,
        mode: &str,
        timeout: Duration,
    ) -> Result<Archive> {
        let mut archive = Archive::default();
        let guest = crate::table::find_crate_folder().join("guest");
        for path in scenario::find_libraries(&guest, scenario.filter(|_| mode != "shell"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            archive.add_copy(&format!("usr/lib/wgvrf/{name}"), false, &path);
        }
        archive.add_copy("init", true, &guest.join("init"));
        // What we tell users to write is what the scenarios run.
        let examples = repo::find_root().join("packaging/examples");
        archive.add_tree("usr/lib/wgvrf/examples", &examples)?;
        // Only who looks around in a guest wants them all.
        let others = (mode == "shell").then(scenario::read_scenarios);
        let others = others.transpose()?;
        for other in others.iter().flatten().chain(scenario) {
            let place = format!("usr/lib/wgvrf/scenarios/{}.sh", other.name);
            archive.add_copy(&place, true, &other.path);
        }
        let wanted = scenario.map_or(&[][..], |s| &s.source);
        if !wanted.is_empty() {
            let (stock, patched) = kernel.find_source(wanted, &self.cache)?;
            let patched = patched.map(|folder| ("patched", folder));
            for (kind, folder) in [("stock", stock)].into_iter().chain(patched) {
                for path in wanted {
                    let place = format!("usr/lib/wgvrf/source/{kind}/{path}");
                    archive.add_copy(&place, true, &folder.join(path));
                }
            }
        }
        let mut modules = if mode == "trial" {
            Vec::new()
        } else {
            MODULES.to_vec()
        };
        if mode != "trial" {
            modules.extend(scenario.iter().flat_map(|s| &s.modules).map(|m| m.as_str()));
        }
        let modules = modules.join(" ");
        let settings = format!(
            "WGVRF_MODE={mode}\nWGVRF_KERNEL={}\nWGVRF_KERNEL_HAS_ATTR={}\n\
             WGVRF_SCENARIO={}\nWGVRF_TIMEOUT={}\nWGVRF_SLOW={}\nWGVRF_MODULES='{}'\n",
            kernel.kernel.name,
            u8::from(kernel.kernel.attr),
            scenario.map_or("", |s| &s.name),
            timeout.as_secs(),
            kernel.kernel.slow,
            modules
        );
        archive.add_file("etc/wgvrf/run.env", false, settings);
        Ok(archive)
    }
}

/// The machine for a scenario on a kernel, without its files.
pub(crate) fn describe_machine(
    kernel: &BootableKernel,
    scenario: Option<&Scenario>,
    accelerator: Accelerator,
) -> Machine {
    let mut cmdline = kernel.kernel.cmdline.clone();
    cmdline.extend(scenario.iter().flat_map(|s| s.cmdline.iter().cloned()));
    Machine {
        accelerator,
        cmdline,
        memory: find_memory(kernel, scenario),
        smp: scenario.map_or(2, |s| s.smp),
        icount: scenario.and_then(|s| s.icount),
        ..Machine::default()
    }
}

pub fn find_memory(kernel: &BootableKernel, scenario: Option<&Scenario>) -> u32 {
    let own = scenario.and_then(|s| s.memory).unwrap_or(0);
    kernel.kernel.memory.max(own)
}

fn read_cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that may hold anything; utime and stime are the 14th
    // and the 15th.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields = rest.split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|n| n.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every machine that this runs on.
    (ticks > 0).then(|| Duration::from_millis(ticks * 10))
}

/// Watches a machine until its end or one of its limits; the caller ends one that is over it.
fn watch_machine(
    qemu: &mut Qemu,
    [boot_limit, scenario_limit, shutdown_limit]: [Duration; 3],
    tell: &mut dyn FnMut(&Stages, Duration, &str),
) -> Result<End> {
    let begun = Instant::now();
    let (mut booted, mut ended) = (None, None);
    loop {
        let over = qemu.has_ended()?;
        let stages = Stages::read(&qemu.read_port("verdict.log"));
        tell(&stages, begun.elapsed(), &qemu.read_port("stdout.log"));
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
            (_, Some(ended)) => (ended, shutdown_limit, End::ShutdownLimit),
            // Loading modules counts as booting.
            (Some(booted), None) => (booted, scenario_limit, End::ScenarioLimit),
            (None, None) => (begun, boot_limit, End::BootLimit),
        };
        if now.duration_since(since) > limit {
            return Ok(end);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
