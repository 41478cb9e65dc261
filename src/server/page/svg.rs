//! Bands, bars, meters and waterfalls as SVG. Colours come from classes, so that both themes share one drawing; there are no
//! inline styles, which the content security policy forbids.

use std::fmt::Write as _;

use super::shown::Shown;
use super::words::{escape, took};
use crate::model::Time;
use crate::store::HistoryEntry;

/// Cells of a band: quarters of an hour of a day.
const CELLS: usize = 96;
const CELL_MS: i64 = 900_000;
/// Most spans of a waterfall.
pub(super) const MAX_SPANS: usize = 1_000;
/// Height of a span's line.
const LINE: usize = 24;

/// The state in each quarter of the last 24 hours, oldest first: the most urgent one of the quarter. `changes` may be in any
/// order; `current` is the state now and since when.
pub(super) fn day(
    now: Time,
    changes: &[HistoryEntry],
    current: (Shown, Time),
    first_seen: Time,
) -> [Option<Shown>; CELLS] {
    let mut points: Vec<(Time, Option<Shown>)> = changes
        .iter()
        .filter(|change| change.kind == "agent")
        .map(|change| (change.at, Shown::of_word(&change.to)))
        .collect();
    points.sort_by_key(|(at, _)| *at);
    if let Some(oldest) = changes.iter().filter(|change| change.kind == "agent").min_by_key(|change| change.at) {
        points.insert(0, (first_seen.min(oldest.at), Shown::of_word(&oldest.from)));
    }
    points.push((current.1.max(points.last().map_or(first_seen, |(at, _)| *at)), Some(current.0)));
    let begin = now.as_millis() - CELL_MS * CELLS as i64;
    let mut cells = [None; CELLS];
    for (index, (at, state)) in points.iter().enumerate() {
        let until = points.get(index + 1).map_or(now, |(next, _)| *next).as_millis();
        let Some(state) = state else { continue };
        if until < begin {
            continue;
        }
        let cell = |millis: i64| usize::try_from((millis - begin).max(0) / CELL_MS).unwrap_or(0).min(CELLS - 1);
        for place in cells.iter_mut().take(cell(until) + 1).skip(cell(at.as_millis())) {
            *place = Some(place.map_or(*state, |known: Shown| known.min(*state)));
        }
    }
    cells
}

/// A band of states.
pub(super) fn band(cells: &[Option<Shown>; CELLS], is_large: bool) -> String {
    let class = if is_large { "band large" } else { "band" };
    let mut out = format!(
        r#"<svg class="{class}" viewBox="0 0 96 16" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        describe(cells)
    );
    let mut at = 0;
    while at < CELLS {
        let same = cells.iter().skip(at).take_while(|cell| **cell == cells[at]).count();
        if let Some(state) = cells[at] {
            let height = match state {
                Shown::Working => 10,
                Shown::Idle | Shown::Done => 4,
                _ => 16,
            };
            write!(
                out,
                r#"<rect class="s-{}" x="{at}" y="{}" width="{same}" height="{height}"/>"#,
                state.key(),
                16 - height
            )
            .ok();
        }
        at += same;
    }
    out.push_str("</svg>");
    out
}

/// A band in words, for those who can't see it: how many hours in which state.
fn describe(cells: &[Option<Shown>; CELLS]) -> String {
    let hours = Shown::ALL.iter().filter_map(|state| {
        let quarters = cells.iter().filter(|cell| **cell == Some(*state)).count();
        let hours = crate::text::number::shortest(quarters as f64 / 4.0, 2);
        (quarters > 0).then(|| format!("{} {hours} h", state.word().to_lowercase()))
    });
    let hours: Vec<String> = hours.collect();
    format!("last 24 hours: {}", if hours.is_empty() { "unknown".to_owned() } else { hours.join(", ") })
}

