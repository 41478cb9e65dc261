//! A recorded body of LiteLLM's callback in each of its formats, and malformed bodies.

use std::io::Read as _;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::attributes;
use super::*;

/// Seven calls of a proxy: one that succeeded, the same out of a cache, one of a model without a price, one that was
/// rate-limited and then succeeded (two calls), one that failed permanently, and one that was streamed.
fn recorded() -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/samples/callback/litellm-1.106.2.json.gz");
    let mut body = String::new();
    let packed = std::fs::read(path).expect("a sample");
    flate2::read::GzDecoder::new(&*packed).read_to_string(&mut body).expect("gzip");
    serde_json::from_str(&body).expect("JSON")
}

fn read(body: &str) -> Result<CallbackCalls, CallbackError> {
    decode(&[], body.as_bytes())
}

fn records(calls: &CallbackCalls) -> &[LogRecord] {
    &calls.request.resource_logs[0].scope_logs[0].log_records
}

#[test]
fn all_three_formats_decode_alike() {
    let calls = recorded();
    let array = Json::from(calls.clone()).to_string();
    let read_array = read(&array).expect("an array");
    assert_eq!(
        (read_array.accepted, read_array.malformed, records(&read_array).len()),
        (7, 0, 6),
        "one is out of a cache"
    );
    let lines: Vec<String> = calls.iter().map(Json::to_string).collect();
    assert_eq!(read(&lines.join("\n")), Ok(read_array.clone()));
    assert_eq!(read(&(lines.join("\r\n") + "\n")), Ok(read_array.clone()));
    let single = read(&lines[0]).expect("an object");
    assert_eq!(records(&single), &records(&read_array)[..1]);
}

#[test]
fn caller_headers_ignore_letter_case() {
    for [agent, session] in [
        ["x-litellm-agent-id", "x-claude-code-session-id"],
        ["X-LiteLLM-Agent-Id", "X-Claude-Code-Session-Id"],
        ["X-LITELLM-AGENT-ID", "X-LiteLLM-Session-Id"],
    ] {
        let call = json!({
            "status": "success",
            "litellm_call_id": "c",
            "metadata": { "requester_custom_headers": { agent: "ada", session: "s-1", "accept": null } },
        });
        let calls = read(&call.to_string()).expect("an object");
        let attribute_of = |key| attributes::text(&records(&calls)[0].attributes, key).map(|it| it.into_owned());
        assert_eq!(
            [attribute_of("agent.id"), attribute_of("session.id")],
            [Some("ada".to_owned()), Some("s-1".to_owned())],
            "{agent}"
        );
    }
}

#[test]
fn only_names_and_numbers_of_a_call_are_kept() {
    let calls = read(&Json::from(recorded()).to_string()).expect("an array");
    let [first, .., failed, _] = records(&calls) else { panic!("{calls:?}") };
    let number = |key| attributes::number(&first.attributes, key);
    let used = ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens"];
    assert_eq!(used.map(number), [Some(128.0), Some(16.0), Some(64.0)]);
    assert_eq!(number("gen_ai.cost.total_cost"), Some(2.4e-5));
    assert!(number("duration_ms").is_some_and(|it| (1.0..10_000.0).contains(&it)));
    assert_eq!(super::super::attempt(attributes::Attributes::new(&first.attributes)), Some(1.0));
    assert_eq!(attributes::text(&first.attributes, "agent_id").as_deref(), Some("shop-agent-1"));
    assert_eq!(attributes::text(&failed.attributes, "error.type").as_deref(), Some("InternalServerError"));
    // 2026-11-21T16:58:19Z.
    assert_eq!(first.time_unix_nano / 1_000_000_000, 1_795_280_299);
    let kept = format!("{calls:?}");
    for private in ["How many", "three items", "127.0.0.1", "master_key", "default_user_id", "curl", "Traceback", "sk-"]
    {
        assert!(!kept.contains(private), "{private}: {kept}");
    }
}

