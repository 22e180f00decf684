// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an outcome depends on, as one key: two cells with equal keys ran the same thing.
//!
//! Everything that is in the guest, how it is started, and the code that judges it. Limits are
//! not in it: they end what hangs, and what ended by itself would have ended with others too. Nor
//! is where and when something was built: another machine comes to the same key, so that it can
//! take what is written in docs/results.tsv.

use std::path::Path;
use std::time::Duration;

use crate::guest::programs::{self, Found};
use crate::kernel::table::BootableKernel;
use crate::run::qemu::{self, Machine};
use crate::run::runner::{Runner, Tool, machine};
use crate::run::scenario::Scenario;
use kit::cache::Key;
use kit::error::Result;

/// The harness itself, as it was compiled.
const HARNESS: &[&str] = &[
    include_str!("qemu.rs"),
    include_str!("runner.rs"),
    include_str!("verdict.rs"),
];

impl Runner {
    /// The key of `scenario` on `kernel` with this runner's tools.
    pub fn inputs(&self, kernel: &BootableKernel, scenario: &Scenario) -> Result<String> {
        let parts = self.initramfs()?;
        let own = self.own(&unhurried(kernel), Some(scenario), "run", Duration::ZERO)?;
        let accelerator = self.accelerator(kernel)?;
        let machine: Machine = machine(kernel, scenario, accelerator);
        let mut key = Key::new()
            .add("own", own.bytes())
            .add("machine", machine.command_line())
            .add("image", self.hash(&kernel.image)?)
            .add("qemu", self.once("qemu", qemu::version)?);
        for archive in parts.archives(kernel, &scenario.packages)? {
            key = key.add("archive", named(&archive));
        }
        key = self.files(key, kernel)?;
        for name in &scenario.programs {
            key = match programs::find(name, &self.cache, &self.progress)? {
                Found::Program(tool) => self.program(key.add("program", name), &tool)?,
                Found::Lacking(why) => key.add("lacking", why),
            };
        }
        for file in HARNESS {
            key = key.add("harness", file);
        }
        Ok(key.finish())
    }

    /// What is under test: the module and the tools.
    fn files(&self, mut key: Key, kernel: &BootableKernel) -> Result<Key> {
        for (name, file) in &kernel.replaced {
            key = key.add("module", name).add("file", self.hash(file)?);
        }
        for (name, tool) in &self.tools {
            key = self.program(key.add("tool", name), tool)?;
        }
        Ok(key)
    }

    fn program(&self, key: Key, tool: &Tool) -> Result<Key> {
        Ok(match tool {
            // As the guest gets it: what says where it was built is taken off.
            Tool::Program(program) => {
                let parts = self.initramfs()?;
                let hash = self.once(&format!("stripped {}", program.display()), || {
                    Ok(Key::new()
                        .add_file("file", &parts.stripped(program)?)?
                        .finish())
                })?;
                key.add("file", hash)
            }
            // The root is named by the packages in it, its libraries among them.
            Tool::Rooted { root, program } => key
                .add("root", named(root))
                .add("file", self.hash(&root.join(program))?),
        })
    }

    /// The hash of a file's contents. Files do not change while a run lasts.
    fn hash(&self, path: &Path) -> Result<String> {
        self.once(&path.to_string_lossy(), || {
            Ok(Key::new().add_file("file", path)?.finish())
        })
    }

    fn once(&self, what: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        let mut known = self.hashes.lock().expect("no holder panics");
        if let Some(value) = known.get(what) {
            return Ok(value.clone());
        }
        let value = make()?;
        known.insert(what.to_owned(), value.clone());
        Ok(value)
    }
}

/// An entry of the cache by its name, which says what it was made from; where the cache is does not
/// count.
fn named(entry: &Path) -> Vec<u8> {
    entry
        .file_name()
        .unwrap_or_default()
        .as_encoded_bytes()
        .to_vec()
}

