//! A strict parser of both text formats, at least as strict as a scraper.

use std::collections::{BTreeMap, HashSet};

use crate::metrics::ExpositionFormat;

/// A parsed metric family.
#[derive(Debug)]
pub(super) struct ParsedFamily {
    /// The declared name.
    pub name: String,
    pub kind: String,
    pub unit: Option<String>,
    pub samples: Vec<ParsedSample>,
}

/// A parsed sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ParsedSample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl ParsedSample {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Parses an exposition; panics on any violation of the format.
pub(super) fn read(page: &str, format: ExpositionFormat) -> Vec<ParsedFamily> {
    let mut families: Vec<ParsedFamily> = Vec::new();
    let mut series = HashSet::new();
    let body = match format {
        ExpositionFormat::Text => page,
        ExpositionFormat::OpenMetrics => page.strip_suffix("# EOF\n").expect("a page ends with its mark"),
    };
    assert!(body.is_empty() || body.ends_with('\n'), "the last line is cut");
    // Only a line feed ends a line: a label value may contain a carriage return.
    for line in body.split_terminator('\n') {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').expect("a declaration");
            let (name, rest) = rest.split_once(' ').expect("a declaration of something");
            assert!(is_name(name), "{line}");
            match (word, families.last_mut()) {
                ("HELP", _) => {
                    assert!(families.iter().all(|family| family.name != name), "{name} is declared twice");
                    assert!(rest.ends_with('.') && !rest.ends_with(".."), "{line}");
                    let (kind, unit) = (String::new(), None);
                    families.push(ParsedFamily { name: name.to_owned(), kind, unit, samples: Vec::new() });
                }
                ("TYPE", Some(family)) if family.name == name && family.kind.is_empty() => {
                    assert!(matches!(rest, "counter" | "gauge" | "histogram"), "{line}");
                    let has_total = name.ends_with("_total");
                    assert_eq!(has_total, rest == "counter" && format == ExpositionFormat::Text, "{line}");
                    rest.clone_into(&mut family.kind);
                }
                ("UNIT", Some(family)) if family.name == name && format == ExpositionFormat::OpenMetrics => {
                    assert!(family.samples.is_empty() && name.ends_with(&format!("_{rest}")), "{line}");
                    family.unit = Some(rest.to_owned());
                }
                _ => panic!("out of place: {line}"),
            }
            continue;
        }
        let sample = sample(line);
        let family = families.last_mut().expect("a family before its series");
        let rest = sample.name.strip_prefix(&family.name).unwrap_or_else(|| panic!("not of {}: {line}", family.name));
        match (family.kind.as_str(), format) {
            ("counter", ExpositionFormat::OpenMetrics) => assert_eq!(rest, "_total", "{line}"),
            ("histogram", _) => assert!(matches!(rest, "_bucket" | "_count" | "_sum"), "{line}"),
            _ => assert_eq!(rest, "", "{line}"),
        }
        assert!(!sample.value.is_nan(), "{line}");
        assert!(family.kind != "counter" || sample.value >= 0.0, "{line}");
        let labels: BTreeMap<_, _> = sample.labels.iter().cloned().collect();
        assert_eq!(labels.len(), sample.labels.len(), "a label stands twice: {line}");
        assert!(series.insert((sample.name.clone(), labels)), "the series stands twice: {line}");
        family.samples.push(sample);
    }
    families
}

fn sample(line: &str) -> ParsedSample {
    let split = line.find(|letter: char| !is_name_letter(letter)).expect("a value");
    let (name, mut rest) = line.split_at(split);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(name) && !name.contains(':'), "{line}");
            let mut text = String::new();
            let mut letters = value.chars();
            loop {
                match letters.next().unwrap_or_else(|| panic!("an open label: {line}")) {
                    '"' => break,
                    '\\' => text.push(match letters.next() {
                        Some('n') => '\n',
                        Some(letter @ ('\\' | '"')) => letter,
                        other => panic!("a wrong escape {other:?}: {line}"),
                    }),
                    letter => text.push(letter),
                }
            }
            labels.push((name.to_owned(), text));
            rest = letters.as_str();
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "more than a value: {line}");
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    ParsedSample { name: name.to_owned(), labels, value }
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_letter) && !text.starts_with(|letter: char| letter.is_ascii_digit())
}
