//! Words in any case, with or without `_`, `-` and spaces; and suggestions for unknown ones.

use crate::model::AgentStatus;
use crate::text::nearest::{nearest, renamed};

/// Maximum length of a word in bytes; no known word is as long.
const MAX_WORD: usize = 48;

/// The buffer that [`folded`] writes to.
pub type Fold = [u8; MAX_WORD];

/// `word` in lower case without `_`, `-` and spaces, so that `waitingReview`, `waiting-review` and
/// `WAITING_REVIEW` are one; `None` when it is longer than any word that is known.
pub fn folded<'b>(word: &str, buffer: &'b mut Fold) -> Option<&'b str> {
    let mut length = 0;
    for byte in word.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b' ')) {
        *buffer.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    // Only whole ASCII characters were removed or changed, so the rest is valid UTF-8.
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// The status named `word` in any spelling.
pub fn status(word: &str) -> Option<AgentStatus> {
    AgentStatus::parse(word).or_else(|| {
        let (mut given, mut known) = ([0; MAX_WORD], [0; MAX_WORD]);
        let given = folded(word, &mut given)?;
        AgentStatus::ALL.into_iter().find(|status| folded(status.as_str(), &mut known) == Some(given))
    })
}

/// The names of all statuses, for error messages.
pub const STATUSES: [&str; 9] = {
    let mut words = [""; 9];
    let mut index = 0;
    while index < words.len() {
        words[index] = AgentStatus::ALL[index].as_str();
        index += 1;
    }
    words
};

/// A suggestion for the unknown `word`: the nearest of `known`, or all of them when none is near.
pub fn instead(word: &str, known: &[&str]) -> String {
    if let Some(name) = renamed(word, known) {
        return format!("it was renamed to `{name}`");
    }
    match nearest(word, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("use one of {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_recognized_in_any_spelling() {
        for word in ["waiting_review", "waitingReview", "WAITING-REVIEW", "Waiting Review"] {
            assert_eq!(status(word), Some(AgentStatus::WaitingReview), "{word}");
        }
        for word in ["", "runing", "🤖", &"running".repeat(99)] {
            assert_eq!(status(word), None, "{word}");
        }
    }

    #[test]
    fn the_nearest_word_is_suggested() {
        assert_eq!(instead("Runing", &STATUSES), "did you mean `running`?");
        assert!(instead("hibernating", &STATUSES).starts_with("use one of idle, starting, running"));
        assert!(instead(&"x".repeat(9_999), &STATUSES).starts_with("use one of"));
    }
}
