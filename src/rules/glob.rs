//! Globs over names, `*` for any letters and `?` for one; and whom a `where` made of them covers.

use super::file::Where;
use crate::model::Agent;

/// Whether `text` matches `pattern` as a whole. Takes time in the product of their lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == '?' || Some(letter) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // The last star takes one letter more.
                Some((at, taken)) => {
                    (p, t) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|letter| *letter == '*')
}

impl Where {
    /// Whether it covers `agent` as it is now.
    pub(super) fn covers(&self, agent: &Agent) -> bool {
        let fits = |pattern: &Option<String>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| matches(pattern, text.unwrap_or_default()))
        };
        fits(&self.project, Some(&agent.project))
            && fits(&self.agent_name, Some(&agent.name))
            && fits(&self.r#type, agent.agent_type.as_deref())
            && fits(&self.status, agent.status.map(|status| status.as_str()))
    }

    /// Whether it covers an agent of which only the name is known.
    pub(super) fn covers_missing(&self, project: &str, name: &str) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| matches(pattern, text));
        fits(&self.project, project) && fits(&self.agent_name, name) && fits(&self.r#type, "") && fits(&self.status, "")
    }

    /// Whether it covers whatever of that project has no name of its own here.
    pub(super) fn covers_project(&self, project: &str) -> bool {
        self.project.as_ref().is_none_or(|pattern| matches(pattern, project))
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("worker-*", "worker-12", true),
            ("worker-*", "my-worker-12", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("grüße*", "grüße🤖", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
