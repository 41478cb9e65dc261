//! LiteLLM: the agents of its calls, and that each call counts once through spans and callback.

use super::*;

#[test]
fn litellm_counts_each_call_once_in_its_callback_and_its_spans() {
    // Six calls: one was rate-limited and then succeeded, one failed permanently, one was answered from a cache.
    let expected = [
        ("default/litellm -", [0; 5], 0.0, [1, 0, 0, 0]),
        ("default/litellm gpt-4o-mini", [64, 16, 64, 0, 0], 0.000_024, [0; 4]),
        ("default/shop-agent-1 -", [0; 5], 0.0, [4, 2, 1, 1]),
        ("default/shop-agent-1 gpt-4o-mini", [128, 32, 128, 0, 0], 0.000_048, [0; 4]),
        ("default/shop-agent-2 -", [0; 5], 0.0, [1, 0, 0, 0]),
        ("default/shop-agent-2 house-model", [64, 16, 64, 0, 0], 0.0, [0; 4]),
    ];
    let spans = "litellm/six-calls-001-traces.pb";
    check(&[CALLBACK], &expected);
    check(&[spans], &expected);
    check(&[CALLBACK, spans], &expected);
}

#[test]
fn a_call_counts_once_when_each_channel_loses_some() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let mut calls = callback().request;
    let records = &mut calls.resource_logs[0].scope_logs[0].log_records;
    let others = records.split_off(2);
    let Export::Traces(mut spans) = export("litellm/six-calls-001-traces.pb") else { panic!("spans") };
    // Spans of the first call and of all but the first four.
    let mut place = 0;
    for library in spans.resource_spans.iter_mut().flat_map(|it| &mut it.scope_spans) {
        library.spans.retain(|_| {
            place += 1;
            place == 1 || place > 4
        });
    }
    let mut counted = 0;
    counted += profiles.extract_callback(before(), &calls).iter().map(|it| it.requests).sum::<u64>();
    counted += profiles.extract(before(), &Export::Traces(spans)).iter().map(|it| it.requests).sum::<u64>();
    calls.resource_logs[0].scope_logs[0].log_records = others;
    counted += profiles.extract_callback(before(), &calls).iter().map(|it| it.requests).sum::<u64>();
    assert_eq!(counted, 6);
    let receptions = profiles.receptions();
    let both = receptions.iter().find(|it| &*it.agent == "shop-agent-1").expect("known");
    assert!(both.channels.iter().flatten().count() == 2 && both.channels.iter().flatten().all(|it| it.brings[0]));
}