#[test]
fn malformed_calls_are_rejected_one_by_one() {
    let call = json!({"id": "a", "status": "success"});
    for wrong in
        [json!(null), json!(3), json!("x"), json!([call]), json!({}), json!({"status": 1}), json!({"status": "?"})]
    {
        let calls = read(&json!([wrong, call, wrong]).to_string()).expect("an array");
        assert_eq!((calls.accepted, calls.malformed), (1, 2), "{wrong}");
    }
    let odd = json!({"id": {"a": 1}, "status": "failure", "prompt_tokens": "12", "completion_tokens": [], "metadata": 3,
        "error_information": null, "hidden_params": "x", "model": "m".repeat(2_000), "endTime": -1e300});
    let calls = read(&odd.to_string()).expect("an object");
    let [record] = records(&calls) else { panic!("one") };
    assert_eq!(attributes::number(&record.attributes, "gen_ai.usage.input_tokens"), Some(12.0));
    assert_eq!(attributes::text(&record.attributes, "error.type").as_deref(), Some("failure"));
    assert_eq!((record.attributes.len(), record.time_unix_nano), (2, 0));
    assert_eq!(read("").map(|calls| calls.accepted), Ok(0));
}

#[test]
fn calls_of_one_body_are_limited() {
    let body = format!("[{}{{}}]", "{},".repeat(MAX_CALLS));
    assert_eq!(read(&body).map(|calls| calls.malformed), Ok(MAX_CALLS + 1));
    let body = format!("[{}]", vec![r#"{"status": "success"}"#; MAX_CALLS + 2].join(","));
    assert_eq!(read(&body).map(|calls| (calls.accepted, calls.malformed)), Ok((MAX_CALLS as u64, 2)));
}

#[test]
fn errors_give_a_position_and_quote_nothing() {
    let error = |body: &str| read(body).expect_err(body).to_string();
    assert!(
        error("[{\"id\": hunter2}]").ends_with("posts them, at line 1 column 9"),
        "{}",
        error("[{\"id\": hunter2}]")
    );
    assert!(error("{}\n{\"a\"").ends_with("at line 2 column 4"), "{}", error("{}\n{\"a\""));
    for body in ["hunter2", "[", "[]hunter2", "{}hunter2", "{\"a\": 1e", "null null"] {
        let shown = read(body).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let error = decode(&[], b"{\"a\": \xff}").expect_err("no JSON").to_string();
    assert!(error.ends_with("at line 1 column 7"), "{error}");
}

proptest! {
    #[test]
    fn any_body_is_accepted_or_rejected(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\[?[\\[\\]{}\", 0-9]{0,12}\\]?") {
        // Invalid UTF-8 is replaced.
        prop_assert_eq!(decode(&[], &body).ok(), read(&String::from_utf8_lossy(&body)).ok());
        // Each JSON value is either accepted or malformed.
        let things = if text.trim_start().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(&text).map(|list| list.len())
        } else {
            let stream = serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>();
            stream.collect::<Result<Vec<_>, _>>().map(|list| list.len())
        };
        let calls = read(&text).ok().map(|calls| (calls.accepted, calls.malformed));
        match things {
            Ok(count) => prop_assert_eq!(calls, Some((0, count))),
            // What is nearly JSON, such as `""00[]`, may be read all the same; none of it is a call.
            Err(_) => prop_assert_eq!(calls.map_or(0, |(accepted, _)| accepted), 0),
        }
    }

    #[test]
    fn every_valid_call_is_accepted_among_malformed_ones(is_call in prop::collection::vec(any::<bool>(), 0..40), is_array in any::<bool>()) {
        let things: Vec<String> = is_call
            .iter()
            .enumerate()
            .map(|(id, is_call)| if *is_call { format!("{{\"id\": \"{id}\", \"status\": \"success\"}}") } else { "{\"id\": 3}".to_owned() })
            .collect();
        let body = if is_array { format!("[{}]", things.join(",")) } else { things.join("\n") };
        let calls = read(&body).expect(&body);
        let good = is_call.iter().filter(|is_call| **is_call).count();
        prop_assert_eq!((calls.accepted, calls.malformed), (good as u64, is_call.len() - good));
        prop_assert_eq!(calls.request.resource_logs.iter().flat_map(|it| &it.scope_logs).map(|it| it.log_records.len()).sum::<usize>(), good);
    }

    #[test]
    fn any_value_in_any_field_is_survived(place in 0..12_usize, value in "[a-z0-9.e+\"\\[\\]{}:,-]{0,12}", cut in 0..2_000_usize) {
        let call = recorded().swap_remove(4).to_string();
        let keys = ["id", "status", "model", "metadata", "usage_object", "cached_tokens", "response_cost", "endTime",
            "error_information", "hidden_params", "additional_headers", "requester_metadata"];
        let (before, after) = call.split_once(&format!("\"{}\":", keys[place])).expect("a key");
        let rest = after.split_once(',').map_or("}", |(_, rest)| rest);
        drop(read(&format!("{before}\"{}\":{value},{rest}", keys[place])));
        drop(read(call.get(..cut).unwrap_or_default()));
    }
}
