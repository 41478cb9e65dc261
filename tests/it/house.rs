//! The layers of the crate: which module may import from which, and that there are no circular imports.
//!
//! Reads `use` lines and paths as text; it does not parse Rust.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tidy::{code, rust_files};
use crate::{Case, trial};

/// The layers from the lowest to the highest. A module imports from lower layers, and from modules of its own layer only
/// as [`WITHIN`] lists.
const LAYERS: [&[&str]; 10] = [
    &["text", "clock", "model", "decode", "files", "secret", "http_client", "written"],
    &["ingest", "otlp", "profiles", "fleet", "rules", "alerts", "runs", "enforcement", "notify", "metrics", "store"],
    &["export"],
    &["config"],
    &["machine"],
    &["engine"],
    &["server"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Modules that may import from others of their layer, with those others.
const WITHIN: [(&str, &[&str]); 7] = [
    ("clock", &["text"]),
    ("model", &["clock", "text"]),
    ("decode", &["model", "text"]),
    ("secret", &["files", "text"]),
    ("http_client", &["clock", "files", "secret", "text"]),
    ("written", &["model", "secret", "text"]),
    ("profiles", &["otlp"]),
];

/// Known cycles among modules of one folder, each as its modules. The list only shrinks.
const CIRCLES: &[&[&str]] = &[];

pub(crate) fn trials() -> Vec<Case> {
    let mut trials = vec![
        trial("house: a module imports only from layers above it", &[], modules_import_from_lower_layers),
        trial("house: every module belongs to a layer", &[], every_module_has_a_layer),
        trial("house: modules have no circular imports", &[], no_circular_imports),
        trial("house: the fleet changes agents only through the method that records it", &[], changed_agents_are_noted),
        trial("house: the check finds imports and cycles", &[], the_check_finds_imports_and_cycles),
    ];
    trials.extend(words::trials());
    trials
}

/// The module of a file of `src`, as segments of its path; the crate's root has none.
pub(crate) fn module(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix("src").expect("a file of src").with_extension("");
    let segments: Vec<String> = inside.iter().map(|segment| segment.to_string_lossy().into_owned()).collect();
    if segments == ["lib"] { Vec::new() } else { segments }
}

/// The top-level module that a file belongs to.
pub(crate) fn part(module: &[String]) -> String {
    module.first().cloned().unwrap_or_default()
}

fn may_import(part: &str, other: &str) -> bool {
    let line = |part: &str| LAYERS.iter().position(|parts| parts.contains(&part));
    let is_listed = || WITHIN.iter().any(|(from, to)| *from == part && to.contains(&other));
    match (line(part), line(other)) {
        (Some(own), Some(theirs)) => part == other || theirs < own || theirs == own && is_listed(),
        _ => false,
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of the path at the start of `text`.
fn end_of_path(text: &str) -> usize {
    let mut end = 0;
    for (at, letter) in text.char_indices() {
        if !is_word(letter) && letter != ':' {
            break;
        }
        end = at + letter.len_utf8();
    }
    end
}

/// The paths of the `use` tree, or the one path, at the start of `text`, each with `prefix`.
fn paths(prefix: &[&str], text: &str, found: &mut Vec<Vec<String>>) {
    let end = end_of_path(text);
    let mut path: Vec<&str> = prefix.to_vec();
    path.extend(text[..end].split("::").filter(|segment| !segment.is_empty()));
    let rest = &text[end..];
    if !text[..end].ends_with("::") || !rest.starts_with('{') {
        return found.push(path.into_iter().map(str::to_owned).collect());
    }
    let (mut depth, mut start) = (0, 1);
    for (at, letter) in rest.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' if depth == 1 => {
                paths(&path, rest[start..at].trim(), found);
                start = at + 1;
            }
            '}' if depth == 1 => {
                if !rest[start..at].trim().is_empty() {
                    paths(&path, rest[start..at].trim(), found);
                }
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// The paths in a file of `module`, from the crate's root.
fn imports(module: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let code: String = code(text).flat_map(|(_, line)| [line, "\n"]).collect();
    let mut found = Vec::new();
    for start in ["crate::", "lookout::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            if !code[..at].chars().next_back().is_some_and(|letter| is_word(letter) || letter == ':') {
                paths(&[], &code[at..], &mut found);
            }
        }
    }
    found.into_iter().filter_map(|path| from_root(module, &path)).collect()
}

/// `path` in a file of `module`, from the crate's root.
fn from_root(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut place = match path.first().map(String::as_str)? {
        "crate" | "lookout" => Vec::new(),
        _ => module.to_vec(),
    };
    for segment in path {
        match segment.as_str() {
            "crate" | "lookout" | "self" => {}
            "super" => drop(place.pop()?),
            _ => place.push(segment.clone()),
        }
    }
    Some(place)
}

/// Every module of the crate with its text, without tests, which may import anything.
fn modules() -> BTreeMap<Vec<String>, String> {
    let all = rust_files("src").filter(|(path, _)| {
        !path.iter().any(|segment| segment.to_string_lossy().trim_end_matches(".rs").ends_with("tests"))
    });
    all.map(|(path, text)| {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        (module(&path), code)
    })
    .collect()
}

/// The deepest of `modules` that `path` leads to.
fn deepest<'a>(modules: &'a BTreeMap<Vec<String>, String>, path: &[String]) -> Option<&'a Vec<String>> {
    (0..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length]).map(|(module, _)| module))
}

