// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What takes minutes: a minute of each fuzz target, both tools on mutations of the corpus, and what our
//! dependencies may be. `cargo xtask test --full` runs it, or `cargo test --test long`.

use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Completion, Trial};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Seconds of each target.
const TIME: &str = "-max_total_time=60";
/// How many files and commands both tools get.
const MUTATIONS: &str = "2000";

fn main() -> std::process::ExitCode {
    let mut trials = vec![
        trial("long::mutations", || compare_tools(&["--fuzz", MUTATIONS])),
        trial("long::corpus", || compare_tools(&["--compare"])),
        trial("long::dependencies", check_dependencies),
    ];
    // Each target has its lines there; the other files are what targets share.
    let listed = std::fs::read_to_string(Path::new(ROOT).join("fuzz/Cargo.toml"));
    let listed = listed.expect("the targets");
    let paths = listed.lines().filter_map(|line| {
        let path = line.strip_prefix("path = \"fuzz_targets/")?;
        path.strip_suffix(".rs\"")
    });
    for name in paths.map(str::to_owned) {
        trials.push(trial(&format!("long::fuzz_{name}"), move || {
            run_target(&name)
        }));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that says at run time why it cannot run here.
fn trial<F>(name: &str, run: F) -> Trial
where
    F: FnOnce() -> Result<(), String> + Send + 'static,
{
    let run = || Ok(run().map_or_else(Completion::ignored_with, |()| Completion::Completed));
    Trial::ignorable_test(name, run)
}

fn run_cargo(folder: &str, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut cargo = Command::new("cargo");
    cargo.envs(variables.iter().copied());
    // The toolchain of these tests is not the one that is named.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(name);
    }
    let folder = Path::new(ROOT).join(folder);
    cargo
        .args(words)
        .current_dir(folder)
        .output()
        .expect("cargo")
}

fn check_output(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let all = format!("{out}{err}");
    let lines: Vec<&str> = all.lines().rev().take(60).collect();
    let tail: Vec<&str> = lines.into_iter().rev().collect();
    assert!(output.status.success(), "{}", tail.join("\n"));
}

/// That the command is there; else why not.
fn check_tool(words: &[&str], remedy: &str) -> Result<(), String> {
    match run_cargo("", words, &[]).status.success() {
        true => Ok(()),
        false => Err(format!("cargo {} does not run: {remedy}", words.join(" "))),
    }
}

/// A minute of a target, from its seeds.
fn run_target(name: &str) -> Result<(), String> {
    check_tool(
        &["+nightly", "fuzz", "--version"],
        "rustup toolchain install nightly; cargo install cargo-fuzz --locked",
    )?;
    let corpus = std::env::temp_dir().join(format!("wg-fuzz-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&corpus).map_err(|err| err.to_string())?;
    let found = corpus.to_string_lossy().into_owned();
    let mut words = vec!["+nightly", "fuzz", "run", "-s", "none", name, &found];
    let seeds = format!("seeds/{name}");
    if Path::new(ROOT).join("fuzz").join(&seeds).is_dir() {
        words.push(&seeds);
    }
    words.extend(["--", TIME]);
    let output = run_cargo("fuzz", &words, &[]);
    let _ = std::fs::remove_dir_all(&corpus);
    check_output(&output);
    Ok(())
}

fn compare_tools(words: &[&str]) -> Result<(), String> {
    let Some(root) = std::env::var_os("WG_ROOT") else {
        return Err(
            "WG_ROOT does not name a root with the C tool: cargo xtask test --full".to_owned(),
        );
    };
    if cfg!(not(target_arch = "x86_64")) {
        return Err("the libraries of that root are looked for under x86_64-linux-gnu".to_owned());
    }
    let root = root.to_string_lossy();
    // As in tests/golden/README.md.
    let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
    let reference = format!(
        "{libraries}/ld-linux-x86-64.so.2 --argv0 wg --library-path {libraries} {root}/usr/bin/wg"
    );
    let test = ["test", "--locked", "--quiet", "--test", "wg", "--"];
    check_output(&run_cargo(
        "",
        &[&test, words].concat(),
        &[("WG_REFERENCE", &reference)],
    ));
    Ok(())
}

fn check_dependencies() -> Result<(), String> {
    check_tool(&["deny", "--version"], "cargo install cargo-deny --locked")?;
    for folder in ["", "fuzz"] {
        let words = ["deny", "--locked", "check", "licenses", "bans", "sources"];
        check_output(&run_cargo(folder, &words, &[]));
    }
    Ok(())
}
