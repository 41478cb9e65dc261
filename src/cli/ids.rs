//! IDs of alerts and silences as people type them: the whole one, or as much of it as tells it from the others.

use anyhow::bail;
use serde_json::Value;

use super::alerts::subject;
use super::answer::{list, matchers, parse, text};
use super::client::Client;

/// Hex digits of an alert's ID.
const LENGTH: usize = 16;
/// As few of them tell nothing.
const LEAST: usize = 4;
/// Alerts looked through; an answer holds no more.
const MOST: usize = 1_000;

/// The whole ID of the alert that `typed` means.
pub(super) async fn alert(client: &Client, typed: &str) -> anyhow::Result<String> {
    let typed = typed.trim().to_ascii_lowercase();
    if !typed.bytes().all(|byte| byte.is_ascii_hexdigit()) || !(LEAST..=LENGTH).contains(&typed.len()) {
        bail!("`{typed}` is not the ID of an alert, which has {LENGTH} hex digits; `lookout alerts` shows them");
    }
    if typed.len() == LENGTH {
        return Ok(typed);
    }
    let answer = parse(&client.get("/api/alerts", &[("limit", MOST.to_string())]).await?)?;
    let alerts = list(&answer, "alerts").iter();
    let describe = |alert: &Value| format!("{} of {}", text(alert, "rule"), subject(alert));
    only("alert", "lookout alerts", &typed, alerts.map(|alert| (text(alert, "fingerprint"), describe(alert))))
}

/// The whole ID of the silence that `typed` means; one that nobody knows is left to the sidecar to refuse.
pub(super) async fn silence(client: &Client, typed: &str) -> anyhow::Result<String> {
    let answer = parse(&client.get("/api/silences", &[]).await?)?;
    let silences = list(&answer, "silences");
    let is_whole = silences.iter().any(|silence| text(silence, "id") == typed);
    if is_whole || typed.len() < LEAST || !silences.iter().any(|silence| text(silence, "id").starts_with(typed)) {
        return Ok(typed.to_owned());
    }
    let known = silences.iter().map(|silence| (text(silence, "id"), matchers(silence)));
    only("silence", "lookout silence", typed, known)
}

/// The one ID of `known` that begins with `typed`. An alert that fired several times is known several times.
fn only<'v>(
    noun: &str,
    shows: &str,
    typed: &str,
    known: impl Iterator<Item = (&'v str, String)>,
) -> anyhow::Result<String> {
    let mut found: Vec<(&str, String)> = known.filter(|(id, _)| id.starts_with(typed)).collect();
    found.sort_unstable();
    found.dedup_by(|one, other| one.0 == other.0);
    match &found[..] {
        [] => bail!("no {noun} has an ID that begins with `{typed}`; `{shows}` shows them"),
        [(id, _)] => Ok((*id).to_owned()),
        several => {
            let named: Vec<String> =
                several.iter().take(5).map(|(id, described)| format!("{id} ({described})")).collect();
            bail!("`{typed}` is ambiguous, {} {noun}s have such an ID: {}", several.len(), named.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_an_id_as_tells_it_apart_will_do() {
        let known = ["93ba71c4e0c87be1", "93ba71c4e0c87be1", "93ff000000000000", "f6e28e9b19801295"];
        let ask = |typed| {
            only("alert", "lookout alerts", typed, known.iter().map(|id| (*id, format!("R of {}", id.split_at(4).0))))
                .map_err(|error| error.to_string())
        };
        assert_eq!(ask("f6e2"), Ok("f6e28e9b19801295".to_owned()));
        assert_eq!(ask("93ba7"), Ok("93ba71c4e0c87be1".to_owned()), "it fired twice");
        assert_eq!(
            ask("93"),
            Err("`93` is ambiguous, 2 alerts have such an ID: 93ba71c4e0c87be1 (R of 93ba), 93ff000000000000 (R of 93ff)".to_owned())
        );
        assert_eq!(
            ask("0000"),
            Err("no alert has an ID that begins with `0000`; `lookout alerts` shows them".to_owned())
        );
    }
}
