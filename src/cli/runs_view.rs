//! Runs on a terminal: tables, a waterfall of spans, and agents side by side.

use serde_json::Value;

use super::answer::{ago, count, dollars, list, number, progress, relative, short, text, time};
use super::table::{Cell, Table, TableColumn};
use super::terminal::{Colour, OutputStyle};
use crate::model::Time;
use crate::text::number::fixed;

/// Width of the timeline of a waterfall, by the width of the terminal.
const BAR: [usize; 2] = [16, 40];
/// Digits of an id in tables.
const ID: usize = 8;

/// A duration in milliseconds, in the unit that fits: `12ms`, `1.24s`, `3m20s`.
pub(super) fn duration(ms: Option<f64>) -> String {
    match ms {
        None => String::new(),
        Some(ms) if ms > 0.0 && ms < 0.05 => "<0.1ms".to_owned(),
        Some(ms) if ms < 1.0 => format!("{}ms", fixed(ms, 1)),
        Some(ms) if ms < 1_000.0 => format!("{}ms", fixed(ms, 0)),
        Some(ms) if ms < 60_000.0 => format!("{}s", fixed(ms / 1_000.0, 2)),
        Some(ms) => crate::model::duration::display(std::time::Duration::from_secs((ms / 1_000.0) as u64)),
    }
}

fn colour(status: &str) -> Option<Colour> {
    match status {
        "ok" => Some(Colour::Good),
        "error" => Some(Colour::Bad),
        "abandoned" => Some(Colour::Warn),
        _ => None,
    }
}

fn agent(run: &Value) -> String {
    format!("{}/{}", text(run, "project"), text(run, "agent_name"))
}

/// Runs as a table.
pub(super) fn table(answer: &Value, now: Time, look: OutputStyle) -> String {
    let runs = list(answer, "runs");
    if runs.is_empty() {
        return "no runs; agents report them by OTLP traces, by hooks or by POST /agents/ID/trace/start\n".to_owned();
    }
    let mut table = Table::new([
        TableColumn::word("RUN"),
        TableColumn::text("AGENT"),
        TableColumn::text("NAME"),
        TableColumn::word("STATUS"),
        TableColumn::number("STARTED"),
        TableColumn::number("TIME"),
        TableColumn::number("CALLS"),
        TableColumn::number("TOKENS"),
        TableColumn::number("COST"),
        TableColumn::text("MODEL").optional(),
        TableColumn::text("ERROR").optional(),
    ]);
    for run in runs {
        let status = text(run, "status");
        table.push([
            Cell::from(text(run, "run_id").get(..ID).unwrap_or_default()),
            agent(run).into(),
            text(run, "name").into(),
            Cell::new(status, colour(status)),
            ago(now, time(run, "started_at")).into(),
            duration(number(run, "duration_ms")).into(),
            short(number(run, "calls")).into(),
            short(number(&run["tokens"], "total")).into(),
            dollars(number(run, "cost_usd")).into(),
            text(run, "model").into(),
            Cell::new(text(run, "error"), Some(Colour::Bad)),
        ]);
    }
    let more = if answer["next_cursor"].is_null() { "" } else { "more runs match; use --limit or --until\n" };
    format!("{}\n{more}", table.render(look))
}

/// A run in one line.
pub(super) fn line(run: &Value, look: OutputStyle) -> String {
    let status = text(run, "status");
    let mut parts = vec![
        time(run, "started_at").map(|at| at.to_string()).unwrap_or_default(),
        text(run, "run_id").get(..ID).unwrap_or_default().to_owned(),
        agent(run),
        text(run, "name").to_owned(),
        look.paint(colour(status), status),
    ];
    parts.extend(summary(run));
    parts.retain(|part| !part.is_empty());
    crate::text::clean_lines(&parts.join("  ")).into_owned()
}

