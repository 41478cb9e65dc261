//! The known word that somebody most likely meant by one that is not known.

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

#[cfg(test)]
mod tests {
    use super::*;

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
