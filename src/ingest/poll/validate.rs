//! Validates the section `sources`; each problem names its key and the remedy.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;

use super::http_json::HttpJson;
use crate::decode::read::shown;
use crate::ingest::config::{SourceConfig, SourceKind};
use crate::model::{Problem, duration};
use crate::secret::SecretSource;
use crate::text;

/// Longest name of a source, in bytes: it is a label.
const MAX_NAME: usize = 128;
/// The shortest and longest interval.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(86_400));
/// The shortest and longest timeout.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(300));
/// The largest `max_body`, in bytes.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// The problems of the section.
pub fn validate(sources: &[SourceConfig]) -> Vec<Problem> {
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let mut found = Vec::new();
        if !names.insert(source.name.as_str()) {
            let message = format!("duplicate source `{}`: give each source its own name", shown(&source.name));
            found.push(Problem::new("name", message));
        }
        check(source, &mut found);
        problems.extend(found.into_iter().map(|problem| problem.under(&format!("sources[{index}]"))));
    }
    problems
}

/// Finds the problems of one source; paths begin below it.
fn check(source: &SourceConfig, found: &mut Vec<Problem>) {
    let mut wrong = |key: &str, message: String| found.push(Problem::new(key, message));
    if !text::is_name(&source.name, MAX_NAME) {
        wrong("name", format!("`{}` is not a valid name; use 1 to {MAX_NAME} bytes of text", shown(&source.name)));
    }
    if source.project.as_ref().is_some_and(|project| !text::is_name(project, crate::ingest::MAX_TEXT)) {
        wrong("project", "not a valid name; use 1 to 256 bytes of text, or leave it out".to_owned());
    }
    if source.kind == SourceKind::Crewx {
        if !source.url.is_empty() {
            wrong("url", "`crewx` is read from a file; remove it, and set `path`".to_owned());
        }
    } else if source.url.is_empty() {
        wrong("url", "is missing; it has no default".to_owned());
    } else if let Err(message) = url(&source.url) {
        wrong("url", message);
    }
    of_kind(source, &mut wrong);
    for (key, value, (least, most)) in [("interval", source.interval, INTERVALS), ("timeout", source.timeout, TIMEOUTS)]
    {
        if value < least || value > most {
            let (value, least, most) = (duration::exact(value), duration::exact(least), duration::exact(most));
            wrong(key, format!("{value} is out of range; use {least} to {most}"));
        }
    }
    if source.max_body == 0 || source.max_body > MAX_BODY {
        wrong("max_body", format!("{} is out of range; use 1 to {MAX_BODY} bytes", source.max_body));
    }
    access(source, &mut wrong);
    match source.kind {
        SourceKind::HttpJson => {
            if let Err(problems) = HttpJson::compile(source) {
                found.extend(problems);
            }
        }
        _ => {
            for (key, given) in [("fields", source.fields.is_some()), ("status_map", !source.status_map.is_empty())] {
                if given {
                    wrong(key, "only the kind `http-json` reads it; remove it, or change the kind".to_owned());
                }
            }
        }
    }
}

/// Finds keys that the kind needs or does not read.
fn of_kind(source: &SourceConfig, wrong: &mut impl FnMut(&str, String)) {
    let is_file = source.kind == SourceKind::Crewx;
    match &source.path {
        None if is_file => {
            wrong("path", "`crewx` needs it; set the path of .crewx/traces.db or ~/.crewx/crewx.db".to_owned());
        }
        Some(_) if !is_file => {
            wrong("path", "only the kind `crewx` reads it; remove it, or change the kind".to_owned())
        }
        _ => {}
    }
    if source.user_id.is_some() && source.kind != SourceKind::AutogenStudio {
        wrong("user_id", "only the kind `autogen-studio` reads it; remove it, or change the kind".to_owned());
    }
    match SecretSource::from_pair(&source.api_key, &source.api_key_file) {
        Err(message) => wrong("api_key", message.to_owned()),
        Ok(Some(_)) if !source.kind.takes_key() => {
            wrong("api_key", "the kind has no API key; use `bearer_token_file` or `basic_auth`".to_owned());
        }
        _ => {}
    }
}

fn url(text: &str) -> Result<(), String> {
    // An invalid URL may contain a password, so that it is not quoted.
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error}); write it like http://localhost:8000"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme `{}` is not supported; use http or https", shown(url.scheme())));
    }
    if !url.has_host() {
        return Err("the URL has no host; write it like http://localhost:8000".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL contains credentials, which would be printed; use `basic_auth` with `password_file`".to_owned()
        );
    }
    Ok(())
}

