//! The exact bytes, and that no limit is ever passed.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Level, Notice};
use crate::notify::samples::{at, firing, resolved};

fn rendered(notices: &[Notice]) -> String {
    let notices: Vec<_> = notices.iter().cloned().map(Arc::new).collect();
    render(&message::compose(at(20.0), &notices))
}

fn pretty(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("valid JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

/// Fails when any of Slack's limits is passed.
fn within_limits(payload: &str) {
    assert!(payload.len() <= TOTAL, "{} bytes in total", payload.len());
    let value: Value = serde_json::from_str(payload).expect("valid JSON");
    let attachment = value.pointer("/attachments/0").expect("an attachment");
    assert!(attachment.pointer("/fallback").and_then(Value::as_str).is_some_and(|text| !text.is_empty()));
    let blocks = attachment.pointer("/blocks").and_then(Value::as_array).expect("blocks");
    assert!(blocks.len() <= BLOCKS);
    for block in blocks {
        let text = block.pointer("/text/text").and_then(Value::as_str);
        let limit = if block.get("type") == Some(&json!("header")) { HEADER } else { SECTION };
        if let Some(text) = text {
            assert!(!text.is_empty() && characters(text) <= limit, "{} characters: {text}", characters(text));
        }
        if let Some(text) = block.pointer("/elements/0/text").and_then(Value::as_str) {
            assert!(!text.is_empty() && characters(text) <= FOOTER, "{} characters: {text}", characters(text));
        }
    }
    assert!(!payload.contains(['<', '>']), "not escaped: {payload}");
    let bare =
        payload.split('&').skip(1).find(|rest| !["amp;", "lt;", "gt;"].iter().any(|entity| rest.starts_with(entity)));
    assert_eq!(bare, None, "not escaped, or cut within an entity");
}

#[test]
fn one_alert_has_these_bytes() {
    insta::assert_snapshot!("one", pretty(&rendered(&[firing("worker-1", Level::Error, 0.0)])));
    insta::assert_snapshot!("resolved", pretty(&rendered(&[resolved("worker-1", 20.0)])));
}

#[test]
fn a_summary_has_these_bytes() {
    let notices = [resolved("b", 9.0), firing("a <@U1> & *co*", Level::Critical, 0.0)];
    insta::assert_snapshot!("summary", pretty(&rendered(&notices)));
}

#[test]
fn a_storm_is_one_message_that_says_how_many_were_left_out() {
    let notices: Vec<_> = (0..10_000).map(|agent| firing(&format!("worker-{agent:05}"), Level::Error, 0.0)).collect();
    let payload = rendered(&notices);
    within_limits(&payload);
    assert!(payload.contains("[ERROR] shop: 10000 alerts (worker-00000, worker-00001, worker-00002, …)"), "{payload}");
    let listed = payload.matches("[ERROR] shop/worker-").count();
    assert!(listed > 60, "{listed} alerts are listed");
    assert!(payload.contains(&format!("… and {} more", 10_000 - listed)), "{payload}");
    assert!(payload.contains("AgentIdle: Check whether its terminal"), "what to do is at the end: {payload}");
}

#[test]
fn text_that_fits_stays_and_text_that_does_not_ends_in_an_ellipsis() {
    for (text, limit, expected) in [
        ("", 5, ""),
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("a<b", 6, "a&lt;b"),
        ("a<bc", 6, "a&lt;…"),
        ("ab<c", 6, "ab…"),
        ("🤖🤖", 4, "🤖🤖"),
        ("🤖🤖🤖", 4, "🤖…"),
        ("&&", 9, "&amp;…"),
    ] {
        assert_eq!(fit(text, limit, 1000), expected, "{text} within {limit}");
    }
    assert_eq!(fit("\"\"\"\"", 100, 8), "\"\"\"\"");
    assert_eq!(fit("\"\"\"\"\"", 100, 8), "\"\"…");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_passes_a_limit(
        texts in proptest::collection::vec(("\\PC{0,80}", "[\\x00-\\x1f&<>\"\\\\🤖ä]{0,60}", any::<u8>()), 1..40),
        times in 1_usize..80,
    ) {
        let notices: Vec<_> = texts
            .into_iter()
            .map(|(name, words, kind)| {
                let words = words.repeat(times);
                let notice = if kind % 3 == 0 { resolved(&name, 9.0) } else { firing(&name, Level::Error, 0.0) };
                Notice { message: Arc::from(&*words), action: Arc::from(words), rule: Arc::from(name), ..notice }
            })
            .collect();
        within_limits(&rendered(&notices));
        within_limits(&rendered(notices.get(..1).expect("one")));
    }

    #[test]
    fn a_cut_is_within_its_limits_and_keeps_a_beginning(text in "[&<>\"🤖äb\\n]{0,60}", limit in 1_usize..50, bytes in 10_usize..80) {
        let cut = fit(&text, limit, bytes);
        prop_assert!(characters(&cut) <= limit);
        prop_assert!(json_bytes(&cut) <= bytes);
        let plain = cut.trim_end_matches('…').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        prop_assert!(text.starts_with(&plain), "{} is no beginning of {}", plain, text);
    }
}
