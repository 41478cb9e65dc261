//! `lookout ack`: somebody looks after an alert.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::ids;
use super::terminal::{print, print_answer};
use super::who;
use crate::config::Environment;

/// Arguments of `lookout ack`.
#[derive(Args, Clone, Debug)]
pub struct AckArgs {
    /// Which alert: its ID, as `lookout alerts` shows it, or its first digits
    #[arg(value_name = "ID")]
    pub fingerprint: String,
    /// Who looks after it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// What they have to say
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Acknowledges.
pub(super) async fn run(args: &AckArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let body = json!({"by": who(args.by.as_deref()), "comment": args.comment.clone().unwrap_or_default()});
    let client = Client::new(&args.client, env)?;
    let id = ids::alert(&client, &args.fingerprint).await?;
    let answer = client.post(&["api", "alerts", &id, "ack"], &body).await?;
    let said = "acknowledged: it is not said again until it gets worse, and its end is told";
    if args.client.json { print_answer(&answer) } else { print(said) }?;
    Ok(ExitCode::SUCCESS)
}