#[test]
fn a_key_alias_names_the_agent_when_nothing_else_does() {
    let rule = AgentRule {
        r#match: [("metadata.user_api_key_alias".to_owned(), "shop-*".to_owned())].into(),
        agent: "builder".to_owned(),
        project: None,
    };
    let read = |caller: &str| {
        let body = format!(
            r#"{{"status": "success", "metadata": {{"user_api_key_alias": "shop-key", "requester_metadata": {caller}}}}}"#
        );
        callback::decode(&[], body.as_bytes()).expect("a call").request
    };
    for (caller, rules, expected) in [
        (r#"{"agent_id": "a"}"#, vec![rule.clone()], "default/a"),
        (r#"{"agent.name": "n", "agent_id": "a", "project": "p"}"#, vec![], "p/n"),
        ("null", vec![rule], "default/builder"),
        ("null", vec![], "default/shop-key"),
        (r#"{"agent_id": "3f2b8c1de4a54f6b9c0d1e2f3a4b5c6d"}"#, vec![], "default/shop-key"),
    ] {
        let config = OtlpConfig { agents: rules, ..OtlpConfig::default() };
        let mut profiles = Profiles::new(before(), &config);
        let agents = profiles.extract_callback(before(), &read(caller));
        let names: Vec<String> = agents.iter().map(|it| format!("{}/{}", it.project, it.agent)).collect();
        assert!(!names.is_empty() && names.iter().all(|name| name == expected), "{caller}: {names:?}");
        assert!(profiles.receptions()[0].is_named);
    }
}

#[test]
fn the_id_of_a_registered_agent_names_it() {
    let id = "3f2b8c1d-e4a5-4f6b-9c0d-1e2f3a4b5c6d";
    let feed = crate::profiles::registered::NameFeed::default();
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    profiles.set_registered(feed.clone());
    let mut calls = 0;
    let mut named = |caller: &str| {
        calls += 1;
        let body = format!(
            r#"{{"status": "success", "litellm_call_id": "c{calls}", "metadata": {{"user_api_key_alias": "shop-key", "requester_metadata": {caller}}}}}"#
        );
        let request = callback::decode(&[], body.as_bytes()).expect("a call").request;
        let agents = profiles.extract_callback(before(), &request);
        agents.iter().map(|it| format!("{}/{}", it.project, it.agent)).next().expect("an agent")
    };
    let caller = format!(r#"{{"agent_id": "{id}"}}"#);
    assert_eq!(named(&caller), "default/shop-key", "it is not registered yet");
    feed.publish([(id.into(), "till".into(), "stock".into()), ("7".into(), "till".into(), "seven".into())]);
    assert_eq!(named(&caller), "till/stock");
    assert_eq!(named(r#"{"agent_id": "7"}"#), "till/seven", "ids of a shared registry are any text");
    assert_eq!(named(r#"{"agent_id": "a"}"#), "default/a");
    assert_eq!(named(&format!(r#"{{"agent_id": "{id}", "agent.name": "n"}}"#)), "default/n");
    // The same in the attributes of spans.
    let item = |attribute: &str, value: String| {
        let attributes = [crate::otlp::wire::string_attribute(attribute, &value)];
        let mut registered = crate::profiles::registered::RegisteredNames::default();
        registered.add((id.into(), "till".into(), "stock".into()));
        let none = super::super::attributes::Attributes::new(&[]);
        let item = super::super::attributes::Attributes::new(&attributes);
        let named = super::super::identity::identify(&crate::profiles::litellm::PROFILE, &[], &registered, none, item);
        named.map(|(project, agent, is_named)| format!("{project}/{agent} {is_named}"))
    };
    for (attribute, value) in [
        ("metadata.requester_metadata", format!("{{'agent_id': '{id}', 'n': 1}}")),
        ("metadata.agent_id", id.to_owned()),
        ("litellm.metadata.agent_id", id.to_owned()),
        ("metadata.requester_custom_headers", format!("{{'X-LiteLLM-Agent-Id': '{id}'}}")),
    ] {
        assert_eq!(item(attribute, value).as_deref(), Some("till/stock true"), "{attribute}");
    }
}

#[test]
fn litellm_calls_belong_to_the_agent_that_metadata_names() {
    check(
        &["litellm/rate-limit-429-then-success-004-traces.pb"],
        &[
            // Only the span of the success, which reports one earlier attempt.
            ("default/shop-agent-1 -", [0; 5], 0.0, [2, 1, 0, 1]),
            ("default/shop-agent-1 gpt-4o-mini", [64, 16, 64, 0, 0], 0.000_024, [0; 4]),
        ],
    );
    let paths = ["001-traces", "002-traces", "003-metrics"].map(|it| format!("litellm/v2-success-grpc-{it}.pb"));
    check(
        &paths.each_ref().map(String::as_str),
        &[
            ("default/litellm -", [0; 5], 0.0, [1, 0, 0, 0]),
            ("default/litellm gpt-4o-mini", [64, 16, 64, 0, 0], 0.000_024, [0; 4]),
        ],
    );
}

#[test]
fn the_agent_is_found_in_the_text_of_an_object() {
    let python = "{'user': 'x', 'agent_id': 'shop-agent-1', 'n': 1}";
    assert_eq!(crate::profiles::litellm::inner(python, "agent_id"), Some("shop-agent-1"));
    assert_eq!(crate::profiles::litellm::inner("{\"agent_id\": \"a\"}", "agent_id"), Some("a"));
    assert_eq!(crate::profiles::litellm::inner("{'agent_id': None}", "agent_id"), None);
    let header = "{'é': 1, 'X-LiteLLM-Agent-Id': 'Ada'}";
    assert_eq!(crate::profiles::litellm::inner(header, "x-litellm-agent-id"), Some("Ada"));
}
