//! Tables of the documentation, held to the program: those between `<!-- generated: NAME -->` and `<!-- end -->`.
//!
//! What the program knows comes from the program: names, types, defaults, thresholds, and texts where it has some for
//! people. Where it has none, the last column is written by hand: it is kept, and must not be empty. With
//! `LOOKOUT_UPDATE_DOCS=1` the tables are rewritten in place of being compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::CommandFactory as _;
use lookout::cli::Cli;
use lookout::config::{ConfigSource, Environment};
use lookout::metrics::FAMILIES;
use lookout::model::Level;
use lookout::rules::compile::RuleSettings;
use lookout::rules::{ForEach, Indicator, Measure, as_count, as_duration, as_percent};
use serde_json::{Value, json};

use super::markdown::{cells, generated, with_generated};
use super::{pages, text};
use crate::program::Setup;
use crate::{Case, tidy, trial};

/// A key that no section has, and that is like none.
const UNKNOWN: &str = "qqqqqqqqq";

/// Sections that have the keys of another one, which is shown.
const AS_ANOTHER: [&str; 2] = ["budgets.tokens_per_day", "budgets.cost_usd_per_day"];

pub(super) fn trials() -> Vec<Case> {
    vec![trial("docs: tables are those of the program", &[], tables_are_true)]
}

fn tables_are_true() {
    let is_update = std::env::var_os("LOOKOUT_UPDATE_DOCS").is_some_and(|value| value == "1");
    let program = Program { setup: Setup::new("").env("COLUMNS", "100") };
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for page in pages() {
        let mut page_text = text(&page);
        for (name, inside) in generated(&page_text) {
            let expected = program.table(&name, &inside);
            for row in expected.lines().filter(|row| row.starts_with('|')).skip(2) {
                if cells(row).last().is_none_or(String::is_empty) {
                    wrong.push(format!("{}: `{name}`: the meaning is missing in: {row}", page.display()));
                }
            }
            if is_update {
                page_text = with_generated(&page_text, &name, &expected);
            } else if inside != expected {
                let [is, must_be] =
                    [&inside, &expected].map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
                let gone = is.iter().filter(|line| !must_be.contains(line)).map(|line| format!("- {line}"));
                let new = must_be.iter().filter(|line| !is.contains(line)).map(|line| format!("+ {line}"));
                let lines: Vec<String> = gone.chain(new).collect();
                wrong.push(format!("{}: `{name}` is not what the program has:\n{}", page.display(), lines.join("\n")));
            }
            found.push(name);
        }
        if is_update {
            std::fs::write(tidy::root().join(&page), page_text).expect("a page");
        }
    }
    for name in program.tables() {
        if !found.contains(&name) {
            wrong.push(format!("no page has the table `{name}`"));
        }
    }
    assert!(wrong.is_empty(), "{}\nLOOKOUT_UPDATE_DOCS=1 rewrites the tables", wrong.join("\n"));
}

/// The program, asked for what it knows.
struct Program {
    setup: Setup,
}

impl Program {
    /// The tables that some page must have.
    fn tables(&self) -> Vec<String> {
        let mut tables: Vec<String> =
            ["metrics", "routes", "rules", "signals", "commands", "help", "keys", "rule-keys", "receiver-keys"]
                .map(str::to_owned)
                .to_vec();
        tables.extend(self.sections("").into_iter().map(|path| format!("keys {path}")));
        tables
    }

    /// The lines between the marks of `name`, which has `inside` now.
    fn table(&self, name: &str, inside: &str) -> String {
        match name {
            "metrics" => metrics(),
            "routes" => self.routes(),
            "reject-reasons" => by_hand(inside, &self.values("lookout_rejected_total", "reason"), &BTreeMap::new()),
            "rules" => rules(inside),
            "signals" => signals(inside),
            "commands" => commands(),
            "help" => self.help(),
            "drop-attributes" => self.dropped_attributes(),
            "receiver-keys" => self.by_key(inside, "receivers[]", &self.receiver_keys()),
            "rule-keys" => by_hand(inside, &self.known_in_rules(), &BTreeMap::new()),
            "rule-test-file-keys" => by_hand(inside, &self.known_in_tests(""), &BTreeMap::new()),
            "rule-test-keys" => by_hand(inside, &self.known_in_tests("tests[]"), &BTreeMap::new()),
            _ => {
                let path = name.strip_prefix("keys").unwrap_or_else(|| panic!("no table is called `{name}`")).trim();
                let keys = self.known(path).unwrap_or_else(|| panic!("`{path}` is not a section"));
                self.by_key(inside, path, &keys)
            }
        }
    }

