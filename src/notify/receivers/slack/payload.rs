//! A message as Slack wants it: blocks inside one coloured attachment, with a plain-text fallback.
//!
//! Everything an agent can write is escaped, and cut within each field's limit and within Slack's total.

use serde_json::{Value, json};

use crate::model::Notice;
use crate::notify::message::{self, Body, Details, Message, Summary};

/// Largest payload sent, in bytes: beyond about 13,000 characters Slack answers `msg_blocks_too_long`.
pub(super) const TOTAL: usize = 13_000;
/// Longest text of a header block, in characters.
pub(super) const HEADER: usize = 150;
/// Longest text of a section block, in characters.
pub(super) const SECTION: usize = 3_000;
/// Longest footer, in characters; ours.
const FOOTER: usize = 2_000;
/// Most blocks of a message.
pub(super) const BLOCKS: usize = 50;
/// Longest fallback, in characters; ours, as it is for a phone's notification.
const FALLBACK: usize = 400;

/// Room for the title, in bytes of JSON: the fields' limits are characters, the total's is shared out in bytes.
const TITLE_ROOM: usize = 900;
/// Room for the fallback.
const FALLBACK_ROOM: usize = 1_200;
/// Room for a summary's overview.
const OVERVIEW_ROOM: usize = 1_200;
/// Room for a summary's actions.
const ACTIONS_ROOM: usize = 900;
/// Room for a summary's lines, with the blocks that hold them.
const LINES_ROOM: usize = 8_000;
/// Room for the line of one incident: a rule's name, six numbers and five names.
const INCIDENT_ROOM: usize = 800;
/// Room for the sentence of one alert; its action has as much.
const SENTENCE_ROOM: usize = 3_500;
/// Room for the footer of one alert.
const FOOTER_ROOM: usize = 2_000;
/// Room for an empty block, or for the frame of the whole.
const FRAME_ROOM: usize = 100;

const _: () = {
    let head = TITLE_ROOM + FALLBACK_ROOM + 3 * FRAME_ROOM;
    assert!(head + 2 * SENTENCE_ROOM + FOOTER_ROOM + 3 * FRAME_ROOM <= TOTAL);
    assert!(head + OVERVIEW_ROOM + LINES_ROOM + ACTIONS_ROOM + 5 * FRAME_ROOM <= TOTAL);
    // A section is closed when the next line does not fit, so two of them hold more than one's limit.
    assert!(2 * LINES_ROOM.div_ceil(SECTION) + 5 <= BLOCKS);
};

/// The body of the request with `message`.
pub(super) fn render(message: &Message<'_>) -> String {
    content(message).to_string()
}

/// The same, to be added to.
pub(super) fn content(message: &Message<'_>) -> Value {
    let title = fit(&message.title, HEADER, TITLE_ROOM);
    let is_cut = title.ends_with('…');
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": title, "emoji": false}})];
    let fallback = match &message.body {
        Body::One(details) => {
            one(details, details.text_below(&message.title, is_cut), &mut blocks);
            message::with_action(&message.title, details.action.as_deref())
        }
        Body::Many(summary) => {
            many(summary, &mut blocks);
            format!("{} ({})", message.title, summary.overview)
        }
    };
    json!({"attachments": [{
        "color": message.tone.colour(),
        "fallback": fit(&fallback, FALLBACK, FALLBACK_ROOM),
        "blocks": blocks,
    }]})
}

fn one(details: &Details, text: Option<&str>, blocks: &mut Vec<Value>) {
    let action = details.action.as_deref();
    for text in text.into_iter().chain(action) {
        blocks.push(section(fit(text, SECTION, SENTENCE_ROOM)));
    }
    let footer = details.footer();
    if !footer.is_empty() {
        blocks.push(context(fit(&footer, FOOTER, FOOTER_ROOM)));
    }
}

/// As many lines as there is room for, in as few sections as hold them.
fn many(summary: &Summary<'_>, blocks: &mut Vec<Value>) {
    blocks.push(section(fit(&summary.overview, SECTION, OVERVIEW_ROOM)));
    let (mut room, mut shown) = (LINES_ROOM, 0);
    let mut text = String::new();
    for entry in &summary.entries {
        let line = fit(&entry.line(), SECTION, SECTION);
        let cost = json_bytes(&line) + 2;
        if cost > room {
            break;
        }
        if characters(&text) + 1 + characters(&line) > SECTION {
            blocks.push(section(std::mem::take(&mut text)));
            room = room.saturating_sub(FRAME_ROOM);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
        room = room.saturating_sub(cost);
        shown += 1;
    }
    if !text.is_empty() {
        blocks.push(section(text));
    }
    let left: usize = summary.entries.iter().skip(shown).map(|entry| entry.notices().len()).sum();
    if left > 0 {
        blocks.push(context(message::left_out(left)));
    }
    if !summary.actions.is_empty() {
        blocks.push(section(fit(&summary.actions.join("\n"), SECTION, ACTIONS_ROOM)));
    }
}

/// How many of `notices`, from the first on, one message has lines for; all when it is one message's worth.
pub(super) fn fitting(notices: &[&Notice]) -> usize {
    let room = LINES_ROOM.saturating_sub(LINES_ROOM.div_ceil(SECTION) * FRAME_ROOM);
    message::fitting(notices, room, INCIDENT_ROOM, |line| json_bytes(&fit(line, SECTION, SECTION)) + 2)
}

/// A line of small plain text.
fn context(text: String) -> Value {
    json!({"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": false}]})
}

/// A section of plain text: what an agent wrote formats nothing and mentions no one.
fn section(text: String) -> Value {
    json!({"type": "section", "text": {"type": "plain_text", "text": text, "emoji": false}})
}

/// `text` escaped, within `limit` characters and `bytes` bytes of JSON, cut at a character's boundary with `…`.
pub(super) fn fit(text: &str, limit: usize, bytes: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(bytes));
    let (mut used, mut cost) = (0, 0);
    // Where the text is cut if it turns out to be too long: the last point that leaves room for the ellipsis.
    let mut cut = 0;
    for letter in text.chars() {
        let start = kept.len();
        match letter {
            '&' => kept.push_str("&amp;"),
            '<' => kept.push_str("&lt;"),
            '>' => kept.push_str("&gt;"),
            letter => kept.push(letter),
        }
        let written = kept.len() - start;
        used += if written > letter.len_utf8() { written } else { letter.len_utf16() };
        cost += if written > letter.len_utf8() { written } else { json_cost(letter) };
        if used > limit || cost > bytes {
            kept.truncate(cut);
            kept.push('…');
            return kept;
        }
        if used < limit && cost + '…'.len_utf8() <= bytes {
            cut = kept.len();
        }
    }
    kept
}

/// How many characters Slack counts, at most: UTF-16 units.
fn characters(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

fn json_bytes(text: &str) -> usize {
    text.chars().map(json_cost).sum()
}

/// How many bytes `letter` takes in a JSON string.
const fn json_cost(letter: char) -> usize {
    match letter {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        letter => letter.len_utf8(),
    }
}

#[cfg(test)]
mod tests;
