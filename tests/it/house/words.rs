//! The names and words of the code: a type's name occurs once in the crate, and words that have a term of Prometheus,
//! Alertmanager or OpenTelemetry are not used in place of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::tidy::rust_files;
use crate::{Case, trial};

/// Words that are not used, with the ones to use.
const REPLACED: [(&[&str], &str); 12] = [
    (&["told", "telling"], "notified, reported, shown"),
    (&["nobody", "somebody", "whoever", "whom"], "the receiver, the sender, the operator"),
    (&["heard", "hears"], "last seen"),
    (&["withheld"], "suppressed, inhibited"),
    (&["owed", "owes"], "pending delivery"),
    (&["gathered", "gathers", "gathering"], "grouped, batched"),
    (&["judge", "judges", "judged", "judging"], "evaluate"),
    (&["amiss"], "wrong, invalid"),
    (&["heed", "heeds", "heeded"], "use, apply"),
    (&["mend", "mends", "mended"], "fix"),
    (&["beside"], "next to, in addition to"),
    (&["anew", "thrice", "yonder"], "again"),
];

/// Folders that are not checked for words yet. The list only shrinks.
const UNCHECKED: [&str; 1] = ["src/notify"];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("house: a type's name occurs once in the crate", &[], type_names_are_unique),
        trial("house: words are those of Prometheus, Alertmanager and OpenTelemetry", &[], no_replaced_words),
        trial("house: the check of names and words finds them", &[], the_check_finds_names_and_words),
    ]
}

/// The name of the type that `line` declares; of type aliases only those outside of blocks, since others are associated.
fn declared(line: &str) -> Option<&str> {
    let is_in_block = line.starts_with(' ');
    let mut words = line.trim_start();
    if let Some(rest) = words.strip_prefix("pub") {
        words =
            rest.strip_prefix('(').map_or(rest, |rest| rest.split_once(')').map_or("", |(_, rest)| rest)).trim_start();
    }
    let (keyword, rest) = words.split_once(' ')?;
    let is_type = ["struct", "enum", "union", "trait"].contains(&keyword) || keyword == "type" && !is_in_block;
    let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
    (is_type && name.starts_with(char::is_uppercase)).then_some(name)
}

/// Names that more than one of these files declares, with the files.
fn duplicates(files: impl Iterator<Item = (PathBuf, String)>) -> Vec<String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        for name in text.lines().filter_map(declared) {
            found.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    let twice = found.into_iter().filter(|(_, paths)| paths.len() > 1);
    twice.map(|(name, paths)| format!("`{name}`: {}", paths.join(", "))).collect()
}

/// The words of a line in lower case; an identifier is split at underscores and capitals.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in line.chars() {
        if !letter.is_alphabetic() || was_lower && letter.is_uppercase() {
            words.push(String::new());
        }
        if let Some(last) = words.last_mut().filter(|_| letter.is_alphabetic()) {
            last.extend(letter.to_lowercase());
        }
        was_lower = letter.is_lowercase();
    }
    words
}

/// The first replaced word of a line, with the words to use. A string of one word is no prose: earlier files have such keys.
fn replaced(line: &str) -> Option<(String, &'static str)> {
    let is_key = |part: &&str| part.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let prose: Vec<&str> = line.split('"').filter(|part| !is_key(part)).collect();
    words(&prose.join(" ")).into_iter().find_map(|word| {
        let (_, terms) = REPLACED.iter().find(|(replaced, _)| replaced.contains(&&*word))?;
        Some((word, *terms))
    })
}

fn type_names_are_unique() {
    let wrong = duplicates(rust_files("src"));
    assert!(wrong.is_empty(), "types with the same name:\n{}", wrong.join("\n"));
}

fn no_replaced_words() {
    let mut wrong = Vec::new();
    let rust = ["src", "tests", "benches", "fuzz"].into_iter().flat_map(rust_files);
    for (path, text) in rust.chain(page_files()) {
        let is_unchecked = UNCHECKED.iter().any(|folder| path.with_extension("").starts_with(folder));
        if is_unchecked || path.ends_with("house/words.rs") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            if let Some((word, terms)) = replaced(line) {
                wrong.push(format!("{}:{}: `{word}`; use: {terms}", path.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Templates, style and script of the page, with their texts.
fn page_files() -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir("web").expect("the folder of the page");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), std::fs::read_to_string(path).expect("text"))).collect()
}

fn the_check_finds_names_and_words() {
    assert_eq!(declared("pub(crate) struct Agent<'a> {"), Some("Agent"));
    assert_eq!(declared("    enum Step { A }"), Some("Step"));
    assert_eq!(declared("type Batches = Vec<u8>;"), Some("Batches"));
    assert_eq!(declared("    type Item = u8;"), None);
    assert_eq!(declared("/// A struct Agent"), None);
    let file = |name: &str, text: &str| (PathBuf::from(name), text.to_owned());
    let files = [file("a.rs", "struct Agent;\nstruct Step;"), file("b.rs", "pub enum Agent {}")];
    assert_eq!(duplicates(files.into_iter()), ["`Agent`: a.rs, b.rs"]);
    let found = |line: &str| replaced(line).map(|(word, _)| word);
    assert_eq!(found("let last_heard = 1;").as_deref(), Some("heard"));
    assert_eq!(found("struct WasTold(u8);").as_deref(), Some("told"));
    assert_eq!(found("// Nobody is notified.").as_deref(), Some("nobody"));
    assert_eq!(found("#[serde(alias = \"told\")]"), None);
    assert_eq!(found("a stolen threshold"), None);
}