    /// The output of `lookout check` for a configuration.
    fn check(&self, config: &str) -> String {
        let file = self.setup.write("probe.yaml", config);
        // Within this process, since there are hundreds of questions.
        let source = ConfigSource { file: Some(file), env: Environment::default() };
        source.load().err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.setup.command(arguments).output().expect("the program");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// The keys that the section at `path` has; none when it is no section. `receivers[]` is an entry of a list, `*` any key.
    fn known(&self, path: &str) -> Option<Vec<String>> {
        let mut probe = json!({UNKNOWN: 1});
        for part in path.rsplit('.').filter(|part| !part.is_empty()) {
            probe = match part.strip_suffix("[]") {
                Some(name) => json!({name: [probe]}),
                None => json!({part.replace('*', "any"): probe}),
            };
        }
        known_keys(&self.check(&probe.to_string()))
    }

    /// The sections beneath the one at `path` that have keys.
    fn sections(&self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        for key in self.known(path).unwrap_or_default() {
            // It may hold any section once more.
            if key == "profiles" {
                continue;
            }
            let inner = if path.is_empty() { key } else { format!("{path}.{key}") };
            for path in [inner.clone(), format!("{inner}[]"), format!("{inner}.*")] {
                // What all receivers and quiet hours have is shown elsewhere.
                let is_shown =
                    path != "receivers[]" && !path.ends_with("quiet_hours[]") && !AS_ANOTHER.contains(&&*path);
                if self.known(&path).is_some() {
                    found.extend(is_shown.then(|| path.clone()));
                    found.extend(self.sections(&path));
                    break;
                }
            }
        }
        found
    }

    /// The keys of a receiver that are not kinds, each of which has a page.
    fn receiver_keys(&self) -> Vec<String> {
        let has_page = |key: &String| tidy::root().join(format!("docs/receivers/{key}.md")).exists();
        self.known("receivers[]").expect("keys").into_iter().filter(|key| !has_page(key)).collect()
    }

    fn known_in_rules(&self) -> Vec<String> {
        self.setup.write("rules.yaml", &json!({"rules": [{"name": "Probe", UNKNOWN: 1}]}).to_string());
        let config = self.setup.write("probe.yaml", "rules: [rules.yaml]\n");
        known_keys(&self.printed(&["check", "--config", &config.display().to_string()])).expect("keys of a rule")
    }

    fn known_in_tests(&self, path: &str) -> Vec<String> {
        let probe = if path.is_empty() { json!({UNKNOWN: 1}) } else { json!({"tests": [{"name": "a", UNKNOWN: 1}]}) };
        let file = self.setup.write("probe.test.yaml", &probe.to_string());
        known_keys(&self.printed(&["test", "rules", &file.display().to_string()])).expect("keys of a test")
    }

    /// A table of keys with what they mean, and their defaults where the table has such a column.
    fn by_key(&self, inside: &str, path: &str, keys: &[String]) -> String {
        let mut defaults = BTreeMap::new();
        if !path.contains(['[', '*']) {
            let shown: Value = serde_saphyr::from_str(&self.printed(&["check", "--print"])).expect("YAML");
            let pointer = if path.is_empty() { String::new() } else { format!("/{}", path.replace('.', "/")) };
            for key in keys {
                // This is the test's own.
                let value = match (path, key.as_str()) {
                    ("otlp", "http") => Some(json!("127.0.0.1:4318")),
                    ("otlp", "grpc") => Some(json!("127.0.0.1:4317")),
                    _ => shown.pointer(&format!("{pointer}/{key}")).cloned(),
                };
                defaults.insert(key.clone(), value.map_or_else(String::new, |value| as_default(&value)));
            }
        }
        by_hand(inside, keys, &defaults)
    }

    fn dropped_attributes(&self) -> String {
        let shown: Value = serde_saphyr::from_str(&self.printed(&["check", "--print"])).expect("YAML");
        let globs = shown["otlp"]["drop_attributes"].as_array().expect("a list").clone();
        let globs: Vec<String> = globs.iter().map(|glob| format!("`{}`", glob.as_str().expect("text"))).collect();
        globs.chunks(6).map(|line| format!("{}\n", line.join(" "))).collect()
    }

    fn routes(&self) -> String {
        let lookout = Setup::new("").start();
        let document = lookout.get("/api/openapi.json").json();
        let mut table = "| route | role | meaning |\n|---|---|---|\n".to_owned();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let role = operation["security"][0]["bearer"][0].as_str().unwrap_or("none");
                let summary = operation["summary"].as_str().expect("a summary");
                table += &format!("| `{} {path}` | {role} | {summary} |\n", method.to_uppercase());
            }
        }
        table
    }

    /// The values of a label that a program which just started shows.
    fn values(&self, family: &str, label: &str) -> Vec<String> {
        let page = Setup::new("").start().get("/metrics").text().to_owned();
        let series = page.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        let values: BTreeSet<String> = series
            .filter_map(|line| Some(line.split_once(&format!("{label}=\""))?.1.split_once('"')?.0.to_owned()))
            .collect();
        values.into_iter().collect()
    }

    fn help(&self) -> String {
        let mut all = String::new();
        for (names, _) in tree() {
            let mut arguments: Vec<&str> = names.split(' ').collect();
            arguments.push("--help");
            let help = self.printed(&arguments);
            let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
            all += &format!("\n### lookout {names}\n\n```text\n{}\n```\n", help.join("\n"));
        }
        all + "\n"
    }
}

