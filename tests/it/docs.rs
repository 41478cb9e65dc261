//! The documentation held to the program: its tables, its snippets, its commands, its links and its lines.
//!
//! Snippets are run page by page, see `docs/snippets.rs`; tables are compared with the program, see `docs/tables.rs`.

mod markdown;
mod snippets;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout::fleet::SERIES_PER_AGENT;
use lookout::rules::compile::RuleSettings;

use crate::{Case, tidy, trial};

/// The longest line of prose in `docs/`, in characters: one sentence is one line.
const LONGEST_SENTENCE: usize = 200;
/// The longest line of the README, and how many lines it may have.
const LONGEST_LINE: usize = 120;
const MOST_LINES: usize = 200;

/// Where files of the repository are on the web, for links out of the book.
const REPOSITORY: &str = "https://github.com/lookout-agents/lookout/";

pub(crate) fn trials() -> Vec<Case> {
    let own = vec![
        trial("docs: the README is short, and lines are", &[], lines_are_short),
        trial("docs: the book contains every page, and its links to other files are addresses", &[], the_book_is_whole),
        trial("docs: addresses of files in the repository lead to files", &[], addresses_lead_to_files),
        trial("docs: numbers of series and rules are those of the program", &[], numbers_are_true),
    ];
    [own, tables::trials(), snippets::trials()].into_iter().flatten().collect()
}

/// The pages whose snippets and tables are held to the program.
fn pages() -> Vec<PathBuf> {
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut pages: Vec<PathBuf> = tidy::files("docs").into_iter().filter(is_markdown).collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from));
    pages
}

fn text(page: &Path) -> String {
    tidy::text(page).expect("Markdown is text")
}

fn lines_are_short() {
    let mut wrong = Vec::new();
    let readme = text(Path::new("README.md"));
    if readme.lines().count() > MOST_LINES {
        wrong.push(format!("README.md: has {} lines, more than {MOST_LINES}", readme.lines().count()));
    }
    for page in pages() {
        let is_readme = page == Path::new("README.md");
        let longest = if is_readme { LONGEST_LINE } else { LONGEST_SENTENCE };
        let page_text = text(&page);
        for (at, line, is_code) in markdown::lines(&page_text) {
            let prose =
                line.split("](").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect::<String>();
            let length = if is_readme { line.chars().count() } else { prose.chars().count() };
            // A row of a table and a quoted point cannot be broken.
            let may_be_long = !is_readme && (is_code || line.starts_with('|') || line.starts_with("- "));
            if length > longest && !may_be_long {
                wrong.push(format!("{}:{at}: has {length} characters, more than {longest}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn the_book_is_whole() {
    let summary = text(Path::new("docs/SUMMARY.md"));
    let listed: BTreeSet<PathBuf> = markdown::links(&summary).iter().map(|link| Path::new("docs").join(link)).collect();
    let mut wrong = Vec::new();
    for page in pages().into_iter().filter(|page| page.starts_with("docs")) {
        if !listed.contains(&page) && page != Path::new("docs/SUMMARY.md") {
            wrong.push(format!("{}: is not in docs/SUMMARY.md", page.display()));
        }
        // Links within the book are relative; those to other files would lead nowhere once it is built.
        let depth = page.components().count() - 2;
        for link in markdown::links(&text(&page)) {
            if link.matches("../").count() > depth {
                wrong
                    .push(format!("{}: `{link}` leads out of the book; write {REPOSITORY}blob/main/…", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn addresses_lead_to_files() {
    let mut wrong = Vec::new();
    for page in pages() {
        for link in markdown::links(&text(&page)) {
            let Some(path) = link.strip_prefix(REPOSITORY) else { continue };
            let path = path.strip_prefix("blob/main/").or_else(|| path.strip_prefix("tree/main/")).unwrap_or(path);
            if !tidy::root().join(path.split('#').next().unwrap_or_default()).exists() {
                wrong.push(format!("{}: `{link}` leads nowhere", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn numbers_are_true() {
    let shown = format!("({SERIES_PER_AGENT} per agent)");
    assert!(text(Path::new("docs/troubleshooting.md")).contains(&shown), "troubleshooting does not contain `{shown}`");
    let shown = format!("An agent counts for {SERIES_PER_AGENT} series");
    assert!(text(Path::new("docs/operations.md")).contains(&shown), "operations does not contain `{shown}`");
    let settings = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    let rules = lookout::rules::built_in(settings).expect("good rules").descriptions().count();
    let shown = format!("{rules} built-in [rules]");
    assert!(text(Path::new("README.md")).contains(&shown), "the README does not contain `{shown}`");
}