/// Duration, calls, tokens and cost, as far as they are known.
fn summary(run: &Value) -> Vec<String> {
    let mut parts = vec![duration(number(run, "duration_ms"))];
    for (key, noun) in [("calls", "call"), ("tools", "tool use"), ("fallbacks", "fallback")] {
        if let Some(number) = number(run, key).filter(|number| *number > 0.0) {
            parts.push(count(number as usize, noun));
        }
    }
    if let Some(tokens) = number(&run["tokens"], "total") {
        parts.push(format!("{} tokens", short(Some(tokens))));
    }
    parts.push(dollars(number(run, "cost_usd")));
    if let Some(waited) = number(run, "waited_ms").filter(|waited| *waited > 0.0) {
        parts.push(format!("waited {}", duration(Some(waited))));
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A run with its spans, each with a bar at its place in time.
pub(super) fn waterfall(run: &Value, show_all: bool, now: Time, look: OutputStyle) -> String {
    let status = text(run, "status");
    let mut out = String::new();
    let title = format!("{}  {}  ", agent(run), text(run, "name"));
    out.push_str(&look.paint(Some(Colour::Bold), &crate::text::clean(&title, 300)));
    out.push_str(&look.paint(colour(status), status));
    out.push_str(&format!("\n{}, started {}\n", summary(run).join(", "), relative(now, time(run, "started_at"))));
    for (label, key) in [
        ("run", "run_id"),
        ("started by", "parent_run_id"),
        ("session", "session_id"),
        ("task", "task_id"),
        ("platform", "platform"),
        ("error", "error"),
    ] {
        let value = text(run, key);
        if !value.is_empty() {
            out.push_str(&format!("{label}: {}\n", crate::text::clean(value, 300)));
        }
    }
    out.push('\n');
    let mut rows = Vec::new();
    for span in shown(None, list(run, "tree"), show_all) {
        flatten(span, show_all, String::new(), String::new(), &mut rows);
    }
    if rows.is_empty() {
        out.push_str("no spans are stored of this run\n");
        return out;
    }
    let width = look.width.map_or(BAR[1], |width| (width / 4).clamp(BAR[0], BAR[1]));
    let bounds = rows.iter().filter_map(|(_, span)| bounds(span)).fold(None, |all: Option<(f64, f64)>, (from, to)| {
        Some(all.map_or((from, to), |(first, last)| (first.min(from), last.max(to))))
    });
    let mut table = Table::new([
        TableColumn::text("SPAN"),
        TableColumn::word("TIMELINE"),
        TableColumn::number("TIME"),
        TableColumn::number("TOKENS").optional(),
        TableColumn::number("COST").optional(),
        TableColumn::text("DETAIL").optional(),
    ]);
    for (label, span) in &rows {
        let failed = text(span, "status") == "error";
        let kind = text(span, "kind");
        let colour = match kind {
            _ if failed => Some(Colour::Bad),
            "llm" => Some(Colour::Good),
            "wait" => Some(Colour::Warn),
            "agent" => Some(Colour::Bold),
            "other" => Some(Colour::Dim),
            _ => None,
        };
        table.push([
            Cell::new(label, failed.then_some(Colour::Bad)),
            Cell::new(bar(span, bounds, width), colour),
            duration(number(span, "duration_ms")).into(),
            short(number(&span["tokens"], "total")).into(),
            dollars(number(span, "cost_usd")).into(),
            Cell::new(detail(span), failed.then_some(Colour::Bad)),
        ]);
    }
    out.push_str(&table.render(look));
    out.push('\n');
    let hidden = list(run, "tree").iter().map(size).sum::<usize>() - rows.len();
    if hidden > 0 {
        let verb = if hidden == 1 { "is" } else { "are" };
        out.push_str(&format!("{} of neither calls nor tools {verb} not shown; see --all\n", count(hidden, "span")));
    }
    out
}

/// The part of a span's time from which on what is beneath it stands for it.
const MOST: f64 = 0.9;

/// Whether a span is of an agent, a call, a tool or a wait, or failed.
fn is_of_interest(span: &Value) -> bool {
    text(span, "kind") != "other" || text(span, "status") == "error"
}

/// Whether `outer` lasts hardly longer than `inner`, if at all.
fn is_filled_by(outer: &Value, inner: &Value) -> bool {
    let [outer, inner] = [outer, inner].map(|span| number(span, "duration_ms").unwrap_or(0.0));
    inner >= outer * MOST
}

/// Those of `spans`, which are beneath `parent`, that have a row, in the order of their time. Others have one only if they
/// hold several rows, or add time to the one beneath them; a step of an agent keeps its name.
fn shown<'v>(parent: Option<&Value>, spans: &'v [Value], show_all: bool) -> Vec<&'v Value> {
    if show_all {
        return spans.iter().collect();
    }
    let mut rows = Vec::new();
    for span in spans {
        if is_of_interest(span) {
            rows.push(span);
            continue;
        }
        let beneath = shown(Some(span), list(span, "children"), false);
        let is_step = parent.is_some_and(|it| text(it, "kind") == "agent" && !is_filled_by(it, span));
        match beneath.as_slice() {
            [] => {}
            [only] if is_filled_by(span, only) && !is_step => rows.push(only),
            _ => rows.push(span),
        }
    }
    rows.sort_by_key(|span| time(span, "started_at"));
    rows
}