/// How slow a kernel is says something of the hour, and sets limits only.
fn unhurried(kernel: &BootableKernel) -> BootableKernel {
    let mut kernel = kernel.clone();
    kernel.kernel.slow = 1;
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::table;
    use crate::run::qemu::Accelerator;
    use kit::cache::{Cache, remove};
    use kit::progress::Progress;
    use std::fs;

    /// What goes into a guest, apart from what needs packages, as bytes.
    fn own(kernel: &str, slow: u32, scenario: &str) -> Vec<u8> {
        let root = std::env::temp_dir().join(format!(
            "wg-vrf-inputs-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let cache = Cache::at(&root).unwrap();
        let file = root.join("x.sh");
        fs::write(&file, scenario).unwrap();
        let mut row = table::find(kernel).unwrap();
        row.slow = slow;
        let boot = BootableKernel::built(&row, &file, "1").unwrap();
        let runner = Runner::new(&cache, &root, &Progress::silent());
        let scenario = Scenario::read(&file).unwrap();
        let own = runner
            .own(&unhurried(&boot), Some(&scenario), "run", Duration::ZERO)
            .unwrap();
        remove(&root).unwrap();
        own.bytes()
    }

    #[test]
    fn the_script_and_the_kernel_count_and_the_hour_does_not() {
        let script = "# title: x\n. /lib/wgvrf/lib.sh\n";
        let one = own("debian-6.1", 1, script);
        assert_eq!(one, own("debian-6.1", 1, script));
        assert_eq!(one, own("debian-6.1", 8, script), "a busy host");
        assert_ne!(one, own("patched-6.1", 1, script));
        assert_ne!(one, own("debian-6.1", 1, "# title: x\ntrue\n"));
        // The library that scenarios source is part of what they are.
        let text = String::from_utf8_lossy(&one);
        assert!(text.contains("capture_start NAME NETNS INTERFACE FILTER"));
        // Other libraries and scenarios are not: a new one must not send all round again.
        assert!(!text.contains("lib/wgvrf/churn.sh"));
        assert!(!text.contains("lib/wgvrf/scenarios/smoke.sh"));
    }

    /// The key of a module and a tool with these contents.
    fn files(module: &str, tool: &str) -> String {
        let root = std::env::temp_dir().join(format!(
            "wg-vrf-files-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let cache = Cache::at(&root).unwrap();
        let [module, tool] = [("m", module), ("t", tool)].map(|(name, text)| {
            let file = root.join(name);
            fs::write(&file, text).unwrap();
            file
        });
        let row = table::find("patched-6.1").unwrap();
        let base = BootableKernel::built(&row, &tool, "1").unwrap();
        let boot = BootableKernel::with_module(&base, &row, "wireguard", &module).unwrap();
        let runner =
            Runner::new(&cache, &root, &Progress::silent()).tool("wg", Tool::Program(tool));
        let key = runner.files(Key::new(), &boot).unwrap().finish();
        remove(&root).unwrap();
        key
    }

    #[test]
    fn what_is_under_test_counts_by_its_bytes() {
        let one = files("b", "c");
        assert_eq!(one, files("b", "c"));
        assert_ne!(one, files("x", "c"), "the module");
        assert_ne!(one, files("b", "x"), "the tool");
    }

    #[test]
    fn the_machine_counts() {
        let row = table::find("debian-6.1").unwrap();
        let root = std::env::temp_dir().join(format!("wg-vrf-machine-{}", std::process::id()));
        fs::write(&root, "# title: x\n").unwrap();
        let boot = BootableKernel::built(&row, &root, "1").unwrap();
        let scenario = Scenario::read(&root).unwrap();
        fs::remove_file(&root).unwrap();
        let line = |boot: &BootableKernel, scenario: &Scenario| {
            machine(boot, scenario, Accelerator::Tcg).command_line()
        };
        let one = line(&boot, &scenario);
        let mut other = boot.clone();
        other.kernel.cmdline.push("debug".into());
        assert_ne!(one, line(&other, &scenario));
        let mut other = scenario.clone();
        other.memory = Some(4096);
        assert_ne!(one, line(&boot, &other));
        let mut other = scenario.clone();
        other.smp = 7;
        assert_ne!(one, line(&boot, &other));
    }
}
