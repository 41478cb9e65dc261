//! The output of a scenario: named sections of text, without values that differ from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// Most lines shown of one section that differs.
const SHOWN: usize = 12;

/// Sections by name, in order.
#[derive(Default)]
pub(super) struct Transcript {
    sections: BTreeMap<String, String>,
}

/// What differs between two runs of one program, and its mark.
static VOLATILE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // RFC 3339, a mail's date, the time of day.
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00| UTC)?", "<time>"),
        (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d+ \w+ \d{4} \d\d:\d\d:\d\d \+0000", "<date>"),
        (r"\b\d\d:\d\d(:\d\d(\.\d+)?)?( UTC)?\b", "<clock>"),
        // Seconds and milliseconds since 1970.
        (r"\b1[6-9]\d{8}(\d{3})?(\.\d+)?\b", "<epoch>"),
        (r"127\.0\.0\.1:\d+", "<address>"),
        (r#"/tmp/\.tmp[^/"\s]*"#, "<folder>"),
        (r#""(\w*(seconds|_at|lag|age|elapsed|oldest)\w*)":\s*[-+0-9.e]+"#, r#""$1": <number>"#),
        // Keys that hold a time, and boundaries of mail.
        (r"\b[0-9a-f]{16,64}\b", "<hash>"),
        (r#"boundary="[^"]+"|^--[=_A-Za-z0-9]{30,}(--)?\s*$"#, "<boundary>"),
        (r"-1[0-9a-f]{10}\b", "-<milliseconds>"),
        (r"port: \d{4,5}", "port: <port>"),
        (r"\b\d+(\.\d+)?(ms|s|m|h|d)(\d+(\.\d+)?(ms|s|m|h))*\b", "<duration>"),
        // Columns of tables are as wide as their times.
        (r" {2,}", "  "),
    ]
    .into_iter()
    .map(|(pattern, mark)| (Regex::new(&format!("(?m){pattern}")).expect("a pattern"), mark))
    .collect()
});

/// Series about the process or time, or that depend on how the input was batched.
static VOLATILE_SERIES: LazyLock<Regex> = LazyLock::new(|| {
    let names = r#"process_|lookout_(build|scrape|ingest_|evaluation|step|queue|snapshot|store_|history|outbox|ledger|saved|source_errors|(ingested|rejected)_total\{signal="(poll|state)"|http_)|\w*_seconds|\w*_timestamp|\w*_bytes|\w*_created"#;
    Regex::new(&format!("^(# (HELP|TYPE|UNIT) )?({names})")).expect("a pattern")
});

impl Transcript {
    /// Adds a section with the times in `text` replaced.
    pub(super) fn add(&mut self, name: impl Into<String>, text: &str) {
        self.exact(name, &Self::without_times(text));
    }

    /// Adds a section of items that come in any order.
    pub(super) fn unordered(&mut self, name: impl Into<String>, items: impl IntoIterator<Item = String>) {
        let mut items: Vec<String> = items.into_iter().map(|item| Self::without_times(&item)).collect();
        items.sort();
        self.exact(name, &items.join("\n\n"));
    }

    fn without_times(text: &str) -> String {
        // Lines that mail breaks in two are whole again, and an escaped line end is none of a word.
        let mut text = text.replace('\r', "").replace("=\n", "").replace("\\n", "\\n ");
        for (pattern, mark) in VOLATILE.iter() {
            text = pattern.replace_all(&text, *mark).into_owned();
        }
        text
    }

    /// Adds a section as it is.
    pub(super) fn exact(&mut self, name: impl Into<String>, text: &str) {
        let name = name.into();
        let again = self.sections.insert(name.clone(), text.to_owned());
        assert!(again.is_none(), "two sections are named {name}");
    }

    /// Adds a page of metrics: all series but those of time, and of those the names and labels.
    pub(super) fn metrics(&mut self, name: impl Into<String>, page: &str) {
        let line = |line: &str| {
            if !VOLATILE_SERIES.is_match(line) || line.starts_with('#') {
                return line.to_owned();
            }
            line.rsplit_once(' ').map_or(line, |(series, _)| series).to_owned()
        };
        // Families of the sidecar's own have their series in no order.
        let mut lines: Vec<String> = page.lines().map(line).collect();
        lines.sort();
        self.add(name, &lines.join("\n"));
    }

    /// The size, as text.
    pub(super) fn extent(&self) -> String {
        let lines: usize = self.sections.values().map(|text| text.lines().count()).sum();
        format!("{} sections with {lines} lines", self.sections.len())
    }

    /// Each section that `other` lacks or has otherwise, with the lines that differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.sections.keys().chain(other.sections.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            match (self.sections.get(name), other.sections.get(name)) {
                (Some(old), Some(new)) if old == new => {}
                (Some(old), Some(new)) => found.push(format!("{name}:\n{}", lines_that_differ(old, new))),
                (Some(_), None) => found.push(format!("{name}: only the baseline has it")),
                (None, _) => found.push(format!("{name}: the baseline lacks it")),
            }
        }
        found
    }

    /// Writes each section into a file of `folder`.
    pub(super) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder for transcripts");
        for (name, text) in &self.sections {
            let name = name.replace(['/', ' ', '?', '&'], "_");
            fs::write(folder.join(name), text).expect("a transcript");
        }
    }
}

/// The first lines that only one of two texts has.
fn lines_that_differ(old: &str, new: &str) -> String {
    let only = |these: &str, those: &str, mark: &str| {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        those.lines().for_each(|line| *known.entry(line).or_default() += 1);
        let mut lines = Vec::new();
        for line in these.lines() {
            match known.get_mut(line).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => lines.push(format!("  {mark} {}", line.chars().take(300).collect::<String>())),
            }
        }
        lines
    };
    let lines = [only(old, new, "-"), only(new, old, "+")];
    if lines.iter().all(Vec::is_empty) {
        return "  the same lines in another order".to_owned();
    }
    lines.iter().flat_map(|lines| lines.iter().take(SHOWN)).map(String::as_str).collect::<Vec<_>>().join("\n")
}