fn size(span: &Value) -> usize {
    1 + list(span, "children").iter().map(size).sum::<usize>()
}

fn flatten<'v>(span: &'v Value, show_all: bool, lead: String, indent: String, rows: &mut Vec<(String, &'v Value)>) {
    rows.push((format!("{lead}{}", text(span, "name")), span));
    let children = shown(Some(span), list(span, "children"), show_all);
    for (at, child) in children.iter().enumerate() {
        let is_last = at + 1 == children.len();
        let (branch, below) = if is_last { ("└ ", "  ") } else { ("├ ", "│ ") };
        flatten(child, show_all, format!("{indent}{branch}"), format!("{indent}{below}"), rows);
    }
}

/// Milliseconds since 1970 when a span begins and ends.
fn bounds(span: &Value) -> Option<(f64, f64)> {
    let from = time(span, "started_at")?.as_millis() as f64;
    Some((from, from + number(span, "duration_ms").unwrap_or(0.0)))
}

fn bar(span: &Value, all: Option<(f64, f64)>, width: usize) -> String {
    let (Some((first, last)), Some((from, to))) = (all, bounds(span)) else { return " ".repeat(width) };
    let scale = width as f64 / (last - first).max(1.0);
    let begin = (((from - first) * scale).floor() as usize).min(width - 1);
    let end = (((to - first) * scale).ceil() as usize).clamp(begin + 1, width);
    format!("{}{}{}", "·".repeat(begin), "█".repeat(end - begin), "·".repeat(width - end))
}

