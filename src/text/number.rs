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

/// With three significant digits and a suffix from ten thousand on, like `204k` or `1.25M`; as it is below.
pub fn short(number: f64) -> String {
    let (divisor, suffix) = match number.abs() {
        1e12.. => return format!("{number:.2e}"),
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => return shortest(number, 1),
    };
    let scaled = number / divisor;
    let decimals = match scaled.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{}{suffix}", shortest(scaled, decimals))
}

/// US dollars, like `$12.50`; small change with more digits.
pub fn dollars(amount: f64) -> String {
    match amount {
        // No report makes a message of three hundred digits.
        1e12.. => format!("${amount:.2e}"),
        0.1.. => format!("${amount:.2}"),
        0.0 => "$0".to_owned(),
        _ => format!("${amount:.4}"),
    }
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
    fn large_numbers_are_shortened() {
        let written = [0.0, 1.5, 9_999.0, 10_500.0, 204_000.0, 1_250_000.0, 3e9, f64::MAX].map(short);
        assert_eq!(written, ["0", "1.5", "9999", "10.5k", "204k", "1.25M", "3G", "1.80e308"]);
        assert_eq!([0.0, 0.0042, 12.5, 123_456.789].map(dollars), ["$0", "$0.0042", "$12.50", "$123456.79"]);
    }

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