fn modules_import_from_lower_layers() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (from, text) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        let parts: BTreeSet<String> = imports(from, text).iter().map(|path| part(path)).collect();
        let is_module = |name: &String| LAYERS.iter().any(|line| line.contains(&name.as_str()));
        for other in parts.iter().filter(|other| is_module(other) && !may_import(&part(from), other)) {
            wrong.push(format!("{}: `{}` imports from `{other}`", from.join("::"), part(from)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn every_module_has_a_layer() {
    let parts: BTreeSet<String> = modules().keys().filter(|module| !module.is_empty()).map(|it| part(it)).collect();
    let named: BTreeSet<String> = LAYERS.iter().flat_map(|line| *line).map(|part| (*part).to_owned()).collect();
    assert_eq!(parts, named, "the modules of `src` and those of the layers");
}

/// For each folder of modules, the imports among its modules.
fn arrows(modules: &BTreeMap<Vec<String>, String>) -> BTreeMap<(Vec<String>, String), BTreeSet<String>> {
    let mut arrows: BTreeMap<(Vec<String>, String), BTreeSet<String>> = BTreeMap::new();
    for (from, text) in modules {
        for to in imports(from, text).iter().filter_map(|path| deepest(modules, path)) {
            let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                arrows.entry((from[..shared].to_vec(), one.clone())).or_default().insert(other.clone());
            }
        }
    }
    arrows
}

/// Everything reachable from `start` within its folder.
fn reached(
    arrows: &BTreeMap<(Vec<String>, String), BTreeSet<String>>,
    folder: &[String],
    start: &str,
) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![start.to_owned()]);
    while let Some(next) = open.pop() {
        for other in arrows.get(&(folder.to_vec(), next)).into_iter().flatten() {
            if seen.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    seen
}

/// Cycles of modules that import each other, by their full names.
fn circles(modules: &BTreeMap<Vec<String>, String>) -> BTreeSet<Vec<String>> {
    let arrows = arrows(modules);
    let mut circles = BTreeSet::new();
    for (folder, module) in arrows.keys() {
        let from_here = reached(&arrows, folder, module);
        if from_here.contains(module) {
            let is_back = |other: &&String| reached(&arrows, folder, other).contains(module);
            let name = |name: &String| [&folder[..], std::slice::from_ref(name)].concat().join("::");
            circles.insert(from_here.iter().filter(is_back).map(name).collect());
        }
    }
    circles
}

fn no_circular_imports() {
    let found = circles(&modules());
    let listed: BTreeSet<Vec<String>> =
        CIRCLES.iter().map(|circle| circle.iter().map(|name| (*name).to_owned()).collect()).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(new.is_empty(), "modules import each other: {new:#?}");
    assert!(gone.is_empty(), "no cycle any more, remove it from the list: {gone:#?}");
}

/// An agent that is not recorded as changed is neither saved nor evaluated.
fn changed_agents_are_noted() {
    for (path, text) in
        rust_files("src").filter(|(path, _)| path.starts_with("src/fleet") || path.ends_with("fleet.rs"))
    {
        let at = code(&text).find(|(_, line)| line.contains("agents.get_mut("));
        assert_eq!(at, None, "{}: get an agent to change from `changes.agent(…)`", path.display());
    }
}

fn the_check_finds_imports_and_cycles() {
    let text = "use crate::{model::{Time, x::store}, fleet as f};\n// use crate::app;\nlet a = super::super::cli::run;\n\
                use super::rules;\nmy_crate::server::x(); lookout::engine::Handle";
    let module = ["a", "b"].map(str::to_owned);
    let named: Vec<String> = imports(&module, text).iter().map(|path| path.join("::")).collect();
    assert_eq!(named, ["a::rules", "cli::run", "engine::Handle", "fleet", "model::Time", "model::x::store"]);
    assert!(may_import("engine", "fleet") && may_import("profiles", "otlp") && may_import("main", "cli"));
    assert!(!may_import("fleet", "rules") && !may_import("fleet", "engine") && !may_import("otlp", "profiles"));
    let texts = [
        ("a", "use crate::b::c::D;"),
        ("b", "mod c; pub use c::D; use crate::e::F;"),
        ("b::c", "use super::g::H;"),
        ("b::g", "use super::c::D;"),
        ("e", ""),
    ];
    let modules = texts.map(|(name, text)| (name.split("::").map(str::to_owned).collect(), text.to_owned()));
    let found: Vec<String> = circles(&modules.into()).iter().map(|circle| circle.join(" ")).collect();
    assert_eq!(found, ["b::c b::g"]);
}
