// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Our tool beside the reference: whole processes, by turns, for docs/performance.md.
//!
//! Instructions are those of the tool itself, as valgrind counts them: no load of the machine changes
//! them. CPU time is what the kernel counted for the processes of a batch. Memory is read while a
//! tool is held in front of its first write, or by a device that does not answer: then it has all
//! that it will ever have.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Child, Command, ExitCode, Stdio};

use crate::secrets::{Running, full, wait, wait_for_write};
use crate::tool::{self, DIR};
use crate::uapi::Device;

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const STARTS: &[&str] = &["--version", "genkey", "pubkey", "show interfaces"];
const JOBS: &[&str] = &[
    "setconf wg0 FILE",
    "syncconf wg0 FILE",
    "show wg0",
    "show all dump",
    "show wg0 endpoints",
    "showconf wg0",
];
/// Up to here instructions are counted. With more peers a tool under valgrind takes longer than it
/// waits for a device.
const COUNTED: usize = 10_000;
/// CPU times of each tool; the median counts.
const TURNS: usize = 5;
const BEGIN: &str = "<!-- written by tests/wg/measure.rs -->\n";
const END: &str = "<!-- end -->\n";

/// Millions of instructions, seconds and MiB.
#[derive(Clone, Copy)]
struct Cost {
    instructions: Option<f64>,
    cpu: f64,
    memory: f64,
}

impl Cost {
    /// What the processor does, and the memory, divided by those of another tool.
    fn divide_by(self, other: Cost) -> [f64; 2] {
        let work = match (self.instructions, other.instructions) {
            (Some(ours), Some(theirs)) => ours / theirs,
            _ => self.cpu / other.cpu,
        };
        [work, self.memory / other.memory]
    }
}

/// A job, and for each size our cost and the reference's.
type Row = (&'static str, Vec<[Cost; 2]>);

pub fn main() -> ExitCode {
    let Ok(root) = env::var("WG_ROOT") else {
        eprintln!("WG_ROOT is not set: cargo xtask bench");
        return ExitCode::FAILURE;
    };
    let ours = env!("CARGO_BIN_EXE_wg").replace("/debug/", "/release/");
    let tools = [ours, format!("{root}/usr/bin/wg")];
    // Both with one C library, that of the reference.
    let tools = tools.map(|tool| {
        let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
        let loader = format!("{libraries}/ld-linux-x86-64.so.2");
        [
            &loader,
            "--argv0",
            "wg",
            "--library-path",
            &libraries,
            &tool,
        ]
        .map(str::to_owned)
    });
    tools.iter().for_each(leave_cache);
    fs::write(format!("{DIR}/key"), format!("{}=\n", "A".repeat(43))).expect("file");
    let mut rows: Vec<Row> = Vec::new();
    {
        let _device = Device::start("wg0", "", 0);
        for job in STARTS {
            rows.push((job, vec![compare(&tools, job, "", 0)]));
        }
    }
    rows.extend(JOBS.iter().map(|job| (*job, Vec::new())));
    for size in SIZES {
        let state = describe_device(size);
        let device = Device::start("wg0", &state, 0);
        let conf = tool::call(&tools[1], &words("showconf wg0"), "", &[]).stdout;
        fs::write(format!("{DIR}/conf"), conf).expect("file");
        for (job, costs) in &mut rows[STARTS.len()..] {
            eprintln!("{size} peers: {job}");
            costs.push(compare(&tools, job, &state, size));
        }
        drop(device);
    }
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let page = fs::read_to_string(format!("{docs}/performance.md")).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the begin of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let table = write_versions(&tools) + &write_table(&rows);
    let page = format!("{before}{BEGIN}{table}{END}{after}");
    fs::write(format!("{docs}/performance.md"), page).expect("the page");
    let picture = write_picture(&rows[STARTS.len()..]);
    fs::write(format!("{docs}/performance.svg"), picture).expect("the picture");
    ExitCode::SUCCESS
}

/// Builds what is installed.
pub fn build_ours() {
    let cargo = env::var("CARGO").unwrap_or("cargo".to_owned());
    let arguments = ["build", "--locked", "--release", "--bin", "wg"];
    let built = Command::new(cargo).args(arguments).status();
    assert!(built.is_ok_and(|status| status.success()), "cargo build");
}

/// What a linker has just written is in memory in larger pieces than what was read from a disk, and
/// a program that touches a piece has all of it.
fn leave_cache(tool: &[String; 6]) {
    let file = tool.last().map_or("", String::as_str);
    let arguments = [
        &format!("of={file}"),
        "oflag=nocache",
        "conv=notrunc,fdatasync",
        "count=0",
    ];
    let done = Command::new("dd")
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    assert!(done.is_ok_and(|status| status.success()), "dd {file}");
}

fn words(job: &str) -> Vec<String> {
    let words = job
        .split(' ')
        .map(|word| word.replace("FILE", &format!("{DIR}/conf")));
    words.collect()
}

/// What `pubkey` reads; the others read nothing.
fn open_key() -> File {
    File::open(format!("{DIR}/key")).expect("the key")
}

fn spawn(tool: &[String; 6], job: &str, stdout: Stdio) -> Child {
    Command::new(&tool[0])
        .args(&tool[1..])
        .args(words(job))
        .stdin(open_key())
        .stdout(stdout)
        .spawn()
        .expect("start the tool")
}

/// The costs of ours and of the reference.
fn compare(tools: &[[String; 6]; 2], job: &str, state: &str, size: usize) -> [Cost; 2] {
    let mut times: [Vec<f64>; 2] = Default::default();
    for turn in 0..2 * TURNS {
        let before = children_time();
        let status = spawn(&tools[turn % 2], job, Stdio::null()).wait();
        assert!(status.is_ok_and(|status| status.success()), "{job}");
        times[turn % 2].push(children_time() - before);
    }
    [0, 1].map(|which| {
        times[which].sort_by(f64::total_cmp);
        Cost {
            instructions: (size <= COUNTED).then(|| count_instructions(&tools[which], job) / 1e6),
            cpu: times[which][TURNS / 2],
            memory: read_memory(&tools[which], job, state),
        }
    })
}

fn count_instructions(tool: &[String; 6], job: &str) -> f64 {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(tool)
        .args(words(job))
        .stdin(open_key())
        .output()
        .expect("valgrind; it is Debian's package of that name");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{job}: {said}");
    let count = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    count
        .and_then(|(_, count)| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("{job}: {said}"))
}

/// CPU seconds of all children that have ended: user and system (proc_pid_stat(5)).
fn children_time() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(13) + ticks(14)) / TICKS
}