/// What a span is about: its error, model or tool.
fn detail(span: &Value) -> String {
    let mut parts: Vec<&str> = Vec::new();
    match text(span, "kind") {
        "llm" => parts.extend([text(span, "model"), text(span, "provider")]),
        "tool" => parts.push(text(span, "tool")),
        "agent" => parts.push(text(span, "agent_name")),
        "wait" => parts.push("waiting"),
        _ => {}
    }
    // What the name says is not repeated.
    let name = text(span, "name");
    parts.retain(|part| !name.contains(part));
    parts.push(text(span, "error"));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// Agents side by side, a row for each figure.
pub(super) fn comparison(answer: &Value, look: OutputStyle) -> String {
    let agents = list(answer, "agents");
    let names: Vec<String> = agents.iter().map(agent).collect();
    let percent = |agent: &Value, key: &str| {
        number(agent, key).map(|ratio| format!("{}%", fixed(ratio * 100.0, 1))).unwrap_or_default()
    };
    type Figure = (&'static str, fn(&Value) -> Option<f64>, fn(Option<f64>) -> String);
    const FIGURES: [Figure; 12] = [
        ("runs", |agent| number(agent, "runs"), short),
        ("run p50", |agent| number(&agent["run_duration_ms"], "p50"), duration),
        ("run p95", |agent| number(&agent["run_duration_ms"], "p95"), duration),
        ("run p99", |agent| number(&agent["run_duration_ms"], "p99"), duration),
        ("calls", |agent| number(agent, "calls"), short),
        ("call p95", |agent| number(&agent["call_duration_ms"], "p95"), duration),
        ("tool uses", |agent| number(agent, "tools"), short),
        ("tokens", |agent| number(&agent["tokens"], "total"), short),
        ("tokens per call", |agent| number(agent, "tokens_per_call"), short),
        ("cost", |agent| number(agent, "cost_usd"), dollars),
        ("fallbacks", |agent| number(agent, "fallbacks"), short),
        ("waited", |agent| number(agent, "waited_ms"), duration),
    ];
    let mut rows: Vec<(String, Vec<String>)> = FIGURES
        .iter()
        .map(|(label, read, show)| ((*label).to_owned(), agents.iter().map(|agent| show(read(agent))).collect()))
        .collect();
    rows.insert(1, ("failed runs".to_owned(), agents.iter().map(|agent| percent(agent, "error_rate")).collect()));
    rows.insert(6, ("failed calls".to_owned(), agents.iter().map(|agent| percent(agent, "call_error_rate")).collect()));
    let label_width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| rows.iter().map(|(_, cells)| cells[at].len()).max().unwrap_or(0).max(name.chars().count()))
        .collect();
    let mut out = format!("{:label_width$}", "");
    for (name, width) in names.iter().zip(&widths) {
        out.push_str(&format!("  {}", look.paint(Some(Colour::Bold), &format!("{name:>width$}"))));
    }
    out.push('\n');
    for (label, cells) in &rows {
        out.push_str(&format!("{label:label_width$}"));
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(&format!("  {cell:>width$}"));
        }
        out.push('\n');
    }
    out
}

