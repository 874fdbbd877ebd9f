// SPDX-License-Identifier: GPL-2.0

//! The command lines. Each tool's is defined once; `--help`, errors and manual pages all come from it.

pub mod admin;
pub mod fsck;
pub mod mkfs;
pub mod mount;

use clap::builder::styling::Styles;
use clap::Command;

/// A part of the long help that is more than a list of options; a section of its own in the manual page.
pub type Section = (&'static str, &'static str);

/// Sections as they follow the options in `--help`.
pub fn sections(list: &[Section]) -> String {
    list.iter()
        .map(|(title, text)| format!("{title}:\n{}\n", indent(text)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.is_empty() {
                String::new()
            } else {
                format!("  {line}")
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Help without colours: it reads the same in a pipe.
pub(crate) const PLAIN: Styles = Styles::plain();

/// Every tool that has a manual page, with the sections that follow its options.
pub fn tools() -> Vec<(Command, &'static [Section])> {
    use clap::CommandFactory;
    vec![
        (mkfs::Args::command(), mkfs::SECTIONS),
        (fsck::Args::command(), fsck::SECTIONS),
        (mount::Args::command(), mount::SECTIONS),
        (admin::Args::command(), admin::SECTIONS),
    ]
}

/// What follows the options of a command of a tool, in its manual page of this name.
pub fn sections_of(page: &str) -> &'static [Section] {
    match page {
        "embrfs-admin-extract" => admin::EXTRACT,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn definitions_are_consistent() {
        for (command, _) in super::tools() {
            command.debug_assert();
        }
    }
}
