//! Words as senders spell them: any case, with or without `_`, `-` and spaces; and what to write in place of an unknown one.

use crate::model::AgentStatus;
use crate::text::nearest::{nearest, renamed};

/// Longest word that is read, in bytes; no known word is as long.
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
    // Only whole ASCII characters were dropped or changed, so what is left is UTF-8 still.
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// The status that `word` names, however it is spelt.
pub fn status(word: &str) -> Option<AgentStatus> {
    AgentStatus::parse(word).or_else(|| {
        let (mut said, mut known) = ([0; MAX_WORD], [0; MAX_WORD]);
        let said = folded(word, &mut said)?;
        AgentStatus::ALL.into_iter().find(|status| folded(status.as_str(), &mut known) == Some(said))
    })
}

/// The nine statuses, for an error about a word that is none of them.
pub const STATUSES: [&str; 9] = {
    let mut words = [""; 9];
    let mut index = 0;
    while index < words.len() {
        words[index] = AgentStatus::ALL[index].as_str();
        index += 1;
    }
    words
};

/// What to write in place of `word`: the nearest of `known`, or all of them when none is near.
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
    fn a_status_is_known_however_it_is_spelt() {
        for word in ["waiting_review", "waitingReview", "WAITING-REVIEW", "Waiting Review"] {
            assert_eq!(status(word), Some(AgentStatus::WaitingReview), "{word}");
        }
        for word in ["", "runing", "🤖", &"running".repeat(99)] {
            assert_eq!(status(word), None, "{word}");
        }
    }

    #[test]
    fn the_nearest_word_is_named_when_one_is_near() {
        assert_eq!(instead("Runing", &STATUSES), "did you mean `running`?");
        assert!(instead("hibernating", &STATUSES).starts_with("use one of idle, starting, running"));
        assert!(instead(&"x".repeat(9_999), &STATUSES).starts_with("use one of"));
    }
}