/// The words in backticks of the line that names the unknown key, which are the known ones.
fn known_keys(printed: &str) -> Option<Vec<String>> {
    let line = printed.lines().find(|line| line.contains(UNKNOWN) && line.contains("unknown key"))?;
    let (_, known) = line.split_once("unknown key")?;
    let words = known.split('`').skip(1).step_by(2).filter(|word| *word != UNKNOWN).map(str::to_owned);
    Some(words.collect())
}

/// A value of `check --print` as a default.
fn as_default(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if !items.is_empty() => format!("{} entries", items.len()),
        // A section.
        Value::Object(keys) if !keys.is_empty() => String::new(),
        other => format!("`{other}`"),
    }
}

/// The rows of `inside` for these keys, in order; a row may be for several. What is new has no meaning yet.
fn by_hand(inside: &str, keys: &[String], defaults: &BTreeMap<String, String>) -> String {
    let mut rows: Vec<Vec<String>> = inside.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    if rows.is_empty() {
        rows =
            [["key", "default", "meaning"], ["---", "---", "---"]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
    }
    let has_default = rows[0].iter().any(|cell| cell == "default");
    let mut written = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for row in rows.iter().skip(2) {
        let named: Vec<String> = row[0].split(", ").map(|key| key.trim_matches('`').to_owned()).collect();
        let left: Vec<&String> = named.iter().filter(|key| keys.contains(key) && !seen.contains(key)).collect();
        if left.is_empty() {
            continue;
        }
        let mut row = row.clone();
        row[0] = left.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        if let (true, Some(default), 1) = (has_default, defaults.get(left[0]), left.len()) {
            row[1].clone_from(default);
        }
        seen.extend(left.into_iter().cloned());
        written.push(row);
    }
    for key in keys.iter().filter(|key| !seen.contains(key)) {
        let mut row = vec![format!("`{key}`")];
        row.extend(has_default.then(|| defaults.get(key).cloned().unwrap_or_default()));
        row.push(String::new());
        written.push(row);
    }
    table(&[rows[0].clone()], &written)
}

fn table(head: &[Vec<String>], rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") }).collect();
        format!("|{}|\n", cells.join("|"))
    };
    let ruler = |row: &Vec<String>| format!("|{}\n", "---|".repeat(row.len()));
    head.iter().map(line).chain(head.iter().map(ruler)).chain(rows.iter().map(line)).collect()
}

