// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The programs themselves, unmodified, where a package of them can be had.

use std::fmt::Display;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::bench::{Bench, Skip, output, stdout};
use crate::uapi::{BARE, FULL, FULL_HEX, PUBLIC, TUNNEL};

const WG_QUICK: &str = "wg-quick";
/// The parser `wg-show` came with 1.25.4.
const JC: &str = "jc-1.26.1";

/// `--fetch`: fills the cache with what is missing in it. Tests touch no network themselves.
pub fn fetch(cache: &Path) -> ExitCode {
    // From Debian's own package: not the `wg`, only the script that runs it. The package is
    // unpacked, never installed.
    let wg_quick = fetch_once(
        &cache.join(WG_QUICK),
        "apt-get download wireguard-tools && dpkg-deb -x wireguard-tools_*.deb .",
    );
    let jc = fetch_once(
        &cache.join(JC),
        "python3 -m venv . && bin/pip --quiet --disable-pip-version-check install jc==1.26.1",
    );
    match wg_quick.and(jc) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn fetch_once(dir: &Path, script: &str) -> Result<(), String> {
    if dir.join("complete").exists() {
        return Ok(());
    }
    let failed = |why: &dyn Display| format!("{}: {why}", dir.display());
    // A half-filled directory of a run that was interrupted is of no use.
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).map_err(|err| failed(&err))?;
    println!("fetching {}", dir.display());
    let status = Command::new("timeout")
        .args(["120", "sh", "-ec", script])
        .current_dir(dir)
        .stdin(Stdio::null())
        .status()
        .map_err(|err| failed(&err))?;
    if !status.success() {
        return Err(failed(&format!("`{script}' ended with {status}")));
    }
    // Without the mark it is fetched again.
    std::fs::write(dir.join("complete"), "").map_err(|err| failed(&err))
}

const CONFIG: &str = "\
# site 1
[Interface]
Address = 192.0.2.42/31, 2001:db8:fd26::1/126
PrivateKey = iHFETUlBZH1sIbZi1qqC7xN2J6ui5MjY/eKRgaa/SUQ=
ListenPort = 51001
Table = off
BindDev = vrf_external
PostUp = true

[Peer]
PublicKey = hCH5j2zqpv1fAj+IeeHnpafJhDEubS3NHToxs1OQoRc=
AllowedIPs = 0.0.0.0/0, ::/0
";

/// wg-quick beside our `wg`: it puts its own directory in front of PATH.
fn wg_quick(bench: &Bench) -> Result<String, Skip> {
    let script = bench.find_package(WG_QUICK)?.join("usr/bin/wg-quick");
    let copy = bench.bin().join("wg-quick");
    std::fs::copy(&script, &copy).expect("a copy of wg-quick");
    Ok(copy.to_string_lossy().into_owned())
}