fn access(source: &SourceConfig, wrong: &mut impl FnMut(&str, String)) {
    let bearer = SecretSource::from_pair(&source.bearer_token, &source.bearer_token_file);
    if let Err(message) = &bearer {
        wrong("bearer_token", (*message).to_owned());
    }
    if let Some(basic) = &source.basic_auth {
        if !matches!(bearer, Ok(None)) {
            wrong("basic_auth", "a bearer token is given as well; keep one of the two".to_owned());
        }
        if basic.username.contains(':') || !basic.username.chars().all(|letter| !letter.is_control()) {
            wrong("basic_auth.username", "must not contain a colon or control characters".to_owned());
        }
        if let Err(message) = SecretSource::from_pair(&basic.password, &basic.password_file) {
            wrong("basic_auth.password", message.to_owned());
        }
    }
    for (name, value) in &source.headers {
        let key = format!("headers.{}", shown(name));
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => wrong(&key, "invalid header name; use letters, digits and `-`".to_owned()),
            Ok(http::header::AUTHORIZATION) if !matches!(bearer, Ok(None)) || source.basic_auth.is_some() => {
                wrong(&key, "a bearer token or `basic_auth` sets it as well; keep one of the two".to_owned());
            }
            Ok(_) if HeaderValue::from_str(value.expose()).is_err() => {
                wrong(&key, "invalid header value; remove line breaks and control characters".to_owned());
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"name":"web","kind":"http-json","url":"http://localhost:1/s",
        "fields":{"agents":"$.agents[*]","name":"$.id","tokens.input":"$.in"}}"#;

    fn sources(json: &[serde_json::Value]) -> Vec<SourceConfig> {
        json.iter().map(|source| serde_json::from_value(source.clone()).expect("a source")).collect()
    }

    /// The good source with `change` merged in must yield exactly the problem `key`, whose message contains `part`.
    fn check(change: serde_json::Value, key: &str, part: &str) {
        let mut source: serde_json::Value = serde_json::from_str(GOOD).expect("JSON");
        let fields = source.as_object_mut().expect("an object");
        for (name, value) in change.as_object().expect("an object") {
            fields.insert(name.clone(), value.clone());
        }
        let problems = validate(&sources(&[source]));
        assert_eq!(problems.len(), 1, "{change}: {problems:?}");
        assert_eq!(problems[0].path, format!("sources[0].{key}"), "{change}");
        assert!(problems[0].message.contains(part), "{change}: {}", problems[0].message);
        assert!(!problems[0].message.contains("hunter2"), "{change}: {}", problems[0].message);
    }

    #[test]
    fn a_good_source_has_no_problem() {
        let mut other: serde_json::Value = serde_json::from_str(GOOD).expect("JSON");
        other["name"] = "two".into();
        let orchestrator =
            serde_json::json!({"name": "o", "kind": "orchestrator-cc", "url": "https://o/x", "interval": "1s"});
        assert_eq!(validate(&sources(&[serde_json::from_str(GOOD).expect("JSON"), other, orchestrator])), []);
    }

    #[test]
    fn every_problem_names_its_key_and_a_remedy() {
        use serde_json::json;
        for (change, key, part) in [
            (json!({"name": ""}), "name", "1 to 128 bytes"),
            (json!({"project": "a\u{7}"}), "project", "1 to 256 bytes"),
            (json!({"url": "localhost"}), "url", "http://localhost:8000"),
            (json!({"url": "ftp://x/"}), "url", "use http or https"),
            (json!({"url": "http://"}), "url", "http://localhost:8000"),
            (json!({"url": "http://u:hunter2@x/"}), "url", "basic_auth"),
            (json!({"interval": "99ms"}), "interval", "use 100ms to 1d"),
            (json!({"timeout": "1h"}), "timeout", "use 10ms to 5m"),
            (json!({"max_body": 0}), "max_body", "out of range"),
            (json!({"bearer_token": "hunter2", "bearer_token_file": "/x"}), "bearer_token", "not both"),
            (json!({"bearer_token": "hunter2", "basic_auth": {"username": "u"}}), "basic_auth", "keep one"),
            (json!({"basic_auth": {"username": "u:v"}}), "basic_auth.username", "colon"),
            (
                json!({"basic_auth": {"username": "u", "password": "hunter2", "password_file": "/x"}}),
                "basic_auth.password",
                "not both",
            ),
            (json!({"headers": {"a b": "x"}}), "headers.a b", "header name"),
            (json!({"headers": {"x": "hunter2\n"}}), "headers.x", "line breaks"),
            (
                json!({"headers": {"Authorization": "hunter2"}, "bearer_token": "t"}),
                "headers.Authorization",
                "keep one",
            ),
            (json!({"fields": null}), "fields", "`http-json` needs it"),
            (json!({"kind": "orchestrator-cc"}), "fields", "only the kind `http-json`"),
            (json!({"status_map": {"busy": "runing"}}), "status_map.busy", "did you mean `running`?"),
            (json!({"fields": {"agents": "agents", "name": "$.x"}}), "fields.agents", "start it with `$`"),
            (json!({"fields": {"agents": "$.a[", "name": "$.x"}}), "fields.agents", "JSONPath"),
            (json!({"fields": {"agents": "$.a", "name": "@kay"}}), "fields.name", "@key"),
            (
                json!({"fields": {"agents": "$.a", "name": "$.x", "tokens.inptu": "$.x"}}),
                "fields.tokens.inptu",
                "did you mean `tokens.input`?",
            ),
            (json!({"fields": {"agents": "$.a", "name": "$.x", "phase": "@key"}}), "fields.phase", "start it with `$`"),
        ] {
            check(change, key, part);
        }
    }

    #[test]
    fn a_name_belongs_to_one_source() {
        let good: serde_json::Value = serde_json::from_str(GOOD).expect("JSON");
        let problems = validate(&sources(&[good.clone(), good]));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "sources[1].name");
    }
}
