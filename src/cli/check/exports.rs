//! Which systems data leaves for.

use crate::cli::table::{Table, TableColumn};
use crate::cli::terminal::OutputStyle;
use crate::config::Config;
use crate::export::{ContentMode, TargetSpec};
use crate::model::{Problem, duration};

/// A table of the exports; `None` without any.
pub(super) fn show(targets: &[TargetSpec], style: OutputStyle) -> Option<String> {
    let mut table = Table::new([
        TableColumn::word("EXPORT"),
        TableColumn::text("TO"),
        TableColumn::text("SIGNALS"),
        TableColumn::word("CONTENT"),
        TableColumn::text("WAITS UP TO"),
    ]);
    for target in targets {
        let signals: Vec<&str> = target.signals.iter().map(|signal| signal.as_str()).collect();
        let content = match target.content {
            ContentMode::Drop => "dropped",
            ContentMode::Full => "in full",
        };
        let waits = format!("{}, {} MiB", duration::display(target.max_age), target.max_spool >> 20);
        let signals = signals.join(", ");
        table.push([
            target.name.into(),
            (&*target.address).into(),
            (&*signals).into(),
            content.into(),
            (&*waits).into(),
        ]);
    }
    (!targets.is_empty()).then(|| table.render(style))
}

/// What is valid and yet likely a mistake, a line each.
pub(super) fn notes(config: &Config) -> Vec<String> {
    config.notes().iter().map(|Problem { path, message, .. }| format!("note: {path}: {message}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ExportConfig;

    #[test]
    fn each_export_is_listed_without_secrets() {
        let config: ExportConfig = serde_json::from_str(
            r#"{"otlp": {"endpoint": "https://u:S3CRET@collector:4318/otlp", "signals": ["traces", "logs"], "content": "full"},
                "clickhouse": {"url": "http://clickhouse:8123", "max_age": "7d"}}"#,
        )
        .expect("a section");
        let targets = config.targets().expect("built");
        insta::assert_snapshot!(show(&targets, OutputStyle { width: None, colours: false }).expect("a table"), @"
        EXPORT      TO                               SIGNALS       CONTENT  WAITS UP TO
        otlp        https://***@collector:4318/otlp  traces, logs  in full  1d, 512 MiB
        clickhouse  http://clickhouse:8123           traces        dropped  7d, 512 MiB
        ");
        assert_eq!(show(&[], OutputStyle { width: None, colours: false }), None);
    }
}
