//! Sanitizes text from agents, which is shown on terminals, in mail headers and in chats.
//!
//! Control characters, ANSI escapes, and bidirectional and invisible characters are removed on ingestion, line breaks become
//! spaces, and keys and passwords are masked. Each output escapes the rest for itself.

pub mod glob;
pub mod home;
pub mod keys;
pub mod names;
pub mod nearest;
pub mod number;
pub mod series_names;

use std::borrow::Cow;
use unicode_width::UnicodeWidthChar as _;

/// The start of an ANSI control sequence, and its one-character form.
const ESCAPE: char = '\u{1b}';
const CSI: char = '\u{9b}';
/// The joiner of emoji, the emoji variation selector, and the flag that may be followed by tags.
const JOINER: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';
const FLAG: char = '\u{1f3f4}';
const END_OF_TAGS: char = '\u{e007f}';
/// Maximum number of tags of a region's flag (`gbeng`, `usca`).
const MAX_TAGS: usize = 6;

/// `text` on one line, with keys and passwords masked, without ANSI, control, bidirectional and invisible characters, and
/// truncated to `limit` bytes at a character boundary.
pub fn clean(text: &str, limit: usize) -> Cow<'_, str> {
    // Masked before truncating, since the start of a key is secret too.
    if is_printable(text) || text.chars().all(is_visible) {
        return match keys::mask(text) {
            Cow::Borrowed(text) => Cow::Borrowed(cut(text, limit)),
            Cow::Owned(masked) => Cow::Owned(cut(&masked, limit).to_owned()),
        };
    }
    let (stripped, breaks) = strip(text);
    let masked = keys::mask_across(&stripped, &breaks);
    // Again as one line: a secret may be on the line after its name.
    Cow::Owned(cut(&keys::mask(&one_line(&masked)), limit).to_owned())
}

/// [`clean`] that keeps line breaks and tabs, for multi-line output on a terminal.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    let is_kept = |letter: char| is_visible(letter) || matches!(letter, '\n' | '\t');
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(strip(text).0)
}

/// Whether it consists of printable ASCII only.
fn is_printable(text: &str) -> bool {
    // Without a way out of the loop, which lets it take many bytes at a time.
    text.bytes().fold(true, |all, byte| all & (0x20..0x7f).contains(&byte))
}

/// `text` without invisible characters except spaces, tabs and `\n`, and the positions where something was removed, since a
/// key may start there or span it.
fn strip(text: &str) -> (String, Vec<usize>) {
    let mut kept = String::with_capacity(text.len());
    let mut breaks = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let rest = letters.as_str();
        match letter {
            '\r' if rest.starts_with('\n') => continue,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => kept.push('\n'),
            '\t' => kept.push('\t'),
            ESCAPE => letters = after_escape(rest).chars(),
            CSI => letters = after_parameters(rest).unwrap_or(rest).chars(),
            JOINER | EMOJI_STYLE if is_of_emoji(letter, kept.chars().next_back(), rest.chars().next()) => {
                kept.push(letter);
            }
            FLAG => {
                kept.push(letter);
                let tags = flag_tags(rest);
                kept.push_str(tags);
                letters = rest.get(tags.len()..).unwrap_or_default().chars();
            }
            letter if is_visible(letter) => kept.push(letter),
            _ => {}
        }
        if !kept.ends_with(letter) && breaks.last() != Some(&kept.len()) {
            breaks.push(kept.len());
        }
    }
    (kept, breaks)
}

/// The rest of `text` after the ECMA-48 sequence that an escape character before it starts; all of it when there is none.
fn after_escape(text: &str) -> &str {
    match text.chars().next() {
        Some('[') => text.get(1..).and_then(after_parameters).unwrap_or(text),
        // A title, a link and the like: up to BEL or ESC `\`. Without an end it is not a sequence.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let end = text.find(['\u{7}', ESCAPE, '\u{9c}']).and_then(|end| text.get(end..));
            let after =
                end.and_then(|end| end.strip_prefix(['\u{7}', '\u{9c}']).or_else(|| end.strip_prefix("\u{1b}\\")));
            after.unwrap_or(text)
        }
        _ => text,
    }
}

/// The rest after the parameters and the final letter of a control sequence; `None` when it is incomplete.
fn after_parameters(text: &str) -> Option<&str> {
    let end = text.trim_start_matches(|letter| (' '..='?').contains(&letter));
    end.strip_prefix(|letter| ('@'..='~').contains(&letter))
}