/// The meaning of each row that there is, by its first cell.
fn meanings(inside: &str) -> BTreeMap<String, String> {
    let rows = inside.lines().filter(|line| line.starts_with('|')).map(cells);
    rows.filter_map(|row| Some((row.first()?.clone(), row.last()?.clone()))).collect()
}

fn metrics() -> String {
    let mut rows = Vec::new();
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [&*format!("`{}`", family.name), family.kind.as_str(), &*labels.join(", "), family.help];
        rows.push(row.map(|cell| cell.replace('|', "\\|")).to_vec());
    }
    table(&[["family", "type", "labels", "meaning"].map(str::to_owned).to_vec()], &rows)
}

fn rules(inside: &str) -> String {
    let meanings = meanings(inside);
    let settings = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    let rules = lookout::rules::built_in(settings).expect("good rules");
    let mut rows = Vec::new();
    for rule in rules.descriptions() {
        let name = format!("`{}`", rule.name);
        let level = |(level, value): &(Level, f64)| match rule.usual {
            Some(usual) => format!("{level} {} × {usual}", as_count(Some(*value))),
            None => format!("{level} {}", as_threshold(&rule.value, *value)),
        };
        let levels: Vec<String> = rule.levels.iter().map(level).collect();
        let hold = if rule.hold.is_zero() { String::new() } else { as_duration(Some(rule.hold.as_secs_f64())) };
        let meaning = meanings.get(&name).cloned().unwrap_or_default();
        let row = vec![name, subject(rule.for_each), levels.join(", "), hold, meaning];
        rows.push(row);
    }
    let head = ["rule", "for each", "levels", "for", "what is compared"];
    table(&[head.map(str::to_owned).to_vec()], &rows)
}

fn as_threshold(measure: &Measure, value: f64) -> String {
    match measure {
        Measure::Ratio(..) => as_percent(Some(value)),
        Measure::Now(input) | Measure::Average(input, _) => {
            let indicator = input.indicator;
            let word = indicator.name();
            match indicator.words().get(value as usize) {
                Some(text) => format!("`{text}`"),
                None if word.ends_with("_seconds") => as_duration(Some(value)),
                None if word == "agents_missing" => as_duration(Some(value)),
                None if word.ends_with("_ratio") && word != "token_velocity_ratio" => as_percent(Some(value)),
                None if word == "token_velocity_ratio" => format!("{} ×", as_count(Some(value))),
                None => as_count(Some(value)),
            }
        }
        Measure::Increase(..) | Measure::Rate(..) => as_count(Some(value)),
    }
}

/// The word of a rule file for what a rule is evaluated for.
fn subject(for_each: ForEach) -> String {
    format!("{for_each:?}").to_lowercase()
}

fn signals(inside: &str) -> String {
    let meanings = meanings(inside);
    let mut rows = Vec::new();
    for indicator in Indicator::ALL {
        let name = format!("`{}`", indicator.name());
        let subjects: Vec<String> = indicator.for_each().into_iter().map(subject).collect();
        rows.push(vec![name.clone(), subjects.join(", "), meanings.get(&name).cloned().unwrap_or_default()]);
    }
    table(&[["signal", "for each", "meaning"].map(str::to_owned).to_vec()], &rows)
}

/// The commands with what they do, subcommands in place of their parents.
fn tree() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for command in Cli::command().get_subcommands() {
        let about = |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        let inner: Vec<&clap::Command> = command.get_subcommands().collect();
        if inner.is_empty() {
            found.push((command.get_name().to_owned(), about(command)));
        }
        found.extend(inner.iter().map(|one| (format!("{} {}", command.get_name(), one.get_name()), about(one))));
    }
    found
}

fn commands() -> String {
    let anchor = |names: &str| format!("lookout-{}", names.replace(' ', "-"));
    let rows: Vec<Vec<String>> = tree()
        .into_iter()
        .map(|(names, about)| vec![format!("[`lookout {names}`](#{})", anchor(&names)), about])
        .collect();
    table(&[["command", "does"].map(str::to_owned).to_vec()], &rows)
}
