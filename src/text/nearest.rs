//! Finds the known word nearest to an unknown one.

/// Renamed keys and words with their new names, for error messages.
const RENAMED: [(&str, &str); 6] = [
    ("explained_by", "inhibited_by"),
    ("gather", "group_wait"),
    ("given_up", "dead_lettered"),
    ("lowered", "deescalated"),
    ("raised", "escalated"),
    ("settled", "flapping_ended"),
];

/// Minimum Jaro-Winkler similarity of a typo.
const SIMILAR: f64 = 0.8;

/// Maximum length of a compared word in bytes.
const MAX_WORD: usize = 64;

/// The word of `known` that is most similar to `word`, ignoring case; `None` when none is similar.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let similarity = |candidate: &&'k str| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), *candidate);
    let most_similar = known.iter().map(similarity).max_by(|left, right| left.0.total_cmp(&right.0));
    most_similar.filter(|(similarity, _)| *similarity >= SIMILAR).map(|(_, candidate)| candidate)
}

/// The new name of `word` among `known`, if it was renamed.
pub fn renamed<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (_, name) = RENAMED.iter().find(|(old, _)| *old == word)?;
    known.iter().find(|known| *known == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_word_suggests_its_new_name() {
        assert_eq!(renamed("gather", &["name", "group_wait"]), Some("group_wait"));
        assert_eq!(renamed("gather", &["name"]), None);
        assert_eq!(renamed("name", &["name"]), None);
    }

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
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