/// Whether `letter`, a joiner or a variation selector, is part of an emoji.
fn is_of_emoji(letter: char, before: Option<char>, after: Option<char>) -> bool {
    match letter {
        JOINER => before.is_some_and(|it| it == EMOJI_STYLE || is_pictograph(it)) && after.is_some_and(is_pictograph),
        _ => {
            let is_keycap = || matches!(before, Some('0'..='9' | '#' | '*')) && after == Some('\u{20e3}');
            before.is_some_and(is_pictograph) || is_keycap()
        }
    }
}

/// The tags at the start of `text` that turn a black flag into a region's flag; empty when they are not valid.
fn flag_tags(text: &str) -> &str {
    let is_tag = |letter: &char| matches!(letter, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    let count = text.chars().take(MAX_TAGS + 1).take_while(is_tag).count();
    if (3..=MAX_TAGS).contains(&count) && text.chars().nth(count) == Some(END_OF_TAGS) {
        text.get(..(count + 1) * END_OF_TAGS.len_utf8()).unwrap_or_default()
    } else {
        ""
    }
}

/// Whether it is roughly an emoji; no letter is.
const fn is_pictograph(letter: char) -> bool {
    matches!(letter,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}' | '\u{24c2}' | '\u{25a0}'..='\u{27bf}' | '\u{2900}'..='\u{297f}'
        | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
}

/// `text` with line breaks and tabs replaced by spaces, without leading, trailing and repeated spaces.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.split(['\n', '\t']).filter(|part| !part.is_empty()) {
        if !line.is_empty() && !line.ends_with(' ') && !part.starts_with(' ') {
            line.push(' ');
        }
        line.push_str(part);
    }
    line
}

/// `text` truncated to `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// `text` with the special characters of HTML and XML escaped.
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

/// Whether `text` is a valid name, see [`name_error`].
pub fn is_name(text: &str, limit: usize) -> bool {
    if is_printable(text) {
        return !text.is_empty()
            && text.len() <= limit
            && !text.starts_with(' ')
            && !text.ends_with(' ')
            && matches!(keys::mask(text), Cow::Borrowed(_));
    }
    name_error(text, limit).is_none()
}

/// Why `text` is not a valid name. A name has visible characters only, at most `limit` bytes; otherwise two names could look
/// alike.
pub fn name_error(text: &str, limit: usize) -> Option<String> {
    if text.is_empty() || text.len() > limit {
        return Some(format!("it must be 1 to {limit} bytes of text"));
    }
    let mut before = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let joins = letter == JOINER && is_of_emoji(letter, before, letters.as_str().chars().next());
        if letter.is_control() {
            return Some(format!("it must be text without control characters such as U+{:04X}", u32::from(letter)));
        }
        if !joins && (!is_visible(letter) || is_blank(letter) && letter != ' ') {
            return Some(format!("it must be text that can be seen; leave out U+{:04X}", u32::from(letter)));
        }
        before = Some(letter);
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Some("it must be text that can be seen, without spaces at its beginning and end".to_owned());
    }
    // A leading combining mark would be drawn onto the text before the name.
    if text.chars().next().is_some_and(|letter| letter.width() == Some(0)) {
        return Some("it must begin with a character of its own, not with a combining mark".to_owned());
    }
    let is_key = matches!(keys::mask(text), Cow::Owned(_));
    is_key.then(|| "it must not hold a key or password".to_owned())
}

/// Whether it looks like a space.
const fn is_blank(letter: char) -> bool {
    matches!(
        letter,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{2800}' | '\u{3000}'
    )
}

