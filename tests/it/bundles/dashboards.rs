//! The dashboards in `grafana/`: the rules of Grafana's dashboard linter, and that every name in them exists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{document, list, promql, word};
use crate::counterparts::Need;
use crate::{Case, trial};

const BOARDS: [(&str, &str, &[&str]); 3] = [
    ("grafana/dashboards/fleet.json", "lookout-fleet", &["job", "instance", "project", "agent"]),
    ("grafana/dashboards/runs.json", "lookout-runs", &["job", "instance", "project", "agent"]),
    ("grafana/dashboards/sidecar.json", "lookout-sidecar", &["job", "instance"]),
];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("grafana: dashboards can be provisioned", &[], boards_can_be_provisioned),
        trial("grafana: variables follow the linter's rules", &[], variables_follow_the_rules),
        trial("grafana: panels have descriptions and do not overlap", &[], panels_are_described_and_apart),
        trial("grafana: every name in a query exists", &[], names_exist),
        trial("grafana: every query is PromQL", &[Need::Promtool], queries_parse),
        trial("grafana: provisioning refers to existing data source and dashboards", &[], provisioning_fits),
    ]
}

/// The panels that draw something.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(board, "panels").iter().filter(|panel| word(panel, "type") != "row")
}

/// Every query of a dashboard, with its panel's title.
fn queries(board: &Value) -> impl Iterator<Item = (&str, &Value)> {
    panels(board).flat_map(|panel| list(panel, "targets").iter().map(|target| (word(panel, "title"), target)))
}

/// Every query of all dashboards as Prometheus sees it, with its panel's title.
pub(super) fn filled() -> Vec<(String, String)> {
    let boards: Vec<Value> = BOARDS.iter().map(|(path, ..)| document(path)).collect();
    boards.iter().flat_map(queries).map(|(title, target)| (title.to_owned(), fill(word(target, "expr")))).collect()
}

