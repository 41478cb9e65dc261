//! Checks of the source tree: pure modules, module comments, length of files, targets of links.
//!
//! It reads lines and does not parse Rust, which is enough for these checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Case, house, trial};

/// The modules without I/O, which get the time as an argument.
const PURE: [&str; 5] = ["fleet", "rules", "alerts", "enforcement", "machine"];

/// Text that no pure module may contain.
const IMPURE: [&str; 16] = [
    "async ",
    ".await",
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "ZonedDateTime::now",
    "crate::clock::Clock",
    "crate::http_client",
    "tracing::",
];

/// The most lines of a source file.
const LONGEST: usize = 800;

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("tidy: pure modules have no I/O", &[], pure_parts_are_pure),
        trial("tidy: files start with a module comment and stay short", &[], files_open_with_docs_and_stay_short),
        trial("tidy: nothing is marked as left to do and no path of this machine is left", &[], nothing_is_left_open),
        trial("tidy: links in Markdown have targets", &[], links_lead_somewhere),
        trial("tidy: no log line has a duplicate key", &[], log_keys_are_there_once),
    ]
}

/// The project's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the project, as paths from the project's folder, without build output, results of fuzzing
/// and hidden files, except `.ci`.
pub(crate) fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_made = ["target", "corpus", "artifacts", "coverage"].contains(&&*name);
            if is_made || name.starts_with('.') && name != ".ci" {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path.strip_prefix(root()).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

/// The text of a file of the project; `None` when it is not text.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    let path = path.as_ref();
    String::from_utf8(fs::read(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).ok()
}

pub(crate) fn rust_files(below: &str) -> impl Iterator<Item = (PathBuf, String)> {
    let rust = files(below).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.clone(), text(&path).expect("Rust is text")))
}

/// Code without its comment lines.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn pure_parts_are_pure() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src") {
        if PURE.contains(&&*house::part(&house::module(&path))) {
            for (at, line) in code(&text) {
                wrong.extend(
                    IMPURE
                        .iter()
                        .filter(|word| line.contains(*word))
                        .map(|word| format!("{}:{at}: `{}` in a pure module", path.display(), word.trim())),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files_open_with_docs_and_stay_short() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src").chain(rust_files("tests")) {
        if !text.starts_with("//! ") {
            wrong.push(format!("{}: opens without `//!`", path.display()));
        }
        if text.lines().count() > LONGEST {
            wrong.push(format!("{}: has {} lines, more than {LONGEST}", path.display(), text.lines().count()));
        }
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            wrong.push(format!("{}: the style of the project is `foo.rs` next to `foo/`", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn nothing_is_left_open() {
    // In halves, so that this file is not found.
    let open =
        [["to", "do!("], ["unimpl", "emented!("], ["TO", "DO"], ["FIX", "ME"], ["XX", "X "]].map(|half| half.concat());
    let home = [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]].map(|half| half.concat());
    let mut wrong = Vec::new();
    for path in files("") {
        let Some(text) = text(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            for word in open.iter().chain(&home).filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{}: `{word}`", path.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The anchor that a Markdown heading gets: its words in lower case, joined by hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in files("").into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let page = text(&path).expect("Markdown is text");
        let links = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let mut led = root().join(&target).exists();
            if led && !heading.is_empty() {
                let there = text(&target).unwrap_or_default();
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                led = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
            }
            if !led {
                wrong.push(format!("{}: the target of `{link}` does not exist", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keys that every line of a JSON log has.
const LOG_KEYS: [&str; 10] =
    ["timestamp", "level", "target", "message", "fields", "span", "spans", "filename", "line_number", "threadName"];

/// The arguments of a macro call; `text` begins after its opening bracket.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_u32, false, false);
    let mut found = vec![String::new()];
    for letter in text.chars() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(letter);
        }
    }
    found.into_iter().map(|argument| argument.trim().to_owned()).collect()
}

/// The keys of a log line with these arguments.
fn log_keys(arguments: &[String]) -> Vec<&str> {
    let fields = arguments.iter().filter(|argument| !argument.is_empty() && !argument.starts_with('"'));
    let keys = fields.filter(|field| !field.starts_with("target:") && !field.starts_with("parent:"));
    keys.map(|field| {
        let name = field.split_once('=').map_or(field.as_str(), |(name, _)| name).trim();
        name.trim_start_matches(['%', '?']).rsplit('.').next().unwrap_or_default()
    })
    .collect()
}

fn log_keys_are_there_once() {
    assert_eq!(log_keys(&arguments("a = f(1, \"),\"), %b, c.message, \"d, e\")")), ["a", "b", "message"]);
    let (mut lines, mut wrong) = (0, Vec::new());
    for (path, text) in rust_files("src") {
        for level in ["error", "warn", "info", "debug", "trace"] {
            for (at, call) in text.match_indices(&format!("tracing::{level}!(")) {
                lines += 1;
                let arguments = arguments(&text[at + call.len()..]);
                let mut keys = BTreeSet::from(LOG_KEYS);
                for key in log_keys(&arguments).into_iter().filter(|key| !keys.insert(key)) {
                    let line = text[..at].lines().count();
                    wrong.push(format!("{}:{line}: `{key}` is a key of every line, or given twice", path.display()));
                }
            }
        }
    }
    assert!(lines > 20, "lines are found: {lines}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
