//! `lookout token`: prints the token that lookout makes itself where other machines have no access otherwise.
//!
//! It works on files alone, so that it needs no running sidecar: next to it, in the same container, as the same user.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::terminal::print;
use super::{ConfigArgs, warn};
use crate::config::{Config, Environment};
use crate::secret::{SecretSource, kept};

/// Arguments of `lookout token`.
#[derive(Args, Clone, Debug, Default)]
pub struct TokenArgs {
    /// Make another token, and sign out everyone who signed in with the last one
    #[arg(long)]
    pub new: bool,
    /// The configuration of the sidecar
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Prints the token alone, so that its output can be used.
pub(super) fn run(args: &TokenArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let Some(path) = config.own_token_path() else { bail!("{}", reason(&config)) };
    let token = if args.new {
        let token = kept::replace(&path).with_context(|| format!("write {}", path.display()))?;
        warn("the last token and its sessions end within a second");
        token
    } else {
        read(&path)?
    };
    print(token.expose())?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<crate::secret::Secret> {
    if !path.exists() {
        bail!(
            "no token yet: {} is made when lookout starts; give its configuration with --config, or make one with --new",
            path.display()
        );
    }
    Ok(SecretSource::File(path.to_owned()).read_blocking()?)
}

/// Why this configuration needs no token of its own.
fn reason(config: &Config) -> String {
    let auth = &config.auth;
    if !auth.tokens.is_empty() {
        return "lookout makes no token, since auth.tokens configures some; use one of those".to_owned();
    }
    if auth.proxy.is_some() || auth.loopback.is_some() {
        return "lookout makes no token, since `auth` says who has access; add one to auth.tokens".to_owned();
    }
    let address = config.listen.0;
    if address.ip().is_loopback() {
        return format!(
            "lookout makes no token: it listens on {address}, where programs of this machine need none; set `listen` or LOOKOUT_LISTEN as for the sidecar"
        );
    }
    "lookout makes no token without a store to keep it in; set store.path, or configure auth.tokens".to_owned()
}
