//! Finds a literal that every match of a regular expression contains. Most lines match no pattern, and searching for a
//! literal is a hundred times faster than running the expression.
//!
//! Conservative: only plain characters at the top level count, and anything in doubt yields no literal.

use std::iter::Peekable;
use std::str::Chars;

/// The longest literal that every match of `regex` contains; `None` when none is known.
pub(super) fn required(regex: &str) -> Option<String> {
    let (mut longest, mut run) = (String::new(), String::new());
    let mut letters = regex.chars().peekable();
    while let Some(letter) = letters.next() {
        let plain = match letter {
            // Either alternative may match without the other.
            '|' => return None,
            '(' => {
                skip_group(&mut letters)?;
                None
            }
            '[' => {
                skip_class(&mut letters)?;
                None
            }
            '\\' => match letters.next()? {
                // Classes, assertions, numeric escapes.
                letter if letter.is_ascii_alphanumeric() => {
                    if matches!(letter, 'x' | 'u' | 'U' | 'p' | 'P') {
                        return None;
                    }
                    None
                }
                '<' | '>' => None,
                letter => Some(letter),
            },
            // The preceding character may be missing or repeated.
            '*' | '?' | '+' | '{' => {
                run.pop();
                if letter == '{' {
                    letters.find(|letter| *letter == '}')?;
                }
                None
            }
            '.' | '^' | '$' => None,
            letter => Some(letter),
        };
        match plain {
            Some(letter) => run.push(letter),
            None => keep_longest(&mut longest, &mut run),
        }
    }
    keep_longest(&mut longest, &mut run);
    (!longest.is_empty()).then_some(longest)
}

fn keep_longest(longest: &mut String, run: &mut String) {
    if run.len() > longest.len() {
        std::mem::swap(longest, run);
    }
    run.clear();
}

/// Skips a group after its `(`; `None` when it has flags that change the meaning of characters.
fn skip_group(letters: &mut Peekable<Chars<'_>>) -> Option<()> {
    if letters.next_if_eq(&'?').is_some() && !matches!(letters.next()?, ':' | 'P' | '<') {
        return None;
    }
    loop {
        match letters.next()? {
            '\\' => _ = letters.next()?,
            '[' => skip_class(letters)?,
            '(' => skip_group(letters)?,
            ')' => return Some(()),
            _ => {}
        }
    }
}

/// Skips a class after its `[`.
fn skip_class(letters: &mut Peekable<Chars<'_>>) -> Option<()> {
    let mut is_first = true;
    loop {
        match letters.next()? {
            '^' if is_first => continue,
            // A `]` at the start is literal.
            ']' if !is_first => return Some(()),
            // Nested classes.
            '[' => skip_class(letters)?,
            '\\' => _ = letters.next()?,
            _ => {}
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn required_literals_are_found() {
        for (regex, letters) in [
            ("used ([0-9,]+) tokens", Some(" tokens")),
            ("^panic: ", Some("panic: ")),
            (r"\[y/N\]", Some("[y/N]")),
            (r"cost: \$(\S+)", Some("cost: $")),
            ("colou?r", Some("colo")),
            ("ab{2,3}c", Some("a")),
            ("x+", None),
            ("error|failed", None),
            ("(error|failed)", None),
            ("(?i)error", None),
            ("(?:in|out): (\\d+)", Some(": ")),
            ("a(?i)error", None),
            ("[]x]+ed", Some("ed")),
            ("[^]x]ed", Some("ed")),
            (r"[\]]ed", Some("ed")),
            (r"\x41bc", None),
            (r"\bdone\b", Some("done")),
            ("", None),
            (".*", None),
        ] {
            assert_eq!(required(regex).as_deref(), letters, "{regex}");
        }
    }

    /// Arbitrary expressions.
    fn expressions() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[a-c]{1,3}".prop_map(|letters| letters),
            Just("|".to_owned()),
            Just("(?i)".to_owned()),
            Just("(?x)".to_owned()),
            proptest::sample::select(vec![
                ".", "a*", "b?", "c+", "a{2}", "b{0,1}", "^", "$", r"\b", r"\d", r"\.", r"\[", r"\x61", "[ab]", "[^a]",
                "[]a]", r"[\]b]", "(a|b)", "(bc)?", "((?i)a)", "(?i:b)", "(?:ab)*", "(?P<n>c)", "((a)b|c)", "é", "é?",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(part, 1..7).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_match_contains_the_literal(regex in expressions(), text in "[abcABC .é\\[\\]1]{0,8}") {
            if let (Some(letters), Ok(expression)) = (required(&regex), Regex::new(&regex)) {
                prop_assert!(!expression.is_match(&text) || text.contains(&letters), "`{}` in `{}`", letters, text);
            }
        }
    }
}