/// Bars of equal width; a title for each.
pub(super) fn bars(values: &[(f64, String)], label: &str) -> String {
    let most = values.iter().map(|(value, _)| *value).fold(0.0, f64::max);
    let count = values.len().max(1);
    let mut out = format!(
        r#"<svg class="chart" viewBox="0 0 {} 84" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        count * 10,
        escape(label)
    );
    for (index, (value, title)) in values.iter().enumerate() {
        let height = if most > 0.0 { (value / most * 80.0).max(if *value > 0.0 { 2.0 } else { 0.0 }) } else { 0.0 };
        write!(
            out,
            r#"<rect class="bar" x="{}" y="{:.1}" width="8" height="{height:.1}"><title>{}</title></rect>"#,
            index * 10 + 1,
            84.0 - height,
            escape(title)
        )
        .ok();
    }
    out.push_str("</svg>");
    out
}

/// How much of something is used, from 0 to 1 and beyond.
pub(super) fn meter(ratio: f64) -> String {
    let class = match ratio {
        1.0.. => "meter full",
        0.9.. => "meter high",
        _ => "meter",
    };
    let percent = (ratio * 100.0).round();
    let width = ratio.clamp(0.0, 1.0) * 100.0;
    format!(
        r#"<svg class="{class}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{percent} %"><rect width="{width:.1}" height="8"/></svg>"#
    )
}

/// A span in a waterfall.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) depth: usize,
    pub(super) name: String,
    /// `agent`, `llm`, `tool`, `wait`, `retrieval` or `other`.
    pub(super) kind: String,
    pub(super) is_bad: bool,
    /// Milliseconds since the run began.
    pub(super) start: f64,
    pub(super) length: f64,
    /// What is shown at its right: tokens, cost, error.
    pub(super) note: String,
}

/// Spans over time.
pub(super) fn waterfall(bars: &[Bar], total: f64) -> String {
    const NAMES: usize = 330;
    const WIDTH: usize = 1_200;
    const NOTES: usize = 190;
    let plot = (WIDTH - NAMES - NOTES) as f64;
    let total = if total > 0.0 { total } else { 1.0 };
    let height = bars.len() * LINE + 22;
    let mut out =
        format!(r#"<svg class="fall" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="spans over time">"#);
    for tick in 0..=4 {
        let x = NAMES as f64 + plot * f64::from(tick) / 4.0;
        let label = took(total * f64::from(tick) / 4.0);
        write!(out, r#"<line class="tick" x1="{x:.1}" x2="{x:.1}" y1="18" y2="{height}"/><text class="sub" x="{:.1}" y="12">{label}</text>"#, x + 3.0).ok();
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = 22 + index * LINE;
        if index % 2 == 1 {
            write!(out, r#"<rect class="stripe" x="0" y="{y}" width="{WIDTH}" height="{LINE}"/>"#).ok();
        }
        let indent = bar.depth.min(12) * 12;
        let room = (NAMES - 8).saturating_sub(indent) / 7;
        let name: String = if bar.name.chars().count() > room {
            bar.name.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        } else {
            bar.name.clone()
        };
        let x = NAMES as f64 + plot * (bar.start / total).clamp(0.0, 1.0);
        let width = (plot * (bar.length / total)).clamp(1.5, (NAMES as f64 + plot - x).max(1.5));
        let class = if bar.is_bad { "bad" } else { &bar.kind };
        let title = format!("{} · {} · {}", bar.name, bar.kind, took(bar.length));
        write!(
            out,
            r#"<g><title>{}</title><text x="{indent}" y="{}">{}</text><rect class="{class}" x="{x:.1}" y="{}" width="{width:.1}" height="12" rx="2"/><text class="sub" x="{}" y="{}">{}</text></g>"#,
            escape(&title),
            y + 16,
            escape(&name),
            y + 6,
            WIDTH - NOTES + 8,
            y + 16,
            escape(&format!("{}{}{}", took(bar.length), if bar.note.is_empty() { "" } else { "  " }, bar.note)),
        )
        .ok();
    }
    out.push_str("</svg>");
    out
}
