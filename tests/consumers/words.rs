// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The man page and the completions know the words of the program, and no others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wg_vrf::cli::VERBS;
use wg_vrf::parse::words::{FIELDS, KEYWORDS, Scope};

use crate::bench::{Bench, Skip, output};
use crate::uapi::{BARE, FULL, NEW, TUNNEL};

type Words = BTreeSet<String>;

fn words<'a>(list: impl IntoIterator<Item = &'a str>) -> Words {
    list.into_iter().map(str::to_owned).collect()
}

/// The verbs, with the two that are only words.
fn list_verbs() -> Words {
    words(
        VERBS
            .iter()
            .map(|verb| verb.name)
            .chain(["help", "version"]),
    )
}

fn list_fields() -> Words {
    words(FIELDS.iter().map(|(name, _)| *name))
}

/// The keywords of `wg set` in one scope; `peer` opens a peer and stands in both.
fn list_keywords(scope: Scope) -> Words {
    let mine = KEYWORDS
        .iter()
        .filter(|keyword| keyword.scope == scope || keyword.argument == "peer");
    words(mine.map(|keyword| keyword.argument))
}

fn find_packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn read_man() -> String {
    read(&find_packaging("man/wg.8"))
}

/// The words that items of a section of the man page begin with, and how deep the list is.
fn list_items(page: &str, section: &str, macro_name: &str) -> Vec<(usize, String)> {
    let mut depth = 0;
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".Sh ") {
            inside = title == section;
        }
        match line.split_once(' ').map_or(line, |(word, _)| word) {
            ".Bl" => depth += 1,
            ".El" => depth -= 1,
            ".It" if inside => {
                let mut parts = line.split(' ').skip(1);
                if parts.next() == Some(macro_name) {
                    found.extend(parts.next().map(|word| (depth, word.to_owned())));
                }
            }
            _ => {}
        }
    }
    found
}

fn at_depth(items: &[(usize, String)], wanted: usize) -> Words {
    let mine = items.iter().filter(|(depth, _)| *depth == wanted);
    words(mine.map(|(_, word)| word.as_str()))
}

pub fn man_page(_: &Bench) -> Result<(), Skip> {
    let page = read_man();
    let described = list_items(&page, "VERBS", "Cm");
    assert_eq!(at_depth(&described, 1), list_verbs());
    let mut shown = at_depth(&described, 2);
    // JSON is no column and has a paragraph of its own.
    assert!(page.contains("| Cm all Oc Cm json\n"));
    shown.insert("json".to_owned());
    assert_eq!(shown, list_fields());

    let mut settings = at_depth(&list_items(&page, "SETTINGS", "Cm"), 1);
    assert!(page.contains(".Op Cm peer") || page.contains("Oo Cm peer Ar key"));
    settings.insert("peer".to_owned());
    let all = KEYWORDS.iter().map(|keyword| keyword.argument);
    assert_eq!(settings, words(all));

    let keys = at_depth(&list_items(&page, "CONFIGURATION FILES", "Cm"), 1);
    assert_eq!(
        keys,
        words(KEYWORDS.iter().filter_map(|keyword| keyword.key))
    );
    Ok(())
}

pub fn man_page_lint(bench: &Bench) -> Result<(), Skip> {
    bench.find_program("mandoc")?;
    let mut lint = bench.prepare_command("mandoc");
    let out = output(
        lint.args(["-T", "lint", "-W", "warning"])
            .arg(find_packaging("man/wg.8")),
    );
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.is_empty(), "{text}");
    Ok(())
}

/// What people read are the headings of the source: a word such as `In` at the start of one is a macro.
pub fn man_page_headings(bench: &Bench) -> Result<(), Skip> {
    bench.find_program("mandoc")?;
    let mut render = bench.prepare_command("mandoc");
    let out = output(
        render
            .args(["-T", "markdown"])
            .arg(find_packaging("man/wg.8")),
    );
    let rendered = String::from_utf8_lossy(&out.stdout);
    let rendered: Vec<_> = rendered
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    let page = read_man();
    let written: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".Sh ").or(line.strip_prefix(".Ss ")))
        .map(|heading| heading.trim_start_matches("\\&"))
        .collect();
    assert!(written.len() > 10, "{written:?}");
    assert_eq!(rendered, written);
    Ok(())
}

/// Every variable that the sources read is in the man page, and the other way round.
pub fn environment(_: &Bench) -> Result<(), Skip> {
    let mut read_by_us = Words::new();
    collect_variables(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut read_by_us,
    );
    let described = list_items(&read_man(), "ENVIRONMENT", "Ev");
    assert_eq!(at_depth(&described, 1), read_by_us);
    Ok(())
}

