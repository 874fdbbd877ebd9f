// SPDX-License-Identifier: GPL-2.0

//! Writing to the terminal, or into a pipe whose reader may have gone: that is no reason to stop half-way through a
//! repair, and never one to panic.

use std::fmt;
use std::io;
use std::io::Write;

/// One line on standard output.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// One line on standard error.
pub fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line over the last one on the terminal of standard error; an empty one takes it away.
pub fn remark(line: fmt::Arguments<'_>) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r\x1b[K{line}");
    let _ = err.flush();
}

/// Text without a line's end, shown at once: a question.
pub fn ask(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}");
    let _ = out.flush();
}

/// A JSON document on standard output.
pub fn document(value: &serde_json::Value) {
    say(format_args!("{value:#}"));
}

/// One line on standard output, as `println!`.
#[macro_export]
macro_rules! say {
    () => { $crate::output::say(format_args!("")) };
    ($($part:tt)*) => { $crate::output::say(format_args!($($part)*)) };
}

/// One line on standard error, as `eprintln!`.
#[macro_export]
macro_rules! complain {
    ($($part:tt)*) => { $crate::output::complain(format_args!($($part)*)) };
}