/// The most memory that the tool has, in MiB (VmHWM).
fn read_memory(tool: &[String; 6], job: &str, state: &str) -> f64 {
    if job.contains("conf wg0 FILE") {
        let device = Device::start("wg1", state, 0);
        device.hold_sets();
        let running = Running(spawn(tool, &job.replace("wg0", "wg1"), Stdio::null()));
        wait("no request", || !device.take_sets().is_empty());
        let peak = read_peak(&running.0);
        // Before the device ends, which it would call an error.
        drop(running);
        return peak;
    }
    let (_reader, writer) = full();
    let running = Running(spawn(tool, job, writer.into()));
    wait_for_write(&running);
    read_peak(&running.0)
}

fn read_peak(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
    kib.map_or(0.0, |kib: f64| kib / 1024.0)
}

/// A device with so many peers of three prefixes; every other one has a preshared key.
fn describe_device(peers: usize) -> String {
    let mut state = format!("private_key={:064x}\nlisten_port=51820\n", 8);
    for n in 0..peers {
        let (top, high, low) = (n / 62_500, n / 250 % 250, n % 250);
        let _ = write!(
            state,
            "public_key={:064x}\npreshared_key={:064x}\nprotocol_version=1\n\
             endpoint=192.0.{high}.{low}:{}\nlast_handshake_time_sec={}\n\
             last_handshake_time_nsec={n}\ntx_bytes={}\nrx_bytes={}\n\
             persistent_keepalive_interval={}\nallowed_ip=10.{top}.{high}.{low}/32\n\
             allowed_ip=172.{top}.{high}.{low}/32\nallowed_ip=fd00:{top:x}:{high:x}::{low:x}/128\n",
            n + 1,
            n % 2 * n,
            1024 + n % 50_000,
            1_700_000_000 + n * 7919 % 100_000,
            n * 1000,
            n * 777,
            n % 2 * 25,
        );
    }
    state
}

