// SPDX-License-Identifier: GPL-2.0

//! Manual pages, written from the definitions of the command lines.

use crate::cli;
use crate::cli::Section;
use crate::complain;
use crate::describe;
use clap::Command;
use clap_mangen::Man;
use embr_engine::units::Timestamp;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

const SOURCE: &str = concat!("embrfs ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "System administration";

/// The program: `embrfs-man DIRECTORY`.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next().filter(not_an_option), args.next()) else {
        complain!("usage: embrfs-man DIRECTORY\nwrites the manual pages of the embrfs tools into DIRECTORY");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("embrfs-man: {}: {error}", Path::new(&dir).display());
            ExitCode::FAILURE
        }
    }
}

fn not_an_option(arg: &OsString) -> bool {
    !arg.to_string_lossy().starts_with('-')
}

/// Writes every page into `dir`.
pub fn write_all(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (command, sections) in cli::tools() {
        write(dir, command, "", sections)?;
    }
    Ok(())
}

/// Writes the page of a command and those of its subcommands, which bear its name in front of theirs.
fn write(dir: &Path, command: Command, prefix: &str, sections: &[Section]) -> io::Result<()> {
    let name = format!("{prefix}{}", command.get_name());
    let spoken = if prefix.is_empty() {
        name.clone()
    } else {
        name.replacen("admin-", "admin ", 1)
            .replacen("dump-", "dump ", 1)
    };
    let command = command.display_name(name.clone()).bin_name(spoken);
    for sub in command.get_subcommands() {
        let sub = sub
            .clone()
            .version(env!("CARGO_PKG_VERSION"))
            .styles(cli::PLAIN);
        let page = format!("{name}-{}", sub.get_name());
        write(dir, sub, &format!("{name}-"), cli::sections_of(&page))?;
    }
    fs::write(dir.join(format!("{name}.8")), page(command, sections)?)
}

fn page(command: Command, sections: &[Section]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let subcommands = command.has_subcommands();
    let title = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let man = Man::new(command.after_long_help(None::<&str>))
        .section("8")
        .manual(MANUAL)
        .source(SOURCE);
    // The crate leaves an empty date out, and what follows would move into its place.
    writeln!(
        out,
        ".TH \"{}\" \"8\" \"{}\" \"{SOURCE}\" \"{MANUAL}\"",
        title.to_uppercase(),
        date()
    )?;
    writeln!(out, ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '")?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if subcommands {
        man.render_subcommands_section(&mut out)?;
    }
    for (title, text) in sections {
        writeln!(out, ".SH {}\n.nf", title.to_uppercase())?;
        for line in text.lines() {
            writeln!(out, "{}", escape(line))?;
        }
        writeln!(out, ".fi")?;
    }
    writeln!(out, ".SH SEE ALSO")?;
    writeln!(
        out,
        "mkfs.embrfs(8), fsck.embrfs(8), mount.embrfs(8),\nembrfs\\-admin(8), mount(8), fsck(8)"
    )?;
    // The crate leaves blanks at ends of lines.
    let text = String::from_utf8_lossy(&out);
    Ok(text
        .lines()
        .flat_map(|line| [line.trim_end().as_bytes(), b"\n"])
        .flatten()
        .copied()
        .collect())
}

/// The day for the page: that of the sources where a build says it, so that the same sources give the same page.
fn date() -> String {
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0))
    };
    let text = describe::time(Timestamp {
        seconds: seconds.unwrap_or_else(now),
        nanos: 0,
    });
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Text that roff shows as it stands.
fn escape(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}