/// An agent: its registration, statistics, models, tools and last runs.
pub(super) fn agent_card(
    agent: &Value,
    stats: &[Value],
    runs: &Value,
    range: &str,
    now: Time,
    look: OutputStyle,
) -> String {
    let mut out = String::new();
    let name = format!("{}/{}", text(agent, "project"), text(agent, "name"));
    out.push_str(&look.paint(Some(Colour::Bold), &name));
    out.push_str(&format!("  {}  {}\n", text(agent, "type"), text(agent, "status")));
    out.push_str(&format!("id: {}\n", text(agent, "id")));
    let last = relative(now, time(agent, "last_used_at"));
    let last = if last.is_empty() { "never" } else { &last };
    let created = relative(now, time(agent, "created_at"));
    out.push_str(&format!("registered by {} {created}, last used {last}\n", text(agent, "created_by")));
    if text(agent, "state") == "running" || agent["progress"].is_number() || agent["progress_estimate"].is_object() {
        out.push_str(&format!("progress: {}\n", progress(agent)));
    }
    if agent["monitoring_enabled"] == false {
        out.push_str(&look.paint(Some(Colour::Warn), "monitoring is disabled: its alerts are silenced"));
        out.push('\n');
    }
    let points = |at: usize| -> Vec<&Value> {
        let agents = stats.get(at).map(|stats| list(stats, "agents")).unwrap_or_default();
        agents.iter().flat_map(|agent| list(agent, "points")).collect()
    };
    let of_agent = stats.first().map(|stats| list(stats, "agents")).unwrap_or_default();
    if let Some(total) = of_agent
        .first()
        .filter(|total| number(total, "runs").unwrap_or(0.0) + number(total, "calls").unwrap_or(0.0) > 0.0)
    {
        let sums = serde_json::json!({"agents": [total]});
        out.push_str(&format!("\nlast {range}\n{}", comparison(&sums, look)));
        for advice in list(total, "advice") {
            out.push_str(&format!("- {}\n", text(advice, "text")));
        }
    } else {
        out.push_str(&format!("\nno runs in the last {range}\n"));
    }
    for (at, label, key) in [(1, "MODEL", "model"), (2, "TOOL", "tool")] {
        let points = points(at);
        if points.is_empty() {
            continue;
        }
        let mut table = Table::new([
            TableColumn::text(label),
            TableColumn::number("CALLS"),
            TableColumn::number("FAILED"),
            TableColumn::number("P95"),
            TableColumn::number("TOKENS"),
            TableColumn::number("COST"),
        ]);
        for point in points {
            let is_tool = key == "tool";
            table.push([
                Cell::from(text(point, key)),
                short(number(point, "calls")).into(),
                short(number(point, "failed_calls")).into(),
                duration(number(&point["call_duration_ms"], "p95")).into(),
                if is_tool { String::new() } else { short(number(&point["tokens"], "total")) }.into(),
                if is_tool { String::new() } else { dollars(number(point, "cost_usd")) }.into(),
            ]);
        }
        out.push_str(&format!("\n{}\n", table.render(look)));
    }
    if !list(runs, "runs").is_empty() {
        out.push_str(&format!("\n{}", self::table(runs, now, look)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(name: &str, kind: &str, (from, ms): (u32, u32), children: Vec<Value>) -> Value {
        let started = format!("2026-11-21T12:00:00.{from:03}Z");
        json!({"name": name, "kind": kind, "started_at": started, "duration_ms": ms, "status": "ok",
            "tool": if kind == "tool" { "Bash" } else { "" }, "model": if kind == "llm" { "gpt-5" } else { "" },
            "cost_usd": if kind == "llm" { json!(0.000_02) } else { Value::Null }, "children": children})
    }

    fn shown(tree: Vec<Value>, show_all: bool) -> String {
        let now = Time::parse("2026-11-21T12:01:00Z").expect("a time");
        let run = json!({"project": "shop", "agent_name": "clerk", "name": "task", "status": "ok", "duration_ms": 900,
            "started_at": "2026-11-21T12:00:00Z", "run_id": "ab", "tree": tree});
        let shown = waterfall(&run, show_all, now, OutputStyle { width: Some(100), colours: false });
        shown.split_once("\n\n").expect("a table").1.to_owned()
    }

    #[test]
    fn spans_that_only_hold_another_one_have_no_row() {
        let call = |from| span("chat gpt-5", "llm", (from, 190), Vec::new());
        let attempt =
            |from| span("attempt", "other", (from, 195), vec![span("stream", "other", (from, 192), vec![call(from)])]);
        let slow = span("attempt", "other", (500, 390), vec![call(520)]);
        let sampling =
            span("sampling", "other", (1, 890), vec![slow, attempt(100), span("cache", "other", (2, 9), Vec::new())]);
        let turn = span("turn", "agent", (0, 900), vec![span("run", "other", (0, 899), vec![sampling])]);
        let start = span("turn/start", "other", (0, 11), vec![turn]);
        insta::assert_snapshot!(shown(vec![start.clone()], false), @"
        SPAN              TIMELINE                    TIME      COST
        turn              █████████████████████████  900ms
        └ sampling        █████████████████████████  890ms
          ├ chat gpt-5    ··███████················  190ms  <$0.0001
          └ attempt       ·············████████████  390ms
            └ chat gpt-5  ··············██████·····  190ms  <$0.0001

        5 spans of neither calls nor tools are not shown; see --all
        ");
        assert_eq!(shown(vec![start], true).lines().filter(|line| line.contains("█")).count(), 10);
    }

    #[test]
    fn steps_of_a_flow_keep_their_names_and_names_are_not_repeated() {
        let call = span("ChatOpenAI gpt-5", "llm", (210, 180), Vec::new());
        let step = span("Language Model", "other", (200, 200), vec![span("Chain", "other", (201, 198), vec![call])]);
        let tool = span("Bash", "tool", (0, 0), Vec::new());
        insta::assert_snapshot!(shown(vec![span("flow", "agent", (0, 400), vec![step, tool])], false), @"
        SPAN                  TIMELINE                    TIME      COST
        flow                  █████████████████████████  400ms
        ├ Bash                █························  0.0ms
        └ Language Model      ············█████████████  200ms
          └ ChatOpenAI gpt-5  ·············████████████  180ms  <$0.0001

        1 span of neither calls nor tools is not shown; see --all
        ");
    }
}
