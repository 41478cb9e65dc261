//! `lookout ack`: acknowledges an alert.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::author;
use super::client::{Client, ClientArgs};
use super::ids;
use super::terminal::{print, print_answer};
use crate::config::Environment;

/// Arguments of `lookout ack`.
#[derive(Args, Clone, Debug)]
pub struct AckArgs {
    /// ID of the alert, or its first digits, as shown by `lookout alerts`
    #[arg(value_name = "ID")]
    pub fingerprint: String,
    /// Who acknowledges it (default: user@host)
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Comment, for example what is being done
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Acknowledges the alert.
pub(super) async fn run(args: &AckArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let body = json!({"by": author(args.by.as_deref()), "comment": args.comment.clone().unwrap_or_default()});
    let client = Client::new(&args.client, env)?;
    let id = ids::alert(&client, &args.fingerprint).await?;
    let answer = client.post(&["api", "alerts", &id, "ack"], &body).await?;
    let done = "acknowledged: no repeats until it escalates; its resolve is still notified";
    if args.client.json { print_answer(&answer) } else { print(done) }?;
    Ok(ExitCode::SUCCESS)
}
