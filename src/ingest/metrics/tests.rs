//! Tests of `ingest::metrics`.

use proptest::prelude::*;

use super::*;

/// The metrics of `body`, as `project/subject name kind labels value`.
fn read(body: &str) -> (Vec<String>, Vec<Rejected>) {
    let batch = decode_metrics(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let one = |it: &CustomUpdate| {
        let labels: Vec<String> = it.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let subject = it.agent.as_deref().or(it.component.as_deref()).unwrap_or_default();
        format!(
            "{}/{subject} {} {} [{}] {}",
            it.project.as_deref().unwrap_or_default(),
            it.name,
            it.kind.as_str(),
            labels.join(","),
            it.value
        )
    };
    (batch.metrics.iter().map(one).collect(), batch.rejected)
}

fn check(body: &str, expected: &[&str]) {
    let (metrics, rejected) = read(body);
    assert_eq!(metrics, expected, "{body}");
    assert!(rejected.is_empty(), "{body}: {rejected:?}");
}

fn check_rejected(item: &str, field: &str, reason: &str, part: &str) {
    let (metrics, rejected) = read(&format!(r#"[{{"name":"a","value":1}},{item},{{"name":"b","value":2}}]"#));
    assert_eq!(metrics, ["/ a gauge [] 1", "/ b gauge [] 2"], "{item}: its neighbours are accepted");
    let [one] = rejected.as_slice() else { panic!("{item}: {rejected:?}") };
    assert_eq!((one.list, one.index, one.field, one.reason.as_str()), ("metrics", Some(1), field, reason), "{item}");
    assert!(one.error.contains(part), "{item}: {}", one.error);
}

#[test]
fn a_body_is_one_metric_a_list_or_an_object_of_them() {
    check(r#"{"name": "pool_size", "value": 5}"#, &["/ pool_size gauge [] 5"]);
    check(
        r#"[{"metric": "poolSize", "value": 5.5, "labels": {"Pool": "a", "n": 1, "up": true}, "agent": "w"}]"#,
        &["/w pool_size gauge [n=1,pool=a,up=true] 5.5"],
    );
    check(
        r#"{"metrics": [{"name": "jobs", "kind": "counter", "value": 2, "project": "b"}, {"name": "x", "value": -1}],
            "project": "shop", "agent_name": "w", "labels": {"zone": "eu"}, "ttl": "5m"}"#,
        &["b/w jobs counter [zone=eu] 2", "shop/w x gauge [zone=eu] -1"],
    );
    check(
        r#"{"project": "shop", "component": "db", "metrics": {"open.connections": 7, "jobs_total": {"value": 3}}}"#,
        &["shop/db open_connections gauge [] 7", "shop/db jobs counter [] 3"],
    );
    check("[]", &[]);
    // One for all metrics is not meant for counters of agents.
    let shared =
        r#"{"agent": "w", "ttl": "5m", "metrics": [{"name": "a", "value": 1}, {"name": "b_total", "value": 1}]}"#;
    let ttls: Vec<_> = decode_metrics(shared).expect("a body").metrics.iter().map(|metric| metric.ttl).collect();
    assert_eq!(ttls, [Some(Duration::from_secs(300)), None]);
    let ttl = decode_metrics(r#"{"name": "a", "value": 1, "ttl": 90}"#).expect("a body").metrics[0].ttl;
    assert_eq!(ttl, Some(Duration::from_secs(90)));
}

#[test]
fn a_counter_ends_in_total_once() {
    for name in ["jobs", "jobs_total", "jobs.total", "orchestrator_custom_jobs_total"] {
        check(&format!(r#"{{"name": "{name}", "value": 1, "kind": "counter"}}"#), &["/ jobs counter [] 1"]);
    }
    check(r#"{"name": "jobs_total", "value": 1}"#, &["/ jobs counter [] 1"]);
}

#[test]
fn an_invalid_metric_is_rejected_alone() {
    for (item, field, reason, part) in [
        ("3", "", "value", "a metric is 3; it must be an object"),
        (r#"{"value": 1}"#, "name", "name", "without `name`"),
        (r#"{"name": 5, "value": 1}"#, "name", "name", "it must be text"),
        (r#"{"name": "…", "value": 1}"#, "name", "name", "no letter or digit"),
        (r#"{"name": "a\u0007b", "value": 1}"#, "name", "name", "control characters"),
        (r#"{"name": "x_created", "value": 1}"#, "name", "name", "OpenMetrics"),
        (r#"{"name": "x_total", "kind": "gauge", "value": 1}"#, "name", "name", "only counters end in `_total`"),
        (r#"{"name": "x"}"#, "value", "value", "`value` is null"),
        (r#"{"name": "x", "value": "5"}"#, "value", "value", "`value` is `5`"),
        (r#"{"name": "x", "value": "NaN"}"#, "value", "value", "a finite number"),
        (r#"{"name": "x", "value": [1]}"#, "value", "value", "`value` is a list"),
        (r#"{"name": "x", "value": -1, "kind": "counter"}"#, "value", "value", "0 or more"),
        (r#"{"name": "x", "value": 1, "kind": "histogram"}"#, "kind", "value", "use one of gauge, counter"),
        (r#"{"name": "x", "value": 1, "kind": "couter"}"#, "kind", "value", "did you mean `counter`"),
        (r#"{"name": "x", "value": 1, "labels": [1]}"#, "labels", "value", "`labels` is a list"),
        (r#"{"name": "x", "value": 1, "labels": {"agentName": "b"}}"#, "labels", "labels", "set by lookout"),
        (r#"{"name": "x", "value": 1, "labels": {"job": "b"}}"#, "labels", "labels", "set by lookout or Prometheus"),
        (r#"{"name": "x", "value": 1, "labels": {"…": "b"}}"#, "labels", "labels", "no valid name"),
        (r#"{"name": "x", "value": 1, "labels": {"a.b": "1", "a-b": "2"}}"#, "labels", "labels", "two labels"),
        (r#"{"name": "x", "value": 1, "labels": {"a": ""}}"#, "labels", "labels", "is empty"),
        (r#"{"name": "x", "value": 1, "labels": {"a": {}}}"#, "labels", "labels", "is an object"),
        (r#"{"name": "x", "value": 1, "agent": "a", "component": "b"}"#, "component", "value", "name one of them"),
        (r#"{"name": "x", "value": 1, "agent": ""}"#, "agent", "name", "`agent`"),
        (r#"{"name": "x", "value": 1, "project": 7}"#, "project", "name", "`project`"),
        (
            r#"{"name": "x", "value": 1, "labels": {"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}}"#,
            "labels",
            "labels",
            "more than 8 labels",
        ),
    ] {
        check_rejected(item, field, reason, part);
    }
    let (metrics, rejected) = read(r#"{"name": "x", "value": 1, "ttl": "soon"}"#);
    assert_eq!((metrics.len(), rejected[0].field), (1, "ttl"), "an invalid `ttl` costs itself only");
}

#[test]
fn what_is_no_batch_is_rejected_as_a_whole() {
    for (body, part) in [
        ("3", "the body is 3"),
        (r#""x""#, "the body is `x`"),
        ("{}", "no metrics; send"),
        (r#"{"project": "shop"}"#, "no metrics"),
        (r#"{"metrics": 3}"#, "`metrics` is 3"),
        (r#"[{"name": "a", "value": 1}"#, "EOF"),
        (r#"{"name": "a", "value": 1} x"#, "trailing"),
    ] {
        let error = decode_metrics(body).expect_err(body);
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
    // What all of them share is wrong, so that none of them is what it seems.
    let (metrics, rejected) = read(r#"{"agent": "", "metrics": [{"name": "a", "value": 1}]}"#);
    assert_eq!((metrics.len(), rejected[0].field), (0, "agent"));
}

#[test]
fn keys_in_labels_are_masked() {
    let (metrics, _) = read(r#"{"name": "x", "value": 1, "labels": {"a": "sk-ant-REDACTED\u001b[31m"}}"#);
    assert!(!metrics[0].contains("abcdef") && !metrics[0].contains('\u{1b}'), "{metrics:?}");
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_valid_for_prometheus(
        name in ".{0,20}", label in ".{0,20}", value in any::<f64>(), text in ".{0,200}", counter in any::<bool>(),
    ) {
        let kind = if counter { "counter" } else { "gauge" };
        let body = json!({"name": name, "value": value, "kind": kind, "labels": {label: text}}).to_string();
        for update in decode_metrics(&body).expect("a body").metrics {
            let is_word = |name: &str| name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
            prop_assert!(!update.name.is_empty() && is_word(&update.name) && !update.name.ends_with("_total"));
            prop_assert!(update.value.is_finite() && (update.kind == CustomKind::Gauge || update.value >= 0.0));
            for (label, value) in &update.labels {
                prop_assert!(is_word(label) && !label.starts_with("__") && !label.is_empty());
                prop_assert!(!label.starts_with(|it: char| it.is_ascii_digit()) && !RESERVED_LABELS.contains(&&**label));
                prop_assert!(!value.is_empty() && value.len() <= MAX_LABEL_VALUE && !value.contains('\n'));
            }
        }
    }
}
