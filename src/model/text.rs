//! What may be kept of text that an agent wrote.
//!
//! An agent's name or reason ends up on terminals, in mail headers and in chat. Control characters, ANSI escapes and
//! bidirectional overrides are removed when it arrives, and keys of APIs masked; each medium escapes the rest for itself.

use std::borrow::Cow;

use super::keys;

/// `text` without keys of APIs and without control and bidirectional characters, cut to `limit` bytes on a character's
/// boundary.
pub fn clean(text: &str, limit: usize) -> Cow<'_, str> {
    // Before it is cut: the beginning of a key is one still.
    match keys::mask(text) {
        Cow::Borrowed(text) => visible(text, limit),
        Cow::Owned(masked) => Cow::Owned(visible(&masked, limit).into_owned()),
    }
}

fn visible(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len().min(limit));
    for letter in text.chars().filter(|letter| is_visible(*letter)) {
        if kept.len() + letter.len_utf8() > limit {
            break;
        }
        kept.push(letter);
    }
    Cow::Owned(kept)
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
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m", 99), "[31mred[0m");
        assert_eq!(clean("a\u{202e}b\nc", 99), "abc");
        assert_eq!(clean("grüße 🤖", 99), "grüße 🤖");
        assert_eq!(clean("grüße", 3), "gr");
        assert!(is_name("agent \"7\" {🤖}", 256));
        let key = format!("sk-proj-{}", "a1b2c3d4".repeat(4));
        assert_eq!(clean(&format!("failed with {key}"), 30), "failed with ***");
        assert!(!is_name(&key, 256));
        assert!(!is_name("", 256) && !is_name("a\u{7}", 256) && !is_name("aaaa", 3));
    }
}
