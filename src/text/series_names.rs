//! Prometheus names out of the names that clients give their own metrics and labels: `Pool Size` and `poolSize` are
//! `pool_size`.

/// Longest name of a metric or a label as sent, and as exposed, in bytes.
pub const MAX_SERIES_NAME: usize = 128;

/// The name without its invalid characters, in snake case, without `prefix` before it. Empty if nothing valid is left.
pub fn metric_name(name: &str, prefix: &str) -> String {
    let name = snake_case(name);
    name.strip_prefix(prefix).map_or(name.as_str(), |rest| rest.trim_start_matches('_')).to_owned()
}

/// The same for a label. A leading digit gets an underscore; two underscores in front are Prometheus' own, so that they
/// become one.
pub fn label_name(name: &str) -> String {
    let out = snake_case(name);
    if out.starts_with(|letter: char| letter.is_ascii_digit()) { format!("_{out}") } else { out }
}

/// Letters, digits and single underscores between them, in lower case; a capital letter begins a word.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut letters = name.chars().peekable();
    let mut before = '_';
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
        } else if letter.is_ascii_uppercase() {
            let ends_acronym = before.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase);
            let begins = before.is_ascii_lowercase() || before.is_ascii_digit() || ends_acronym;
            if begins && !out.ends_with('_') {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(letter);
        }
        before = letter;
    }
    out.truncate(out.trim_end_matches('_').len());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_in_snake_case() {
        for (name, expected) in [
            ("pool_size", "pool_size"),
            ("poolSize", "pool_size"),
            ("Pool size", "pool_size"),
            ("pool.size", "pool_size"),
            ("pool--size!", "pool_size"),
            ("HTTPServer", "http_server"),
            ("getURL", "get_url"),
            ("p95", "p95"),
            ("http2Requests", "http2_requests"),
            ("5xx", "5xx"),
            ("orchestrator_custom_pool_size", "pool_size"),
            ("größe", "gr_e"),
            ("…", ""),
            ("___", ""),
            ("_private", "private"),
        ] {
            assert_eq!(metric_name(name, "orchestrator_custom_"), expected, "{name}");
        }
        for (name, expected) in [("Pool", "pool"), ("0start", "_0start"), ("__name__", "name"), ("", "")] {
            assert_eq!(label_name(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_valid_one_and_stays_it(name in any::<String>()) {
            let metric = metric_name(&name, "own_");
            prop_assert!(metric.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_'));
            prop_assert!(!metric.contains("__") && !metric.starts_with('_') && !metric.ends_with('_'));
            prop_assert_eq!(snake_case(&metric), metric);
            let label = label_name(&name);
            prop_assert!(!label.starts_with("__") && !label.starts_with(|it: char| it.is_ascii_digit()));
            prop_assert_eq!(label_name(&label), label);
        }
    }
}
