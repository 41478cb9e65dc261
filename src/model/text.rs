//! What may be kept of text that an agent wrote.
//!
//! An agent's name or reason ends up on terminals, in mail headers and in chat. Control characters, ANSI escapes and
//! bidirectional overrides are removed when it arrives, and keys of APIs masked; each medium escapes the rest for itself.

use std::borrow::Cow;

use super::keys;

/// What a colour or a movement of the cursor begins with.
const ESCAPE: char = '\u{1b}';

/// `text` without keys of APIs, colours and control and bidirectional characters, cut to `limit` bytes on a character's
/// boundary.
pub fn clean(text: &str, limit: usize) -> Cow<'_, str> {
    // Before it is cut: the beginning of a key is one still.
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || text.chars().all(is_visible) {
        return match keys::mask(text) {
            Cow::Borrowed(text) => Cow::Borrowed(cut(text, limit)),
            Cow::Owned(masked) => Cow::Owned(cut(&masked, limit).to_owned()),
        };
    }
    // What is not seen may stand between two words, one of them a key, or within a key.
    let masked = keys::mask(&plain(text)).chars().filter(|letter| is_visible(*letter)).collect::<String>();
    Cow::Owned(cut(&keys::mask(&masked), limit).to_owned())
}

/// `text` with nothing left of colours and cursor movements but the escape character that they begin with.
fn plain(text: &str) -> Cow<'_, str> {
    let Some((before, mut rest)) = text.split_once(ESCAPE) else { return Cow::Borrowed(text) };
    let mut kept = String::with_capacity(text.len());
    kept.push_str(before);
    loop {
        kept.push(ESCAPE);
        // ECMA-48: parameters, then one letter.
        if let Some(sequence) = rest.strip_prefix('[') {
            let end = sequence.trim_start_matches(|letter| (' '..='?').contains(&letter));
            rest = end.strip_prefix(|letter| ('@'..='~').contains(&letter)).unwrap_or(rest);
        }
        match rest.split_once(ESCAPE) {
            Some((before, after)) => {
                kept.push_str(before);
                rest = after;
            }
            None => {
                kept.push_str(rest);
                return Cow::Owned(kept);
            }
        }
    }
}

/// The beginning of `text`, of `limit` bytes at most.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// `text` with the characters escaped that mean something in HTML and XML.
pub fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Whether a name may be used as it is: not empty, within `limit` bytes, nothing in it that [`clean`] would remove.
pub fn is_name(text: &str, limit: usize) -> bool {
    !text.is_empty()
        && text.len() <= limit
        && text.chars().all(is_visible)
        && matches!(keys::mask(text), Cow::Borrowed(_))
}

fn is_visible(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_go_and_letters_stay() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m", 99), "red");
        assert_eq!(clean("\u{1b}[1;31m\u{1b}[Kred\u{1b}]\u{1b}[", 99), "red][", "what is no colour loses its escape");
        assert_eq!(clean("a\u{202e}b\nc", 99), "abc");
        assert_eq!(clean("grüße 🤖", 99), "grüße 🤖");
        assert_eq!(clean("grüße", 3), "gr");
        assert!(is_name("agent \"7\" {🤖}", 256));
        let key = format!("sk-proj-{}", "a1b2c3d4".repeat(4));
        assert_eq!(clean(&format!("failed with {key}"), 30), "failed with ***");
        assert!(!is_name(&key, 256));
        for hidden in [
            format!("\u{1b}[31m{key}\u{1b}[0m"),
            format!("\n{key}\n"),
            "\r-----BEGIN RSA PRIVATE KEY-----\nMIIE".to_owned(),
            key.replace("a1", "a\u{200e}1"),
            key.replace("a1", "a\u{1b}[1m1"),
        ] {
            assert_eq!(clean(&format!("with {hidden}"), 99), "with ***", "{hidden:?}");
        }
        assert!(!is_name("", 256) && !is_name("a\u{7}", 256) && !is_name("aaaa", 3));
    }
}