fn collect_variables(dir: &Path, found: &mut Words) {
    for entry in std::fs::read_dir(dir).expect("the sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_variables(&path, found);
        } else {
            let text = read(&path);
            // Only names as string literals: comments may mention any other.
            let names = text.split('"').filter(|part| {
                part.starts_with("WG_") && part.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            });
            found.extend(names.map(str::to_owned));
        }
    }
}

/// What a shell offers after each line, against what the tables say.
fn check(complete: impl Fn(&str) -> Words) {
    let mut show = words([TUNNEL, NEW]);
    show.extend(words(["all", "interfaces", "json"]));
    let tunnel = format!("wg set {TUNNEL} ");
    let peer = format!("{tunnel}listen-port 1 peer {FULL} endpoint [2001:db8::1]:5 ");
    for (line, expected) in [
        ("wg ".to_owned(), list_verbs()),
        ("wg add".to_owned(), words(["addconf"])),
        ("wg show ".to_owned(), show),
        (format!("wg show {TUNNEL} "), list_fields()),
        (format!("wg show {TUNNEL} bind"), words(["bind-dev"])),
        ("wg show interfaces ".to_owned(), Words::new()),
        ("wg setconf ".to_owned(), words([TUNNEL, NEW])),
        ("wg doctor ".to_owned(), words([TUNNEL, NEW, "all", "json"])),
        (format!("wg doctor {TUNNEL} "), words(["json"])),
        ("wg reresolve ".to_owned(), words([TUNNEL, NEW])),
        (tunnel.clone(), list_keywords(Scope::Interface)),
        (
            format!("{tunnel}bind-dev off "),
            list_keywords(Scope::Interface),
        ),
        (format!("{tunnel}bind-dev l"), words(["lo"])),
        (format!("{tunnel}bind-dev of"), words(["off"])),
        (format!("{tunnel}peer "), words([FULL, BARE])),
        (peer.clone(), list_keywords(Scope::Peer)),
        (format!("{peer}remove peer "), words([FULL, BARE])),
        (format!("{peer}persistent-keepalive o"), words(["off"])),
    ] {
        assert_eq!(complete(&line), expected, "after `{line}'");
    }
}

pub fn bash(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    bench.find_program("bash")?;
    let file = find_packaging("completions/wg.bash");
    let script = "source \"$1\"; COMP_LINE=$2 COMP_POINT=${#2}; _wg || :
        for word in \"${COMPREPLY[@]}\"; do echo \"$word\"; done";
    let file = file.to_string_lossy();
    check(|line| words(bench.run_bash(script, &[&file, line]).lines()));
    Ok(())
}

pub fn fish(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    bench.find_program("fish")?;
    let file = find_packaging("completions/wg.fish");
    check(|line| {
        let mut fish = bench.prepare_command("fish");
        fish.env("HOME", &bench.scratch).args(["--no-config", "-c"]);
        let script = format!("source {}; complete -C {line:?}", file.display());
        let out = output(fish.arg(script));
        let text = String::from_utf8_lossy(&out.stdout);
        words(
            text.lines()
                .map(|line| line.split('\t').next().unwrap_or(line)),
        )
    });
    Ok(())
}

/// zsh completes only at a terminal, so its lists are read from the file, and the file is parsed.
pub fn zsh(bench: &Bench) -> Result<(), Skip> {
    let path = find_packaging("completions/_wg");
    let file = read(&path);
    let list = |name: &str| {
        let start = format!("  {name}=(\n");
        let from = file.find(&start).unwrap_or_else(|| panic!("no {name}")) + start.len();
        let text = &file[from..];
        let text = &text[..text.find("\n  )").expect("the end of a list")];
        let word = |line: &str| {
            line.trim()
                .trim_matches('\'')
                .split(':')
                .next()
                .map(str::to_owned)
        };
        if text.contains('\'') {
            text.lines().filter_map(word).collect::<Words>()
        } else {
            words(text.split_whitespace())
        }
    };
    assert_eq!(list("verbs"), list_verbs());
    assert_eq!(list("fields"), list_fields());
    let with_peer = |mut list: Words| {
        list.insert("peer".to_owned());
        list
    };
    assert!(file.contains("device+=('peer:"));
    assert_eq!(with_peer(list("device")), list_keywords(Scope::Interface));
    assert_eq!(with_peer(list("peer")), list_keywords(Scope::Peer));

    bench.find_program("zsh")?;
    let out = output(bench.prepare_command("zsh").arg("-n").arg(&path));
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
