//! app

use crate::config::{Config, Source};

/// Runs the sidecar until it is told to stop; `source` is read again on a reload.
pub fn run(config: Config, source: Source) -> anyhow::Result<()> {
    let _ = (config, source);
    anyhow::bail!("the sidecar is not wired yet")
}