/// A key it does not know goes through to `wg`; its own are taken out.
pub fn wg_quick_strip(bench: &Bench) -> Result<(), Skip> {
    let program = wg_quick(bench)?;
    let file = bench.write_file("wg-cr02.conf", CONFIG);
    let seen = stdout(bench.prepare_command(&program).arg("strip").arg(file));
    let own = ["Address", "Table", "PostUp"];
    let kept = CONFIG
        .lines()
        .filter(|line| !own.iter().any(|key| line.starts_with(key)));
    assert_eq!(seen.trim_end(), kept.collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// What `save` writes holds what `showconf` says, and `setconf` takes it back.
pub fn wg_quick_save(bench: &Bench) -> Result<(), Skip> {
    let devices = bench.serve_devices()?;
    let program = wg_quick(bench)?;
    let file = bench.write_file("save/wg-cr02.conf", CONFIG);
    let saving = output(bench.prepare_command(&program).arg("save").arg(&file));
    assert!(
        saving.status.success(),
        "{}",
        String::from_utf8_lossy(&saving.stderr)
    );
    let saved = std::fs::read_to_string(&file).expect("the saved file");
    assert!(
        saved.starts_with("[Interface]\nTable = off\nPostUp = true\n"),
        "{saved}"
    );

    let shown = bench.run_wg(&["showconf", TUNNEL]);
    let stripped = stdout(bench.prepare_command(&program).arg("strip").arg(&file));
    assert_eq!(stripped.trim_end(), shown.trim_end());

    devices.sets();
    let script = "wg setconf \"$2\" <(\"$1\" strip \"$3\")";
    bench.run_bash(script, &[&program, TUNNEL, &file.to_string_lossy()]);
    let sets = devices.sets();
    assert_eq!(sets.len(), 1, "{sets:?}");
    for part in [
        "listen_port=51001",
        "fwmark=4131",
        "replace_peers=true",
        FULL_HEX,
    ] {
        assert!(sets[0].contains(part), "no {part} in {}", sets[0]);
    }
    Ok(())
}

/// `wg-quick@.service` reloads through a pipe. A binding that a userspace device cannot have
/// here (no VRF) is an error that names it; nothing is set.
pub fn wg_quick_reload(bench: &Bench) -> Result<(), Skip> {
    let devices = bench.serve_devices()?;
    let program = wg_quick(bench)?;
    devices.sets();
    let script = "wg syncconf \"$2\" <(\"$1\" strip \"$3\")";
    let plain = bench.write_file(
        "reload/wg-cr02.conf",
        &CONFIG.replace("BindDev = vrf_external\n", ""),
    );
    bench.run_bash(script, &[&program, TUNNEL, &plain.to_string_lossy()]);
    let sets = devices.sets();
    assert_eq!(sets.len(), 1, "{sets:?}");
    assert!(
        !sets[0].contains("replace_peers"),
        "sessions would end: {}",
        sets[0]
    );

    let bound = bench.write_file("reload/wg-cr02.conf", CONFIG);
    let mut bash = bench.prepare_command("bash");
    bash.args(["-c", script, "bash", &program, TUNNEL])
        .arg(bound);
    let out = output(&mut bash);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("vrf_external"), "{said}");
    assert_eq!(devices.sets(), Vec::<String>::new());
    Ok(())
}

/// jc, from PyPI, with its own parser of the dump. It fails on any mark that is set, with the
/// reference's `wg` too (it expects a decimal number), so it gets a dump with the mark off.
pub fn jc(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let jc = bench.find_package(JC)?.join("bin/jc");
    let text = bench.run_bash(
        "wg show all dump | sed 's/\t0x1023$/\toff/' | \"$1\" --wg-show",
        &[&jc.to_string_lossy()],
    );
    let json: Value = serde_json::from_str(&text).expect("JSON from jc");
    let find = |list: &Value, member: &str, value: &str| {
        let list = list.as_array().expect("a list").clone();
        list.into_iter()
            .find(|item| item[member] == value)
            .expect("an entry")
    };
    let tunnel = find(&json, "device", TUNNEL);
    assert_eq!(tunnel["public_key"], PUBLIC);
    assert_eq!(tunnel["listen_port"], 51001);
    assert_eq!(tunnel["fwmark"], Value::Null);
    let full = find(&tunnel["peers"], "public_key", FULL);
    assert_eq!(full["endpoint"], "[2001:db8:b::10]:51001");
    assert_eq!(
        full["allowed_ips"],
        serde_json::json!(["0.0.0.0/0", "::/0"])
    );
    assert_eq!(full["latest_handshake"], 1763815020);
    assert_eq!(
        (&full["transfer_rx"], &full["transfer_sx"]),
        (&1184.into(), &1276.into())
    );
    assert_eq!(full["persistent_keepalive"], 25);
    let bare = find(&tunnel["peers"], "public_key", BARE);
    assert_eq!(bare["endpoint"], Value::Null);
    Ok(())
}

/// The condition that docs/json.md gives to monitors, in jq.
pub fn jq(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    bench.find_program("jq")?;
    let filter = "with_entries(select(.value.bindDev.method == \"kernel\")) | length";
    assert_eq!(
        bench.run_bash("wg show all json | jq \"$1\"", &[filter]),
        "0\n"
    );
    let keys = bench.run_bash(
        "wg show json | jq -r '.[\"wg-cr02\"].peers | keys[]' | sort",
        &[],
    );
    let mut expected = [FULL, BARE];
    expected.sort_unstable();
    assert_eq!(keys.lines().collect::<Vec<_>>(), expected);
    Ok(())
}
