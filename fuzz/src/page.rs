//! A strict parser of the exposition in both formats, and the check that no counter falls.

use std::collections::{HashMap, HashSet};

use lookout::metrics::ExpositionFormat;

/// The values of counters and of counts of histograms and summaries, by series.
pub type Counts = HashMap<String, f64>;

/// Parses a page; panics if a scraper would reject it.
pub fn read(page: &str, format: ExpositionFormat) -> Counts {
    let body = match format {
        ExpositionFormat::Text => page,
        ExpositionFormat::OpenMetrics => page.strip_suffix("# EOF\n").expect("a page ends with its mark"),
    };
    assert!(body.is_empty() || body.ends_with('\n'), "the last line is cut");
    let (mut declared, mut series, mut counts) = (HashSet::new(), HashSet::new(), Counts::new());
    let mut family = Family::default();
    for line in body.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap_or_default();
            assert!(is_name(name, true) && declared.insert(name), "declared twice or badly: {line:?}");
            family = Family { name, kind: "" };
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(name == family.name && family.kind.is_empty(), "out of place: {line:?}");
            assert!(matches!(kind, "counter" | "gauge" | "histogram" | "summary"), "no kind: {line:?}");
            family.kind = kind;
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            assert!(format == ExpositionFormat::OpenMetrics && rest.split(' ').next() == Some(family.name), "{line:?}");
        } else {
            let (id, name, value) = sample(line);
            assert!(series.insert(id), "the series stands twice: {line:?}");
            let rest = name.strip_prefix(family.name).unwrap_or_else(|| panic!("not of {}: {line:?}", family.name));
            if family.check(rest, format, line) {
                assert!(value >= 0.0, "a count below nothing: {line:?}");
                counts.insert(id.to_owned(), value);
            }
        }
    }
    counts
}

/// Panics if a count fell.
pub fn compare(before: &Counts, after: &Counts) {
    for (series, value) in after {
        if let Some(was) = before.get(series) {
            assert!(value >= was, "{series} fell from {was} to {value}");
        }
    }
}

#[derive(Default)]
struct Family<'p> {
    name: &'p str,
    kind: &'p str,
}

impl Family<'_> {
    /// Panics if the family can't have a series with this suffix; returns whether the series is a count.
    fn check(&self, rest: &str, format: ExpositionFormat, line: &str) -> bool {
        let (fits, grows) = match (self.kind, format) {
            ("counter", ExpositionFormat::OpenMetrics) => (rest == "_total", true),
            ("counter", ExpositionFormat::Text) => (rest.is_empty(), true),
            ("gauge", _) => (rest.is_empty(), false),
            ("histogram", _) => (matches!(rest, "_bucket" | "_count" | "_sum"), rest != "_sum"),
            ("summary", _) => (matches!(rest, "" | "_count" | "_sum"), false),
            _ => (false, false),
        };
        assert!(fits, "not of a {} {}: {line:?}", self.kind, self.name);
        grows
    }
}

/// The series with its labels, its name, and its value.
fn sample(line: &str) -> (&str, &str, f64) {
    let end = line.find(|letter: char| !is_name_letter(letter) && letter != ':').expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line:?}");
    if let Some(mut inner) = rest.strip_prefix('{') {
        let mut names = HashSet::new();
        loop {
            let (label, value) = inner.split_once("=\"").unwrap_or_else(|| panic!("no label: {line:?}"));
            assert!(is_name(label, false) && names.insert(label), "a label twice or badly: {line:?}");
            inner = after_quote(value, line);
            match inner.strip_prefix(',') {
                Some(next) => inner = next,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').unwrap_or_else(|| panic!("no end of labels: {line:?}"));
    }
    let number = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => {
            assert!(number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)), "{line:?}");
            number.parse().unwrap_or_else(|_| panic!("no number: {line:?}"))
        }
    };
    (&line[..line.len() - rest.len()], name, value)
}

/// The rest of a line after the quote that ends a label value.
fn after_quote<'p>(value: &'p str, line: &str) -> &'p str {
    let mut letters = value.chars();
    loop {
        match letters.next().unwrap_or_else(|| panic!("an open label: {line:?}")) {
            '"' => return letters.as_str(),
            '\\' => assert!(matches!(letters.next(), Some('n' | '\\' | '"')), "a wrong escape: {line:?}"),
            letter => assert!(!letter.is_control(), "a control character: {line:?}"),
        }
    }
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_name(text: &str, colon: bool) -> bool {
    text.chars().all(|letter| is_name_letter(letter) || colon && letter == ':')
        && !text.starts_with(|letter: char| letter.is_ascii_digit())
        && !text.is_empty()
}
