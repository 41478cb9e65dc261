//! The known word that somebody most likely meant by one that is not known.

/// Keys and words that were renamed, with their new names. An old one is refused, and the error names the new one.
const RENAMED: [(&str, &str); 6] = [
    ("explained_by", "inhibited_by"),
    ("gather", "group_wait"),
    ("given_up", "dead_lettered"),
    ("lowered", "deescalated"),
    ("raised", "escalated"),
    ("settled", "flapping_ended"),
];

/// A word this similar (Jaro-Winkler, which forgives most at a word's end) is taken for a slip of the keys.
const SIMILAR: f64 = 0.8;

/// Longest word that is compared, in bytes; no known word comes near it.
const MAX_WORD: usize = 64;

/// The word of `known` that is nearest to `word` in any case; `None` when none is near.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let similarity = |candidate: &&'k str| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), *candidate);
    let most_similar = known.iter().map(similarity).max_by(|left, right| left.0.total_cmp(&right.0));
    most_similar.filter(|(similarity, _)| *similarity >= SIMILAR).map(|(_, candidate)| candidate)
}

/// The word of `known` that `word` is called now, if it was renamed.
pub fn renamed<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (_, name) = RENAMED.iter().find(|(old, _)| *old == word)?;
    known.iter().find(|known| *known == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_is_known_where_the_new_one_is() {
        assert_eq!(renamed("gather", &["name", "group_wait"]), Some("group_wait"));
        assert_eq!(renamed("gather", &["name"]), None);
        assert_eq!(renamed("name", &["name"]), None);
    }

    #[test]
    fn a_slip_of_the_keys_is_near_and_another_word_is_not() {
        let known = ["idle", "running", "waiting_review", "failed", "completed", "AgentIdle"];
        for (word, expected) in [
            ("Runing", Some("running")),
            ("fialed", Some("failed")),
            ("complete", Some("completed")),
            ("agentidel", Some("AgentIdle")),
            ("hibernating", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"running".repeat(9_999), &known), None);
        assert_eq!(nearest("running", &[]), None);
    }
}
