//! Glob patterns of silences, receivers, rules and `otlp`: `*` matches any number of characters, `?` one.

/// Whether the whole `text` matches `pattern`. Takes time in the product of their lengths at most, and no memory.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // The pattern after the last star, and the text that it has not consumed.
    let mut star = None;
    loop {
        let untaken = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = untaken.clone();
                star = Some((pattern.clone(), untaken));
            }
            (Some(wanted), Some(letter)) if wanted == '?' || wanted == letter => {}
            (None, None) => return true,
            _ => {
                // The last star consumes one more character.
                let Some((after, rest)) = &mut star else { return false };
                if rest.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), rest.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, expected) in [
            ("worker-*", "worker-12", true),
            ("worker-*", "my-worker-12", false),
            ("*", "", true),
            ("**", "ab", true),
            ("?*", "", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("*a*b", "xxaxxbxxb", true),
            ("*.id", "session.id", true),
            ("*.id", "session.ids", false),
            ("a*c", "ab", false),
            ("grüße*", "grüße🤖", true),
            ("gr??e", "grüße", true),
            ("[a]", "a", false),
            ("", "", true),
            ("", "a", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn globs_match_like_the_equivalent_regular_expression(pattern in "[ab*?]{0,8}", text in "[ab]{0,12}") {
            let expression = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&expression).expect("an expression").is_match(&text);
            proptest::prop_assert_eq!(glob(&pattern, &text), expected);
        }
    }
}
