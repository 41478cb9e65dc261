//! `lookout silence`: creates, lists and ends silences.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{list, matchers, parse, relative, short_id, text, time, to_second};
use super::author;
use super::client::{Client, ClientArgs};
use super::ids;
use super::table::{Cell, Table, TableColumn};
use super::terminal::{OutputStyle, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::Time;

/// Arguments of `lookout silence`.
#[derive(Args, Clone, Debug)]
pub struct SilenceArgs {
    /// Matchers of the alerts: rule, level, project, agent_name, type, component, source; without any, list silences
    #[arg(value_name = "LABEL=GLOB", requires = "length")]
    pub matchers: Vec<String>,
    /// How long, for example 2h
    #[arg(long = "for", value_name = "DURATION", id = "length")]
    pub length: Option<String>,
    /// When it starts, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", requires = "matchers")]
    pub from: Option<String>,
    /// Who creates it (default: user@host)
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Reason, shown to everybody who is notified
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// End the silence with this ID, or its first digits
    #[arg(long, value_name = "ID", conflicts_with_all = ["matchers", "length"])]
    pub end: Option<String>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Creates, ends or lists.
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
        print("silence ended; alerts that still fire are notified now")?;
    } else if args.matchers.is_empty() {
        print(&render(&parse(&answer)?, Clock::system().now(), OutputStyle::of_stdout()))?;
    } else {
        let answer = parse(&answer)?;
        print(&created(&answer, Clock::system().now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn body(args: &SilenceArgs) -> anyhow::Result<Value> {
    let mut matchers = serde_json::Map::new();
    for matcher in &args.matchers {
        let Some((label, glob)) = matcher.split_once('=') else {
            bail!("`{matcher}` is not a matcher; write LABEL=GLOB, for example agent_name=worker-*")
        };
        if matchers.insert(label.to_owned(), json!(glob)).is_some() {
            bail!("label `{label}` is given twice; give each label once, and use * and ? to match several values");
        }
    }
    let mut body = json!({"matchers": matchers, "duration": args.length, "created_by": author(args.by.as_deref())});
    for (key, value) in [("comment", &args.comment), ("starts_at", &args.from)] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(key.to_owned(), json!(value));
        }
    }
    Ok(body)
}

/// What was created, until when, and how to end it.
fn created(silence: &Value, now: Time) -> String {
    let until = match time(silence, "ends_at") {
        Some(ends) => format!(" until {} ({})", to_second(ends), relative(now, Some(ends))),
        None => String::new(),
    };
    format!("silenced {}{until}; `lookout silence --end {}` ends it", matchers(silence), text(silence, "id"))
}

fn render(answer: &Value, now: Time, style: OutputStyle) -> String {
    let silences = list(answer, "silences");
    if silences.is_empty() {
        return "no silences; `lookout silence rule=AgentIdle --for 2h` creates one\n".to_owned();
    }
    let mut table = Table::new([
        TableColumn::word("ID"),
        TableColumn::text("MATCHERS"),
        TableColumn::number("STARTS"),
        TableColumn::number("ENDS"),
        TableColumn::text("CREATED BY"),
        TableColumn::text("COMMENT").optional(),
    ]);
    for silence in silences {
        table.push([
            Cell::from(short_id(text(silence, "id"))),
            matchers(silence).into(),
            relative(now, time(silence, "starts_at")).into(),
            relative(now, time(silence, "ends_at")).into(),
            text(silence, "created_by").into(),
            text(silence, "comment").into(),
        ]);
    }
    format!("{}\n", table.render(style))
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
    fn arguments_become_the_request() {
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
        let now = Time::parse("2026-11-21T03:00:00Z").expect("time");
        insta::assert_snapshot!(render(&answer, now, OutputStyle { width: Some(120), colours: false }), @"
        ID        MATCHERS                       STARTS   ENDS  CREATED BY  COMMENT
        0badcafe  agent_name=w*, rule=AgentIdle  1h ago  in 1h  ann         planned
        ");
        assert!(render(&json!({}), now, OutputStyle { width: None, colours: false }).starts_with("no silences; "));
    }
}
