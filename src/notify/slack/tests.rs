//! What Slack's answers mean; the transport itself is tested with all others.

use super::*;

fn check(status: u16, body: &str, expected: Option<(SendReason, bool)>) {
    let verdict = judge(status, body, Some(Duration::from_secs(7)));
    assert_eq!(verdict.as_ref().err().map(|error| (error.reason, error.retryable)), expected, "{status} {body}");
    if let Err(error) = verdict {
        assert_eq!(error.retry_after.is_some(), error.retryable && status != 200, "{status} {body}");
        assert!(error.message.contains(&status.to_string()), "{error}");
    }
}

#[test]
fn only_200_with_ok_is_a_success() {
    check(200, "ok", None);
    check(200, "", Some((SendReason::Server, true)));
    check(200, "<html>captive portal</html>", Some((SendReason::Server, true)));
    check(200, "invalid_payload", Some((SendReason::Refused, false)));
    check(302, "", Some((SendReason::Refused, false)));
}

#[test]
fn client_errors_are_for_good_and_server_errors_pass() {
    check(400, "invalid_payload", Some((SendReason::Refused, false)));
    check(403, "invalid_token", Some((SendReason::Auth, false)));
    check(404, "no_service", Some((SendReason::Refused, false)));
    check(410, "channel_is_archived", Some((SendReason::Refused, false)));
    check(429, "", Some((SendReason::RateLimited, true)));
    check(500, "rollup_error", Some((SendReason::Server, true)));
    check(503, "", Some((SendReason::Server, true)));
}

#[test]
fn an_error_repeats_only_words_that_are_slacks() {
    let error = judge(400, "no_text", None).expect_err("refused");
    assert_eq!(error.message, "slack answered 400 and no_text");
    let error = judge(400, "https://hooks.slack.com/services/S3CRET", None).expect_err("refused");
    assert_eq!(error.message, "slack answered 400");
}