/// A query as Prometheus sees it.
fn fill(query: &str) -> String {
    let mut filled = query.to_owned();
    for (variable, value) in [
        ("$__rate_interval", "1m"),
        ("$__range", "1h"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$project", ".+"),
        ("$agent", ".+"),
    ] {
        filled = filled.replace(variable, value);
    }
    filled
}

fn boards_can_be_provisioned() {
    let known: BTreeSet<&str> = BOARDS.iter().map(|(path, ..)| *path).collect();
    let found: BTreeSet<String> =
        crate::tidy::files("grafana/dashboards").iter().map(|path| path.display().to_string()).collect();
    assert!(found.iter().map(String::as_str).eq(known), "dashboards that no test holds: {found:?}");
    for (path, uid, _) in BOARDS {
        let board = document(path);
        assert_eq!(board["uid"], uid, "{path}");
        assert_eq!(board.get("id"), Some(&Value::Null), "{path}: an id belongs to one Grafana");
        assert_eq!(board["editable"], false, "{path}: what is provisioned is not edited in place");
        assert_eq!(board["schemaVersion"], 42, "{path}");
        assert!(board.get("__inputs").is_none(), "{path}: inputs break provisioning from files");
        assert!(!list(&board, "tags").is_empty() && !word(&board, "title").is_empty(), "{path}: tags and title");
        for link in list(&board, "links") {
            let target = word(link, "url").trim_start_matches("/d/");
            assert!(BOARDS.iter().any(|(_, uid, _)| *uid == target), "{path}: a link to `{target}`");
        }
    }
}

fn variables_follow_the_rules() {
    for (path, _, expected) in BOARDS {
        let board = document(path);
        let [source, variables @ ..] = list(&board["templating"], "list") else { panic!("{path}: no variables") };
        assert_eq!(
            [word(source, "name"), word(source, "type"), word(source, "query"), word(source, "label")],
            ["datasource", "datasource", "prometheus", "Data source"],
            "{path}"
        );
        assert!(variables.iter().map(|variable| word(variable, "name")).eq(expected.iter().copied()), "{path}");
        for variable in variables {
            let name = word(variable, "name");
            assert_eq!(word(variable, "type"), "query", "{path}: {name}");
            assert_eq!(variable["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{path}: {name}");
            assert_eq!(variable["refresh"], 2, "{path}: {name} reloads when the time changes");
            assert_eq!([&variable["multi"], &variable["includeAll"]], [true, true], "{path}: {name}");
            assert_eq!(variable["allValue"], ".+", "{path}: {name}");
            let query = word(&variable["query"], "query");
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) =
                inside.and_then(|inside| inside.rsplit_once(", ")).expect("label_values(series, label)");
            let names = promql::names(series);
            assert_eq!(promql::faults(series, &BTreeSet::new()), [""; 0], "{path}: {name}");
            let labels = super::families::labels_of(&names.selectors[0].name).expect("a known metric");
            assert!(
                ["job", "instance"].contains(&label) || labels.contains(&label),
                "{path}: {name} asks for `{label}`"
            );
            assert_eq!(word(variable, "definition"), query, "{path}: {name}");
        }
    }
}

fn panels_are_described_and_apart() {
    let mut wrong = Vec::new();
    for (path, ..) in BOARDS {
        let board = document(path);
        let mut ids = BTreeSet::new();
        let mut covered = BTreeSet::new();
        for panel in list(&board, "panels") {
            let title = word(panel, "title");
            let mut fault = |text: &str| wrong.push(format!("{path}: panel `{title}` {text}"));
            if title.is_empty() {
                fault("has no title");
            }
            if !ids.insert(panel["id"].as_u64().expect("a panel's id")) {
                fault("shares its id");
            }
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a panel's place"));
            if w == 0 || h == 0 || x + w > 24 {
                fault("leaves the grid");
            }
            let cells = (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row)));
            if cells.filter(|cell| !covered.insert(*cell)).count() > 0 {
                fault("covers another");
            }
            if word(panel, "type") == "row" {
                continue;
            }
            if !word(panel, "description").ends_with('.') {
                fault("has no description");
            }
            if word(&panel["fieldConfig"]["defaults"], "unit").is_empty() {
                fault("has no unit");
            }
            let source = json!({"type": "prometheus", "uid": "${datasource}"});
            let targets = list(panel, "targets");
            if targets.is_empty()
                || panel["datasource"] != source
                || targets.iter().any(|one| one["datasource"] != source)
            {
                fault("does not ask the chosen data source");
            }
            let refs: BTreeSet<&str> = targets.iter().map(|target| word(target, "refId")).collect();
            if refs.len() != targets.len() {
                fault("has two queries of one name");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn names_exist() {
    let mut wrong = Vec::new();
    for (path, _, variables) in BOARDS {
        let board = document(path);
        for (title, target) in queries(&board) {
            let query = word(target, "expr");
            let mut fault = |text: String| wrong.push(format!("{path}: `{title}`: {text}"));
            promql::faults(query, &BTreeSet::new()).into_iter().for_each(&mut fault);
            let names = promql::names(query);
            for selector in &names.selectors {
                let name = &selector.name;
                let has = |label: &str, value: &str| {
                    selector
                        .matchers
                        .iter()
                        .any(|(one, operator, text)| one == label && operator == "=~" && text == value)
                };
                let labels = super::families::labels_of(name).unwrap_or_default();
                for (variable, label) in
                    [("job", "job"), ("instance", "instance"), ("project", "project"), ("agent", "agent_name")]
                {
                    let applies = ["job", "instance"].contains(&label) || labels.contains(&label);
                    if applies && variables.contains(&variable) && !has(label, &format!("${variable}")) {
                        fault(format!("`{name}` does not follow ${variable}"));
                    }
                }
                let window = selector.window.as_deref().unwrap_or("$__rate_interval");
                if selector.function != "increase" && window != "$__rate_interval" {
                    fault(format!("`{name}` over {window}; a rate follows $__rate_interval"));
                }
            }
            // A legend that names a label which the query drops would be blank.
            for label in word(target, "legendFormat").split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                if !names.grouping.contains(label.0) {
                    fault(format!("the legend names `{}`, and the query has no such label", label.0));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn queries_parse() {
    let filled: Vec<String> = filled().into_iter().map(|(_, query)| query).collect();
    assert!(filled.iter().all(|query| !query.contains('$')), "a variable that is not filled: {filled:#?}");
    promql::must_parse(filled.iter().map(String::as_str));
}

fn provisioning_fits() {
    let sources = document("grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(word(&list(&sources, "datasources")[0], "type"), "prometheus");
    let providers = document("grafana/provisioning/dashboards/lookout.yml");
    let inside = word(&list(&providers, "providers")[0]["options"], "path").to_owned();
    let compose = document("deploy/compose.yaml");
    let mounts: Vec<&str> = list(&compose["services"]["grafana"], "volumes").iter().filter_map(Value::as_str).collect();
    for mount in [
        format!("../grafana/dashboards:{inside}:ro"),
        "../grafana/provisioning:/etc/grafana/provisioning:ro".to_owned(),
    ] {
        assert!(mounts.contains(&mount.as_str()), "the compose file does not mount {mount}: {mounts:?}");
    }
}
