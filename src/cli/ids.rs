//! IDs of alerts and silences as typed by people: complete, or a unique prefix.

use anyhow::bail;
use serde_json::Value;

use super::alerts::subject;
use super::answer::{list, matchers, parse, text};
use super::client::Client;

/// Hex digits of an alert's ID.
const ID_LENGTH: usize = 16;
/// Digits of the shortest prefix accepted.
const MIN_PREFIX: usize = 4;
/// Alerts searched, which is the most that one answer has.
const MAX_ALERTS: usize = 1_000;

/// The complete ID of the alert that `typed` identifies.
pub(super) async fn alert(client: &Client, typed: &str) -> anyhow::Result<String> {
    let typed = typed.trim().to_ascii_lowercase();
    if !typed.bytes().all(|byte| byte.is_ascii_hexdigit()) || !(MIN_PREFIX..=ID_LENGTH).contains(&typed.len()) {
        bail!(
            "`{typed}` is not an alert ID, which is {MIN_PREFIX} to {ID_LENGTH} hex digits; `lookout alerts` shows the IDs"
        );
    }
    if typed.len() == ID_LENGTH {
        return Ok(typed);
    }
    let answer = parse(&client.get("/api/alerts", &[("limit", MAX_ALERTS.to_string())]).await?)?;
    let alerts = list(&answer, "alerts").iter();
    let describe = |alert: &Value| format!("{} on {}", text(alert, "rule"), subject(alert));
    only("alert", "lookout alerts", &typed, alerts.map(|alert| (text(alert, "fingerprint"), describe(alert))))
}

/// The complete ID of the silence that `typed` identifies; an unknown one is returned as it is, for the sidecar to
/// reject.
pub(super) async fn silence(client: &Client, typed: &str) -> anyhow::Result<String> {
    let answer = parse(&client.get("/api/silences", &[]).await?)?;
    let silences = list(&answer, "silences");
    let is_whole = silences.iter().any(|silence| text(silence, "id") == typed);
    if is_whole || typed.len() < MIN_PREFIX || !silences.iter().any(|silence| text(silence, "id").starts_with(typed)) {
        return Ok(typed.to_owned());
    }
    let known = silences.iter().map(|silence| (text(silence, "id"), matchers(silence)));
    only("silence", "lookout silence", typed, known)
}

/// The only ID of `known` that begins with `typed`. The same ID may occur several times: an alert keeps it when it
/// fires again.
fn only<'v>(
    noun: &str,
    command: &str,
    typed: &str,
    known: impl Iterator<Item = (&'v str, String)>,
) -> anyhow::Result<String> {
    let mut found: Vec<(&str, String)> = known.filter(|(id, _)| id.starts_with(typed)).collect();
    found.sort_unstable();
    found.dedup_by(|one, other| one.0 == other.0);
    match &found[..] {
        [] => bail!("no {noun} has an ID that begins with `{typed}`; `{command}` shows the IDs"),
        [(id, _)] => Ok((*id).to_owned()),
        several => {
            let named: Vec<String> =
                several.iter().take(5).map(|(id, described)| format!("{id} ({described})")).collect();
            bail!("`{typed}` is ambiguous, give more digits: {} {noun}s match: {}", several.len(), named.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_prefix_identifies_an_alert() {
        let known = ["93ba71c4e0c87be1", "93ba71c4e0c87be1", "93ff000000000000", "f6e28e9b19801295"];
        let ask = |typed| {
            only("alert", "lookout alerts", typed, known.iter().map(|id| (*id, format!("R of {}", id.split_at(4).0))))
                .map_err(|error| error.to_string())
        };
        assert_eq!(ask("f6e2"), Ok("f6e28e9b19801295".to_owned()));
        assert_eq!(ask("93ba7"), Ok("93ba71c4e0c87be1".to_owned()), "it fired twice");
        assert_eq!(
            ask("93"),
            Err("`93` is ambiguous, give more digits: 2 alerts match: 93ba71c4e0c87be1 (R of 93ba), 93ff000000000000 (R of 93ff)".to_owned())
        );
        assert_eq!(
            ask("0000"),
            Err("no alert has an ID that begins with `0000`; `lookout alerts` shows the IDs".to_owned())
        );
    }
}
