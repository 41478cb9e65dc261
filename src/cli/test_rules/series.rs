//! Series in the notation of promtool's unit tests: `0+60x5`, `1x3`, `_x2`, and words as well. Their length is limited
//! before they are expanded.

use serde_json::{Number, Value};

/// Most steps of one series.
pub(super) const MAX_STEPS: usize = 100_000;

/// The value at each step; `None` where nothing is sent.
///
/// `a+bxn` is a, a+b, … a+n·b: n+1 values; `axn` is a, n+1 times; `_xn` is n missing values; without `x` it is one value.
/// A word (`running`, `true`, `ERROR`) can stand in place of a number, and be repeated: `runningx3`.
pub(super) fn expand(text: &str) -> Result<Vec<Option<Value>>, String> {
    let mut values = Vec::new();
    for piece in text.split_whitespace() {
        let (head, times) = match piece.rsplit_once('x') {
            Some((head, times))
                if !head.is_empty() && !times.is_empty() && times.bytes().all(|it| it.is_ascii_digit()) =>
            {
                let times = times.parse::<usize>().ok().filter(|times| *times < MAX_STEPS);
                (
                    head,
                    Some(
                        times
                            .ok_or_else(|| format!("`{piece}` has too many values; at most {MAX_STEPS} are allowed"))?,
                    ),
                )
            }
            _ => (piece, None),
        };
        let count = if head == "_" { times.unwrap_or(1) } else { times.unwrap_or(0) + 1 };
        if values.len() + count > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} values; lengthen `interval`"));
        }
        if head == "_" {
            values.extend(std::iter::repeat_n(None, count));
            continue;
        }
        let (start, step) = number(head).ok_or_else(|| {
            format!("`{piece}` is not a value; write 5, 0+60x10, 1x3, _x2, or a word such as running")
        })?;
        match start {
            Value::String(_) | Value::Bool(_) => values.extend(std::iter::repeat_n(Some(start), count)),
            start => {
                let first = start.as_f64().unwrap_or_default();
                values.extend((0..count).map(|place| Some(of_number(first + step * place as f64))));
            }
        }
    }
    if values.is_empty() { Err("is empty; write values such as 0+60x10".to_owned()) } else { Ok(values) }
}

/// The first value and the step to each next one.
fn number(head: &str) -> Option<(Value, f64)> {
    if let Some(value) = finite(head) {
        return Some((of_number(value), 0.0));
    }
    // The sign of the step, not that of the first number or of an exponent.
    for (at, sign) in head.char_indices().skip(1).filter(|(_, letter)| matches!(letter, '+' | '-')) {
        if let (Some(first), Some(step)) = (head.get(..at).and_then(finite), head.get(at + 1..).and_then(finite)) {
            return Some((of_number(first), if sign == '-' { -step } else { step }));
        }
    }
    match head {
        "true" => Some((Value::Bool(true), 0.0)),
        "false" => Some((Value::Bool(false), 0.0)),
        word if word.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')) =>
        {
            Some((Value::from(word), 0.0))
        }
        _ => None,
    }
}

fn finite(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|letter: char| letter.is_ascii_digit() || matches!(letter, '-' | '+' | '.'));
    text.parse::<f64>().ok().filter(|number| is_number && number.is_finite())
}

/// A whole number without a point, as counters want it.
fn of_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = |value: Option<Value>| value.map_or("_".to_owned(), |value| value.to_string());
        let got = match expand(text) {
            Ok(values) => values.into_iter().map(shown).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn series_are_written_as_for_promtool() {
        check("1 2 3.5", "1 2 3.5");
        check("0+60x3", "0 60 120 180");
        check("10-2x4", "10 8 6 4 2");
        check("-2+1x2", "-2 -1 0");
        check("0+0.5x2", "0 0.5 1");
        check("1x3", "1 1 1 1");
        check("1 _x3 2", "1 _ _ _ 2");
        check("_ 5", "_ 5");
        check("1e3", "1000");
        check("1x0", "1");
        check("_x0 1", "1");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_series_has_the_values_of_its_notation(first in -50..50_i64, step in -9..9_i64, times in 0..40_i64, gap in 0..5_usize) {
            let values = expand(&format!("{first}{step:+}x{times} _x{gap} 7")).expect("a series");
            let expected = (0..=times).map(|place| Some(Value::from(first + step * place)));
            let expected = expected.chain(std::iter::repeat_n(None, gap)).chain([Some(Value::from(7))]);
            proptest::prop_assert_eq!(values, expected.collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_expanded_or_rejected(text in "[0-9a-zx_+. -]{0,24}|.{0,12}") {
            if let Ok(values) = expand(&text) {
                proptest::prop_assert!((1..=MAX_STEPS).contains(&values.len()));
                proptest::prop_assert!(values.iter().flatten().all(|value| !value.is_null()), "{}", text);
            }
        }
    }

    #[test]
    fn words_can_stand_in_place_of_numbers() {
        check("runningx2 waiting_review failed", r#""running" "running" "running" "waiting_review" "failed""#);
        check("true false", "true false");
        check("max", r#""max""#);
    }

    #[test]
    fn invalid_series_are_rejected() {
        check("", "is empty; write values such as 0+60x10");
        check("1x100000", "`1x100000` has too many values; at most 100000 are allowed");
        check("1x99998 _x2", "more than 100000 values; lengthen `interval`");
        check("1..2", "`1..2` is not a value; write 5, 0+60x10, 1x3, _x2, or a word such as running");
        check("+", "`+` is not a value; write 5, 0+60x10, 1x3, _x2, or a word such as running");
        check("99x99999999999999999999", "`99x99999999999999999999` has too many values; at most 100000 are allowed");
    }
}
