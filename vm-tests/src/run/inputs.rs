// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The inputs of an outcome, as one key: two cells with equal keys ran the same thing.
//!
//! Everything that is in the guest, how it is started, and the code that judges it. Limits are
//! not in it: they end what hangs, and what ended by itself would have ended with others too. Nor
//! is where and when something was built: another machine comes to the same key, so that it can
//! take what is written in docs/results.json.

use std::path::Path;
use std::time::Duration;

use crate::guest::programs;
use crate::kernel::{BootableKernel, read_version};
use crate::run::qemu;
use crate::run::runner::{Runner, describe_machine};
use crate::run::scenario::Scenario;
use kit::cache::Key;
use kit::error::Result;

const HARNESS: &[&str] = &[
    include_str!("qemu.rs"),
    include_str!("runner.rs"),
    include_str!("verdict.rs"),
];

impl Runner {
    /// The key of `scenario` on `kernel` with this runner's programs.
    pub fn find_inputs(&self, kernel: &BootableKernel, scenario: &Scenario) -> Result<String> {
        let accelerator = self.find_accelerator(kernel)?;
        let machine = describe_machine(kernel, Some(scenario), accelerator);
        let mut key = Key::new()
            .add_value("own", self.hash_own_files(kernel, scenario)?)
            .add_value("machine", machine.format_command())
            .add_value("image", self.hash_file(&kernel.image)?)
            .add_value(
                "qemu",
                self.remember_hash("qemu", || read_version(qemu::PROGRAM))?,
            )
            .add_value("programs", self.hash_programs(kernel)?);
        let parts = self.get_initramfs()?;
        for archive in parts.find_archives(kernel, &scenario.packages)? {
            // Its name says what it was made from; where the cache is does not count.
            let name = archive.file_name().unwrap_or_default();
            key = key.add_value("archive", name.as_encoded_bytes());
        }
        for name in &scenario.programs {
            let program = programs::make_program(name, &self.cache)?;
            let hash = program.hash_program(&self.cache)?;
            key = key.add_value("program", name).add_value("file", hash);
        }
        let add = |key: Key, file: &&str| key.add_value("harness", file);
        Ok(HARNESS.iter().fold(key, add).finish())
    }

    /// The files of a guest that are neither compiled nor of a package. The slowness of a kernel
    /// says something of the hour, and sets limits only.
    fn hash_own_files(&self, kernel: &BootableKernel, scenario: &Scenario) -> Result<Vec<u8>> {
        let mut kernel = kernel.clone();
        kernel.kernel.slow = 1;
        let own = self.collect_own_files(&kernel, Some(scenario), "run", Duration::ZERO)?;
        own.to_bytes()
    }

    fn hash_programs(&self, kernel: &BootableKernel) -> Result<String> {
        let mut key = Key::new();
        if let Some(file) = &kernel.replaced {
            key = key.add_value("module", "wireguard");
            key = key.add_value("file", self.hash_file(file)?);
        }
        let wg = self.remember_hash("wg", || self.wg.hash_program(&self.cache))?;
        let key = key.add_value("tool", "wg").add_value("file", wg);
        Ok(key.finish())
    }

    /// The hash of a file's contents. Files do not change while a run lasts.
    fn hash_file(&self, path: &Path) -> Result<String> {
        self.remember_hash(&path.to_string_lossy(), || {
            Ok(Key::new().add_file("file", path)?.finish())
        })
    }

    fn remember_hash(&self, what: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        let mut known = self.hashes.lock().expect("no holder panics");
        if !known.contains_key(what) {
            known.insert(what.to_owned(), make()?);
        }
        Ok(known[what].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::programs::Program;
    use crate::kernel::table;
    use crate::run::qemu::Accelerator;
    use fs_err as fs;
    use kit::cache::Cache;

    type Scene = (Runner, BootableKernel, Scenario, tempfile::TempDir);

    /// A runner in a folder of its own, with a kernel and a scenario whose files hold these texts.
    fn make_scene(kernel: &str, texts: [&str; 3]) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let files = ["x.sh", "m", "t"].map(|name| folder.path().join(name));
        for (file, text) in files.iter().zip(texts) {
            fs::write(file, text).unwrap();
        }
        let [script, module, tool] = files;
        let row = table::find_kernel(kernel).unwrap();
        let mut boot = BootableKernel::from_image(&row, &tool, "1").unwrap();
        boot.replaced = Some(module);
        let cache = Cache::open_at(folder.path()).unwrap();
        let (wg, results) = (Program::Local(tool), folder.path().into());
        let runner = Runner::new(wg, &cache, results);
        let scenario = Scenario::read(&script).unwrap();
        (runner, boot, scenario, folder)
    }

    const SCRIPT: &str = "# title: x\n. /lib/wgvrf/lib.sh\n";

    #[test]
    fn the_script_and_the_kernel_count_and_the_hour_does_not() {
        let own = |kernel: &str, slow: u32, script: &str| {
            let (runner, mut boot, scenario, _folder) = make_scene(kernel, [script, "", ""]);
            boot.kernel.slow = slow;
            runner.hash_own_files(&boot, &scenario).unwrap()
        };
        let one = own("debian-6.1", 1, SCRIPT);
        assert_eq!(one, own("debian-6.1", 1, SCRIPT));
        assert_eq!(one, own("debian-6.1", 8, SCRIPT), "a busy host");
        assert_ne!(one, own("patched-6.1", 1, SCRIPT));
        assert_ne!(one, own("debian-6.1", 1, "# title: x\ntrue\n"));
        // The library that scenarios source is part of what they are.
        let text = String::from_utf8_lossy(&one);
        assert!(text.contains("capture_start NAME NETNS INTERFACE FILTER"));
        // Other libraries and scenarios are not: a new one must not send all round again.
        assert!(!text.contains("lib/wgvrf/churn.sh"));
        assert!(!text.contains("lib/wgvrf/scenarios/smoke.sh"));
    }

    /// Needs a cache, and neither packages nor a network.
    #[test]
    fn what_is_under_test_counts_by_its_bytes() {
        let hash = |module: &str, tool: &str| {
            let (runner, boot, _, _folder) = make_scene("patched-6.1", [SCRIPT, module, tool]);
            runner.hash_programs(&boot).unwrap()
        };
        let one = hash("b", "c");
        assert_eq!(one, hash("b", "c"));
        assert_ne!(one, hash("x", "c"), "the module");
        assert_ne!(one, hash("b", "x"), "the tool");
    }

    #[test]
    fn the_machine_counts() {
        let line = |change: fn(&mut BootableKernel, &mut Scenario)| {
            let (_, mut boot, mut scenario, _folder) = make_scene("debian-6.1", [SCRIPT, "", ""]);
            change(&mut boot, &mut scenario);
            describe_machine(&boot, Some(&scenario), Accelerator::Tcg).format_command()
        };
        let one = line(|_, _| {});
        let debug = line(|boot, _| boot.kernel.cmdline.push("debug".into()));
        assert_ne!(one, debug);
        assert_ne!(one, line(|_, s| s.memory = Some(4096)));
        assert_ne!(one, line(|_, s| s.smp = 7));
    }
}
