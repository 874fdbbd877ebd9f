// SPDX-License-Identifier: GPL-2.0

//! What every tool does around its work: read the command line, run, tell a failure, and end with the right code.

use crate::complain;
use crate::failure::Failure;
use crate::output;
use clap::Parser;
use std::process::ExitCode;

/// Runs a tool. `usage` is the code that its kind of program ends with after a wrong command line.
pub fn run<A: Parser>(
    name: &str,
    usage: u8,
    json: fn(&A) -> bool,
    work: fn(A) -> Result<u8, Failure>,
) -> ExitCode {
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            // Help or version, as asked for.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            // There are no parsed arguments to say whether JSON is wanted.
            if std::env::args_os().any(|a| a == "--json") {
                let text = error.to_string();
                let first = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                output::document(&Failure::new(usage, "usage", first).json());
            } else {
                let _ = error.print();
            }
            return ExitCode::from(usage);
        }
    };
    let as_json = json(&args);
    match work(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if as_json {
                output::document(&failure.json());
            } else {
                complain!("{name}: {}", failure.message);
                failure.advice.iter().for_each(|line| complain!("  {line}"));
            }
            ExitCode::from(failure.exit)
        }
    }
}