/// What was measured, and with what.
fn write_versions(tools: &[[String; 6]; 2]) -> String {
    let version = |program: &[String], word: &str| {
        let output = Command::new(&program[0])
            .args(&program[1..])
            .args(word.split(' '))
            .output();
        let output = output.unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let said = String::from_utf8(output.stdout).expect("text");
        let line = said.lines().next().unwrap_or_default();
        line.split(" - ").next().unwrap_or_default().to_owned()
    };
    format!(
        "Ours: {}, built by {}. The C tool: {}. Instructions: {}.\n",
        version(&tools[0], "version --all"),
        version(&["rustc".to_owned()], "--version"),
        version(&tools[1], "--version"),
        version(&["valgrind".to_owned()], "--version"),
    )
}

/// Ratios for each size, and our costs at the largest.
fn write_table(rows: &[Row]) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let mut text = format!(
        "{} processors ({}), Linux {}. A cell is ours divided by the C tool's: instructions / memory, \
         and with more than {COUNTED} peers CPU time / memory.\n\n| `wg` | {} peers | ours at the \
         largest | instructions grow with |\n{}|\n",
        std::thread::available_parallelism().map_or(1, usize::from),
        cpu.unwrap_or("of unknown make"),
        read("/proc/sys/kernel/osrelease").trim_end(),
        SIZES.map(|size| size.to_string()).join(" peers | "),
        "|---".repeat(SIZES.len() + 3),
    );
    for (job, costs) in rows {
        let mut cells = vec![format!("`{}`", job.to_lowercase())];
        for [ours, reference] in costs {
            let [work, memory] = ours.divide_by(*reference);
            cells.push(format!("{work:.2} / {memory:.2}"));
        }
        // A start has no peers.
        cells.resize(SIZES.len() + 1, String::new());
        let ours = costs[costs.len() - 1][0];
        let work = match ours.instructions {
            Some(millions) => format!("{millions:.2} M instructions"),
            None => format!("{:.0} ms of CPU", ours.cpu * 1e3),
        };
        cells.push(format!("{work}, {:.1} MiB", ours.memory));
        let mut counts = costs.iter().filter_map(|[ours, _]| ours.instructions).rev();
        cells.push(match (counts.next(), counts.next()) {
            (Some(last), Some(before)) => format!("n^{:.2}", (last / before).log10()),
            _ => String::new(),
        });
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Bars for the largest size, beside a line for the reference.
fn write_picture(rows: &[Row]) -> String {
    const ONE: f64 = 400.0;
    let mut bars = String::new();
    let mut most = [0f64; 2];
    for (at, (job, costs)) in rows.iter().enumerate() {
        let [ours, reference] = costs[costs.len() - 1];
        let top = 92 + at * 50;
        let name = job.trim_end_matches(" wg0 FILE").replace(" wg0", "");
        let _ = writeln!(
            bars,
            "<text x=\"190\" y=\"{}\" text-anchor=\"end\">wg {name}</text>",
            top + 22
        );
        let ratios = ours.divide_by(reference);
        for (which, (ratio, colour)) in ratios.into_iter().zip(["#2b6cb0", "#b7791f"]).enumerate() {
            most[which] = most[which].max(ratio);
            let y = top + which * 19;
            let _ = writeln!(
                bars,
                "<rect x=\"200\" y=\"{y}\" width=\"{:.0}\" height=\"17\" fill=\"{colour}\"/>\n\
                 <text x=\"208\" y=\"{}\" fill=\"#fff\">{ratio:.2}</text>",
                ratio * ONE,
                y + 13
            );
        }
    }
    let [cpu, memory] = most.map(|most| (most * 100.0).ceil());
    let bottom = 96 + rows.len() * 50;
    let height = bottom + 16;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="14">
<rect width="760" height="{height}" fill="#fff"/>
<text x="20" y="32" font-size="17" font-weight="bold">100 000 peers: at most {cpu} % of the C tool's CPU time, {memory} % of its memory</text>
<rect x="200" y="54" width="14" height="14" fill="#2b6cb0"/>
<text x="220" y="66">CPU time</text>
<rect x="300" y="54" width="14" height="14" fill="#b7791f"/>
<text x="320" y="66">memory</text>
<text x="600" y="66" text-anchor="middle">C tool = 1</text>
<line x1="600" x2="600" y1="76" y2="{bottom}" stroke="#333" stroke-dasharray="4 3"/>
<line x1="200" x2="200" y1="76" y2="{bottom}" stroke="#333"/>
{bars}</svg>
"##
    )
}
