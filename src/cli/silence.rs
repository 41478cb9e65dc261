//! `lookout silence`: quiet on purpose, begun, listed and ended.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{list, matchers, parse, text};
use super::client::{Client, ClientArgs};
use super::ids;
use super::table::{Cell, Column, Table};
use super::terminal::{Look, print, print_answer};
use super::who;
use crate::config::Environment;

/// Arguments of `lookout silence`.
#[derive(Args, Clone, Debug)]
pub struct SilenceArgs {
    /// Which alerts, as LABEL=GLOB: rule, level, project, agent_name, type, component, source; none lists silences
    #[arg(value_name = "LABEL=GLOB", requires = "length")]
    pub matchers: Vec<String>,
    /// For how long, like 2h
    #[arg(long = "for", value_name = "DURATION", id = "length")]
    pub length: Option<String>,
    /// From when, RFC 3339; now when not given
    #[arg(long, value_name = "TIME", requires = "matchers")]
    pub from: Option<String>,
    /// Who wants it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// End the silence of this ID, or of its first digits
    #[arg(long, value_name = "ID", conflicts_with_all = ["matchers", "length"])]
    pub end: Option<String>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Begins, ends or lists.
pub(super) async fn run(args: &SilenceArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client, env)?;
    let answer = if let Some(id) = &args.end {
        let id = ids::silence(&client, id).await?;
        client.delete(&["api", "silences", &id]).await?
    } else if args.matchers.is_empty() {
        client.get("/api/silences", &[]).await?
    } else {
        client.post(&["api", "silences"], &body(args)?).await?
    };
    if args.client.json {
        print_answer(&answer)?;
    } else if args.end.is_some() {
        print("ended; what still fires is told now")?;
    } else if args.matchers.is_empty() {
        print(&render(&parse(&answer)?, Look::of_stdout()))?;
    } else {
        let answer = parse(&answer)?;
        print(&format!("silence {} until {}", text(&answer, "id"), text(&answer, "ends_at")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn body(args: &SilenceArgs) -> anyhow::Result<Value> {
    let mut matchers = serde_json::Map::new();
    for matcher in &args.matchers {
        let Some((label, glob)) = matcher.split_once('=') else {
            bail!("`{matcher}` is not a matcher; write it like agent_name=worker-*")
        };
        if matchers.insert(label.to_owned(), json!(glob)).is_some() {
            bail!("`{label}` is given twice");
        }
    }
    let mut body = json!({"matchers": matchers, "duration": args.length, "created_by": who(args.by.as_deref())});
    for (key, value) in [("comment", &args.comment), ("starts_at", &args.from)] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(key.to_owned(), json!(value));
        }
    }
    Ok(body)
}

fn render(answer: &Value, look: Look) -> String {
    let silences = list(answer, "silences");
    if silences.is_empty() {
        return "no silences\n".to_owned();
    }
    let mut table = Table::new([
        Column::word("ID"),
        Column::text("ALERTS"),
        Column::word("FROM"),
        Column::word("UNTIL"),
        Column::text("BY"),
        Column::text("COMMENT"),
    ]);
    for silence in silences {
        table.push([
            Cell::from(text(silence, "id")),
            matchers(silence).into(),
            text(silence, "starts_at").into(),
            text(silence, "ends_at").into(),
            text(silence, "created_by").into(),
            text(silence, "comment").into(),
        ]);
    }
    format!("{}\n", table.render(look))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(matchers: &[&str]) -> SilenceArgs {
        SilenceArgs {
            matchers: matchers.iter().map(ToString::to_string).collect(),
            length: Some("2h".to_owned()),
            from: None,
            by: Some("ann".to_owned()),
            comment: Some("planned".to_owned()),
            end: None,
            client: ClientArgs::default(),
        }
    }

    #[test]
    fn what_is_said_becomes_the_body() {
        let body = body(&args(&["rule=AgentIdle", "agent_name=a=b*"])).unwrap();
        assert_eq!(
            body,
            json!({"matchers": {"rule": "AgentIdle", "agent_name": "a=b*"}, "duration": "2h", "created_by": "ann", "comment": "planned"})
        );
        assert!(super::body(&args(&["worker-1"])).is_err());
        assert!(super::body(&args(&["rule=a", "rule=b"])).is_err());
    }

    #[test]
    fn silences_are_listed() {
        let answer = json!({"silences": [{"id": "0badcafe", "matchers": {"rule": "AgentIdle", "agent_name": "w*"}, "starts_at": "2026-11-21T02:00:00Z", "ends_at": "2026-11-21T04:00:00Z", "created_by": "ann", "comment": "planned"}]});
        insta::assert_snapshot!(render(&answer, Look { width: Some(120), colours: false }), @"
        ID        ALERTS                         FROM                  UNTIL                 BY   COMMENT
        0badcafe  agent_name=w*, rule=AgentIdle  2026-11-21T02:00:00Z  2026-11-21T04:00:00Z  ann  planned
        ");
        assert_eq!(render(&json!({}), Look { width: None, colours: false }), "no silences\n");
    }
}
