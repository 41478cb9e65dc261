//! Formats numbers for people. A zero has no sign: an empty sum is `-0.0`, and `-0.4` rounds to it.

/// `number` with exactly `decimals` decimals.
pub fn fixed(number: f64, decimals: usize) -> String {
    unsigned_zero(format!("{number:.decimals$}"))
}

/// `number` with at most `decimals` decimals and without trailing zeros.
pub fn shortest(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    if !text.contains('.') {
        return unsigned_zero(text);
    }
    unsigned_zero(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

fn unsigned_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        let nothing: f64 = [0.0; 0].iter().sum();
        for (number, zero, two, short) in [
            (nothing, "0", "0.00", "0"),
            (-0.0, "0", "0.00", "0"),
            (-0.0004, "0", "0.00", "0"),
            (-0.4, "0", "-0.40", "-0.4"),
            (-1.0, "-1", "-1.00", "-1"),
            (10.0, "10", "10.00", "10"),
            (1234.5, "1234", "1234.50", "1234.5"),
            (f64::INFINITY, "inf", "inf", "inf"),
        ] {
            assert_eq!(
                (&*fixed(number, 0), &*fixed(number, 2), &*shortest(number, 3)),
                (zero, two, short),
                "{number:?}"
            );
        }
    }
}
