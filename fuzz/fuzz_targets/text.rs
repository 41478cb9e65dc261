//! Text of agents and values of the configuration: secret keys are masked, text is sanitised, parsed values are in range.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lookout::model::labels::escape;
use lookout::model::{Matchers, Time, duration};
use lookout::text::{self, keys};

/// Invalid keys in the formats of their issuers. In halves, so that no secret scanner reports them.
const KEYS: [[&str; 2]; 6] = [
    ["sk-ant-", "api03-aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1g"],
    ["gh", "p_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH3j"],
    ["xox", "b-123456789012-123456789012"],
    ["AK", "IA0123456789ABCDEF"],
    ["eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N"],
    ["glpat", "-aB3dE5gH7jK9mN1pQ3sT"],
];

fuzz_target!(|input: &str| {
    let masked = keys::mask(input);
    assert_eq!(keys::mask(&masked), masked, "masking twice is masking once");
    for limit in [0, 7, 64, 512] {
        let clean = text::clean(input, limit);
        assert!(clean.len() <= limit && !clean.contains(|letter: char| letter.is_control()), "{clean:?}");
        assert_eq!(text::clean(&clean, limit), clean, "what is clean stays so");
    }
    hide(input);
    let mut escaped = String::new();
    escape(input, &mut escaped);
    assert!(!escaped.contains('\n'));
    words(input);
});

/// Panics if a key that is a word of its own in the text is shown.
fn hide(input: &str) {
    let middle = input.char_indices().map(|(at, _)| at).nth(input.chars().count() / 2).unwrap_or_default();
    let (before, after) = input.split_at(middle);
    for [start, end] in KEYS {
        let key = format!("{start}{end}");
        // Within a longer word it is no key, and the input may have it so.
        if text::clean(input, usize::MAX).contains(&key) {
            continue;
        }
        let text = format!("{before} {key} {after}");
        let clean = text::clean(&text, usize::MAX);
        assert!(!clean.contains(&key), "{text:?} shows as {clean:?}");
    }
}

fn words(input: &str) {
    if let Some(time) = Time::parse(input) {
        assert_eq!(Time::parse(&time.to_string()), Some(time));
    }
    if let Ok(length) = duration::parse(input) {
        assert_eq!(duration::parse(&duration::exact(length)), Ok(length), "{input:?}");
        assert!(!duration::display(length).is_empty());
    }
    let pairs = input.lines().filter_map(|line| line.split_once('='));
    if let Ok(matchers) = Matchers::parse(pairs) {
        assert!(!matchers.to_string().is_empty());
        matchers.matches(|_| Some(input));
        matchers.may_match(|_| None);
    }
}
