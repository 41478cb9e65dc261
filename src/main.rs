//! Parses the arguments, runs the command and returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lookout::cli::Cli;
use lookout::config::Environment;

fn main() -> ExitCode {
    Cli::parse().execute(&Environment::of_process())
}
