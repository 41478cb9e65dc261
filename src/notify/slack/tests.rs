//! What Slack's answers mean; the transport itself is tested with all others.

use super::*;
use crate::model::Retry;

fn verdict(status: u16, body: &str) -> Result<(), SendError> {
    let (retry_after, body) = (Some(Duration::from_secs(7)), body.as_bytes().to_vec());
    meaning(&Answer { status, retry_after, is_page: false, body, is_complete: true })
}

fn check(status: u16, body: &str, expected: Option<(SendReason, Retry)>) {
    let verdict = verdict(status, body);
    assert_eq!(verdict.as_ref().err().map(|error| (error.reason, error.retry)), expected, "{status} {body}");
    if let Err(error) = verdict {
        assert!(error.message.contains(&status.to_string()), "{error}");
    }
}

#[test]
fn an_acknowledgement_is_a_success_whoever_speaks_for_slack() {
    for body in ["ok", "ok\n", "", r#"{"ok":true}"#, r#"{"success":true}"#, r#"{"ok": true, "ts": "1.2"}"#] {
        check(200, body, None);
    }
    check(200, "<html>captive portal</html>", Some((SendReason::Server, Retry::Unlimited)));
    check(200, "come back later", Some((SendReason::Server, Retry::Unlimited)));
    check(200, r#"{"ok":false,"error":"internal_error"}"#, Some((SendReason::Server, Retry::Unlimited)));
    check(200, r#"{"success":false}"#, Some((SendReason::Server, Retry::Unlimited)));
    check(200, "invalid_payload", Some((SendReason::Refused, Retry::Never)));
    check(200, r#"{"ok":false,"error":"no_text"}"#, Some((SendReason::Refused, Retry::Never)));
    check(200, "channel_not_found", Some((SendReason::Refused, Retry::Limited)));
}

#[test]
fn what_may_pass_is_retried_and_what_rejects_us_for_an_hour() {
    check(400, "invalid_payload", Some((SendReason::Refused, Retry::Never)));
    check(410, "channel_is_archived", Some((SendReason::Refused, Retry::Never)));
    check(302, "", Some((SendReason::Refused, Retry::Limited)));
    check(401, "", Some((SendReason::Auth, Retry::Limited)));
    check(403, "invalid_token", Some((SendReason::Auth, Retry::Limited)));
    check(404, "no_service", Some((SendReason::Refused, Retry::Limited)));
    check(408, "", Some((SendReason::Server, Retry::Unlimited)));
    check(425, "", Some((SendReason::Server, Retry::Unlimited)));
    check(429, "", Some((SendReason::RateLimited, Retry::Unlimited)));
    check(500, "rollup_error", Some((SendReason::Server, Retry::Unlimited)));
    check(503, "", Some((SendReason::Server, Retry::Unlimited)));
}

#[test]
fn an_error_repeats_only_words_that_are_slacks() {
    let error = verdict(400, "no_text").expect_err("rejected");
    assert_eq!(error.message, "slack answered 400 and no_text");
    let error = verdict(400, "https://hooks.slack.com/services/S3CRET").expect_err("rejected");
    assert_eq!(error.message, "slack answered 400");
}
