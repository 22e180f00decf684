// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show`, and `wg` alone.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Call;
use crate::address::Names;
use crate::backend;
use crate::error::{Error, Result, Task, shown_value};
use crate::ifname;
use crate::model::{Bind, Device};
use crate::parse::words::{self, Field};
use crate::render::{self, Options};
use crate::sys;

pub fn show(call: Call, words: &[OsString]) -> Result<()> {
    let words: Vec<_> = words
        .iter()
        .map(|arg| ifname::from_bytes(arg.as_bytes()))
        .collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] | ["all"] => show_all(call, None),
        ["interfaces"] => show_interfaces(call),
        ["-h" | "--help" | "help"] => {
            super::print_note(call.usage);
            Ok(())
        }
        ["json"] if !backend::list()?.iter().any(|name| name == "json") => {
            show_all(call, Some("json"))
        }
        [interface] => {
            let device = backend::get(interface)?;
            note_unknown_bind(&device);
            render::pretty::print(&device, &read_options(), call.out).map_err(Error::output)
        }
        // The list takes no field.
        ["interfaces", _] | [_, _, _, ..] => Err(Error::Invalid(call.usage.to_owned())),
        ["all", field] => {
            let field = (*field).to_owned();
            show_all(call, Some(&field))
        }
        [interface, field] => {
            let judged = shows_binding(Some(field));
            let device = match judged {
                true => backend::get(interface)?,
                false => backend::get_unjudged(interface)?,
            };
            let field = find_known_field(&call, field)?;
            if judged {
                note_unknown_bind(&device);
            }
            if field == Field::Json {
                return render::json::print(&[device], &read_options(), call.out)
                    .map_err(Error::output);
            }
            render::fields::print(&device, field, None, &interface_names(), call.out)
                .map_err(Error::output)
        }
    }
}

fn show_interfaces(call: Call) -> Result<()> {
    let names = backend::list()?;
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = names.iter().map(|name| ifname::name_bytes(name)).collect();
    let mut line = names.join(&b' ');
    line.push(b'\n');
    call.out.write_all(&line).map_err(Error::output)
}

/// Every device. One that cannot be read is said and left out; all of them is a failure.
fn show_all(call: Call, field: Option<&str>) -> Result<()> {
    let options = read_options();
    let interfaces = backend::list()?;
    let judged = shows_binding(field);
    let reader = backend::Reader::prepare_reader(interfaces.len());
    let mut devices = Vec::new();
    let mut failed = 0;
    let mut printed = 0;
    for (at, interface) in interfaces.iter().enumerate() {
        let device = match judged {
            true => reader.get(interface),
            false => backend::get_unjudged(interface),
        };
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                let interface = interface.clone();
                super::print_note(&error.with_task(Task::AccessEach { interface }).to_string());
                failed += 1;
                continue;
            }
        };
        if judged {
            note_unknown_bind(&device);
        }
        match field {
            None => {
                render::pretty::print(&device, &options, call.out).map_err(Error::output)?;
                // Before every further name, also one that then cannot be read.
                if at + 1 < interfaces.len() {
                    writeln!(call.out).map_err(Error::output)?;
                }
            }
            Some(field) => match find_known_field(&call, field)? {
                Field::Json => devices.push(device),
                field => {
                    render::fields::print(
                        &device,
                        field,
                        Some(interface),
                        &options.names,
                        call.out,
                    )
                    .map_err(Error::output)?;
                }
            },
        }
        printed += 1;
    }
    if field == Some("json") {
        render::json::print(&devices, &options, call.out).map_err(Error::output)?;
    }
    if failed > 0 && printed == 0 {
        return Err(Error::Reported);
    }
    Ok(())
}

/// Whether what is shown tells how a device is bound: all of it does, but of the fields only these.
fn shows_binding(field: Option<&str>) -> bool {
    let field = field.map(words::find_field);
    matches!(field, None | Some(Some(Field::BindDev | Field::Json)))
}

/// Says that the binding of a device cannot be told.
fn note_unknown_bind(device: &Device) {
    if let Bind::Unknown { why } = &device.bind {
        super::print_note(&format!(
            "Warning: whether {} is bound is not known: {why}",
            device.name
        ));
    }
}

fn find_known_field(call: &Call, field: &str) -> Result<Field> {
    words::find_field(field).ok_or_else(|| {
        Error::Invalid(format!(
            "Invalid parameter: `{}'{}\n{}",
            shown_value(field),
            words::hint_at(field, words::FIELDS.iter().map(|(name, _)| *name)),
            call.usage
        ))
    })
}

/// How numbers become names, for the renderers.
pub fn interface_names() -> Names {
    Names {
        interface: sys::interface_name,
    }
}

/// The environment, the terminal and the clock, for the renderers.
fn read_options() -> Options {
    let colour = match env::var("WG_COLOR_MODE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => io::stdout().is_terminal(),
    };
    let hide_keys = env::var_os("WG_HIDE_KEYS").is_none_or(|value| value != "never");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Options {
        colour,
        hide_keys,
        now,
        names: interface_names(),
    }
}