/// Whether it is visible or a space: not a control, bidirectional or default-ignorable character or a line separator.
fn is_visible(letter: char) -> bool {
    !letter.is_control()
        && (letter < '\u{ad}'
            || !matches!(letter,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_are_removed() {
        for (text, kept) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{9b}31mred\u{9b}0m", "red"),
            // An incomplete sequence loses only its escape character.
            ("\u{1b}[1;31m\u{1b}[Kred\u{1b}]\u{1b}[", "red]["),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x.example\u{1b}\\link\u{1b}]8;;\u{1b}\\", "alink"),
            ("a\u{202e}b\u{61c}c", "abc"),
            ("grüße 🤖", "grüße 🤖"),
            ("soft\u{ad}hyphen \u{200b}\u{2060}\u{feff}\u{3164}", "softhyphen "),
            ("a\u{e0041}\u{e0042}", "a"),
            ("nul\0 bell\u{7}", "nul bell"),
        ] {
            assert_eq!(clean(text, 99), kept, "{text:?}");
        }
        assert_eq!(clean("grüße", 3), "gr");
    }

    #[test]
    fn line_breaks_become_spaces() {
        for (text, line) in [
            ("a\nb", "a b"),
            ("a\r\nb\rc\u{2028}d\u{85}e\u{b}f\tg", "a b c d e f g"),
            ("\n\na \n\n b\n", "a  b"),
            ("exit 1:\n  no such file\n", "exit 1:  no such file"),
        ] {
            assert_eq!(clean(text, 99), line, "{text:?}");
        }
        assert_eq!(clean_lines("a\n\tb\u{1b}[31m\r\nc\u{202e}"), "a\n\tb\nc");
    }

    #[test]
    fn emoji_keep_their_joiners() {
        for emoji in ["👩\u{200d}💻", "🏳\u{fe0f}\u{200d}🌈", "1\u{fe0f}\u{20e3}", "☁\u{fe0f} up", "👍🏽"]
        {
            assert_eq!(clean(emoji, 99), emoji);
        }
        let england = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}!";
        assert_eq!(clean(england, 99), england);
        let hidden: String = "🏴"
            .chars()
            .chain("ignore".bytes().map(|it| char::from_u32(0xe0000 + u32::from(it)).expect("a tag")))
            .collect();
        assert_eq!(clean(&hidden, 99), "🏴");
        assert_eq!(clean("a\u{200d}b\u{fe0f}", 99), "ab");
    }

    #[test]
    fn what_follows_a_masked_line_stays_as_it_is_when_cleaned_again() {
        for (text, expected) in [
            ("cookie=a=b\nthen agent_name=c", "cookie=*** then agent_name=c"),
            ("--pass \"two words\non\" next", "--pass \"*** on\" next"),
            ("db:\n  password:\n    hunter2", "db:  password:    ***"),
        ] {
            let once = clean(text, 99).into_owned();
            assert_eq!(once, expected);
            assert_eq!(clean(&once, 99), once);
        }
    }

    #[test]
    fn keys_are_masked_even_with_invisible_characters_in_them() {
        let key = format!("sk-proj-{}", "a1b2c3d4".repeat(4));
        assert_eq!(clean(&format!("failed with {key}"), 30), "failed with ***");
        for hidden in [
            format!("\u{1b}[31m{key}\u{1b}[0m"),
            format!("\n{key}\n"),
            "\r-----BEGIN RSA PRIVATE KEY-----\nMIIE".to_owned(),
            key.replace("a1", "a\u{200e}1"),
            key.replace("a1", "a\u{1b}[1m1"),
        ] {
            assert_eq!(clean(&format!("with {hidden}"), 99), "with ***", "{hidden:?}");
        }
        for invisible in ["\u{200b}", "\u{2060}", "\u{ad}", "\u{1b}[1m", "\0", "\u{e0041}"] {
            for text in [
                format!("word{invisible}{key}"),
                format!("word{invisible}{}", key.replace("b2", &format!("b{invisible}2"))),
            ] {
                assert_eq!(clean(&text, 99), "word***", "{text:?}");
            }
        }
        assert_eq!(clean("password:\u{200b} hunter2\nnext", 99), "password: *** next");
    }

    #[test]
    fn names_are_visible_and_unambiguous() {
        for name in ["agent \"7\" {🤖}", "grüße", "女将", "👩\u{200d}💻 coder", "a", "Ångström", "ไทย"]
        {
            assert_eq!(name_error(name, 256), None, "{name:?}");
            assert!(is_name(name, 256));
        }
        for name in [
            "",
            " ",
            "\u{200b}",
            "\u{2060}",
            "\u{ad}",
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{2800}",
            "\u{a0}\u{3000}",
            "\u{301}\u{302}",
            "\u{fe0f}",
            "worker-1\u{200b}",
            "worker-1 ",
            " worker-1",
            "worker\u{a0}1",
            "\u{61c}worker-1",
            "worker\u{200d}-1",
            "worker-1\u{e0041}\u{e0042}",
            "worker-1\u{fe00}",
            "🤖\u{fe0f}",
            "wor\u{34f}ker",
            "line\nend",
            "a\u{7}",
        ] {
            let error = name_error(name, 256).unwrap_or_else(|| panic!("{name:?} is taken"));
            assert!(error.starts_with("it must be"), "{error}");
            assert!(!is_name(name, 256), "{name:?}");
        }
        assert!(!is_name("aaaa", 3) && !is_name(&format!("sk-proj-{}", "a1b2c3d4".repeat(4)), 256));
        assert!(name_error("a\u{200b}", 256).expect("refused").contains("U+200B"));
    }
}
