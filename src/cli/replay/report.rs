//! The comparison as text and as JSON.

use serde_json::{Value, json};

use super::ReplaySummary;
use super::compare::{ComparedNotice, counts};
use crate::cli::answer::count;
use crate::cli::table::{Cell, Table, TableColumn};
use crate::cli::terminal::{Colour, OutputStyle};
use crate::model::{Notice, duration};

/// Most rows of the table; counts include all.
const MAX_ROWS: usize = 10_000;

/// `shop/worker-1`: the project and the agent, component or source.
fn subject(notice: &Notice) -> String {
    match notice.subject.project() {
        Some(project) if notice.subject.label() != "project" => format!("{project}/{}", notice.subject.name()),
        _ => notice.subject.name().to_string(),
    }
}

fn kind(notice: &Notice) -> String {
    serde_json::to_value(notice.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Tables: the differences (with `all`, everything), then counts by rule and receiver.
pub(super) fn text(played: &ReplaySummary, rows: &[ComparedNotice], all: bool, style: OutputStyle) -> String {
    let mut out = format!(
        "{} recorded, from {} to {}: {}, {} of the sidecar\n",
        duration::display(played.until.since(played.from)),
        played.from,
        played.until,
        count(usize::try_from(played.arrivals).unwrap_or(usize::MAX), "input"),
        count(usize::try_from(played.starts).unwrap_or(usize::MAX), "start"),
    );
    let shown: Vec<&ComparedNotice> =
        rows.iter().filter(|row| all || !matches!(row, ComparedNotice::Both { .. })).collect();
    if !shown.is_empty() {
        let mut table = Table::new([
            TableColumn::word("WHEN"),
            TableColumn::word("NOTIFIED"),
            TableColumn::text("RECEIVER"),
            TableColumn::word("KIND"),
            TableColumn::word("LEVEL"),
            TableColumn::text("RULE"),
            TableColumn::text("SUBJECT"),
            TableColumn::text("MESSAGE").optional(),
        ]);
        for row in shown.iter().take(MAX_ROWS) {
            let notice = row.notice();
            let colour = match row {
                ComparedNotice::Both { .. } => Colour::Dim,
                ComparedNotice::New(_) => Colour::Good,
                ComparedNotice::Before(_) => Colour::Bad,
            };
            table.push([
                notice.at.to_string().into(),
                Cell::new(row.word(), Some(colour)),
                (&*notice.receiver).into(),
                kind(notice).into(),
                Cell::new(notice.level.as_str(), Colour::of_severity(notice.level.as_str())),
                (&*notice.rule).into(),
                subject(notice).into(),
                (&*notice.message).into(),
            ]);
        }
        out.push_str(&format!("\n{}", table.render(style)));
        if shown.len() > MAX_ROWS {
            out.push_str(&format!("… and {} more; --json prints all\n", count(shown.len() - MAX_ROWS, "row")));
        }
    }
    let counts = counts(rows);
    if counts.is_empty() {
        out.push_str("\nno notifications, neither before nor with the new rules\n");
        return out;
    }
    let mut table = Table::new([
        TableColumn::text("RULE"),
        TableColumn::text("RECEIVER"),
        TableColumn::number("BOTH"),
        TableColumn::number("ONLY NEW"),
        TableColumn::number("ONLY BEFORE"),
    ]);
    for ((rule, receiver), of_pair) in &counts {
        let [both, new, before] = of_pair.map(|count| count.to_string());
        table.push([(&**rule).into(), (&**receiver).into(), both.into(), new.into(), before.into()]);
    }
    let total =
        counts.values().fold([0; 3], |sum, of_pair| [sum[0] + of_pair[0], sum[1] + of_pair[1], sum[2] + of_pair[2]]);
    let [both, new, before] = total;
    out.push_str(&format!(
        "\n{}\n{both} notifications in both, {new} only with the new rules, {before} only before\n",
        table.render(style)
    ));
    out
}

/// All notices and counts as JSON.
pub(super) fn json(played: &ReplaySummary, rows: &[ComparedNotice]) -> Value {
    let notices = rows.iter().map(|row| {
        let notice = row.notice();
        let named = |label: &str| (notice.subject.label() == label).then(|| notice.subject.name().to_string());
        let at_before = match row {
            ComparedNotice::Both { before, .. } | ComparedNotice::Before(before) => Some(before.at.to_string()),
            ComparedNotice::New(_) => None,
        };
        json!({
            "notified": match row { ComparedNotice::Both { .. } => "both", ComparedNotice::New(_) => "new", ComparedNotice::Before(_) => "before" },
            "receiver": &*notice.receiver,
            "rule": &*notice.rule,
            "kind": notice.kind,
            "level": notice.level,
            "project": notice.subject.project().map(ToString::to_string),
            "agent_name": named("agent_name"),
            "component": named("component"),
            "source": named("source"),
            "value": notice.value,
            "message": &*notice.message,
            "at": if matches!(row, ComparedNotice::Before(_)) { None } else { Some(notice.at.to_string()) },
            "at_before": at_before,
        })
    });
    let counts = counts(rows).into_iter().map(|((rule, receiver), [both, new, before])| {
        json!({"rule": &*rule, "receiver": &*receiver, "both": both, "new": new, "before": before})
    });
    json!({
        "from": played.from.to_string(),
        "until": played.until.to_string(),
        "arrivals": played.arrivals,
        "starts": played.starts,
        "dropped": played.dropped,
        "unreadable": played.unreadable,
        "unknown_sources": played.unknown_sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "notices": notices.collect::<Vec<_>>(),
        "counts": counts.collect::<Vec<_>>(),
    })
}
