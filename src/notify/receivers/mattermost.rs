//! Mattermost and Rocket.Chat, through an incoming webhook: one payload that both understand.
//!
//! Both read Markdown, and Mattermost also Slack's `<!channel>` and `<url|text>`. What agents wrote formats nothing, links
//! nothing behind other words and mentions no one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::template::cut;
use super::{Parts, Rate, ReceiverSection, Sending, Transport, Wrong, wrong};
use crate::model::{DeliveryReceipt, Notice, SendError, SendReason, Time};
use crate::notify::answer::{Answer, Success};
use crate::notify::http::{self, Http, Target};
use crate::notify::message::{self, Body};
use crate::notify::settings::{Reporter, WebhookAddress};
use crate::notify::words::Words;

/// Longest message, in characters: what Mattermost takes. Here it is all texts of a message together.
const TOTAL: usize = 16_383;
/// Longest headline, and longest fallback, before they are escaped.
const TITLE: usize = 300;
/// Room for a sentence, an action, or the overview of several alerts, before they are escaped.
const SENTENCE: usize = 2_000;
/// Longest value of a fact, before it is escaped.
const FACT: usize = 250;
/// Most facts.
const FACTS: usize = 8;
/// Room for the lines of several alerts, once they are escaped.
const LINES: usize = 9_000;
/// Room for the line of one incident.
const INCIDENT: usize = 1_600;
/// Escaped, a character becomes two at most.
const ESCAPED: usize = 2;

const _: () = {
    let head = ESCAPED * 2 * TITLE;
    assert!(head + ESCAPED * (2 * SENTENCE + FACTS * FACT) + 500 <= TOTAL);
    assert!(head + ESCAPED * SENTENCE + LINES + 500 <= TOTAL);
};

/// A channel of Mattermost or Rocket.Chat.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct MattermostConfig(WebhookAddress);

impl ReceiverSection for MattermostConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        self.0.validate(report);
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let target = Target::Url(self.0.source().map_err(wrong("webhook_url"))?);
        let http = parts.http(NAME, target, Success::Acknowledgement)?;
        Ok(Box::new(Mattermost { http, words: parts.words }))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let url = format!("http://{address}/hooks/{}", super::SECRET);
        vec![super::Sample::post(Success::Acknowledgement, json!({"webhook_url": url}))]
    }
}

/// How errors name it.
const NAME: &str = "mattermost";

/// An incoming webhook.
#[derive(Debug)]
struct Mattermost {
    http: Http,
    words: Words,
}

impl Mattermost {
    fn body(&self, now: Time, notices: &[Arc<Notice>]) -> String {
        let message = self.words.compose(now, notices);
        let title = cut(&message.title, TITLE);
        let (fallback, text, facts) = match message.body {
            Body::One(details) => {
                let text = details.text_below(&message.title, title.ends_with('…'));
                let action = details.action.as_deref();
                let text: Vec<String> =
                    text.into_iter().chain(action).map(|text| escape(&cut(text, SENTENCE))).collect();
                let fallback = message::with_action(&message.title, action);
                (fallback, text.join("\n"), details.facts)
            }
            Body::Many(mut summary) => {
                summary.actions.iter_mut().for_each(|action| *action = escape(action));
                let fallback = format!("{title} ({})", summary.overview);
                summary.overview = escape(&cut(&summary.overview, SENTENCE));
                (fallback, summary.within(LINES, |entry| escape(&entry.line()), cost), Vec::new())
            }
        };
        let fallback = cut(&fallback, TITLE);
        let fields: Vec<_> = facts
            .iter()
            .take(FACTS)
            .map(|(name, value)| json!({"short": true, "title": name, "value": escape(&cut(value, FACT))}))
            .collect();
        json!({
            "text": escape(&title),
            "attachments": [{
                "color": message.tone.colour(),
                "fallback": escape(&fallback),
                "text": text,
                "fields": fields,
            }],
        })
        .to_string()
    }
}

impl Transport for Mattermost {
    /// Ten in a minute, which is what Rocket.Chat takes by default.
    fn rate(&self) -> Option<Rate> {
        Some((Duration::from_secs(10), 4))
    }

    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        message::fitting(notices, LINES, INCIDENT, |line| cost(&escape(line)))
    }

    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        Ok(self.body(now, notices).into_bytes())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let answer = self.http.exchange(now, self.body(now, notices), &http::key(notices)).await?;
            meaning(&answer)?;
            Ok(DeliveryReceipt::default())
        })
    }
}

/// What an answer means. Mattermost answers 400 for a webhook that it does not know, which rejects us and not the message.
fn meaning(answer: &Answer) -> Result<(), SendError> {
    let body = answer.json();
    let id = body.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
    if answer.status == 400 && ["web.incoming_webhook.invalid.app_error"].contains(&id) {
        return Err(SendError::limited(
            SendReason::Refused,
            format!("{} answered 400: it knows no such webhook; check its URL", answer.who(NAME)),
        ));
    }
    answer.accepted(NAME, Success::Acknowledgement)
}

/// `text` without meaning to either server: what is Markdown to both has a backslash before it, and what else would begin
/// something (a mention, an entity of Slack's, a quote, a link behind a text) is held apart by a space of no width.
fn escape(text: &str) -> String {
    const APART: char = '\u{200b}';
    let mut escaped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' | '`' | '*' | '_' | '~' | '#' => escaped.extend(['\\', letter]),
            '@' | '<' => escaped.extend([letter, APART]),
            '>' => escaped.extend([APART, letter]),
            ']' if matches!(letters.peek(), Some('(' | ':' | '[')) => escaped.extend([letter, APART]),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// What a line takes of the room.
fn cost(line: &str) -> usize {
    line.chars().count() + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::{Incident, Level, Retry};
    use crate::notify::samples::{at, firing, resolved};
    use crate::notify::transport_tests::{answering, build};

    fn rendered(notices: Vec<Notice>) -> String {
        let section = json!({"name": "ops", "mattermost": {"webhook_url": "https://x.invalid/hooks/x"}});
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        String::from_utf8(build(section).render(at(20.0), &notices).unwrap()).unwrap()
    }

    fn pretty(notices: Vec<Notice>) -> String {
        let value: Value = serde_json::from_str(&rendered(notices)).unwrap();
        // What has no width is shown.
        serde_json::to_string_pretty(&value).unwrap().replace('\u{200b}', "\\u200b")
    }

    #[test]
    fn messages_have_these_bytes() {
        let hostile = firing("*w* \"1\" @all <!channel> [x](http://y) > #z", Level::Error, 0.0);
        insta::assert_snapshot!("mattermost_one", pretty(vec![hostile]));
        insta::assert_snapshot!("mattermost_resolved", pretty(vec![resolved("worker_1", 20.0)]));
        let several = vec![resolved("b @here", 9.0), firing("a", Level::Critical, 0.0)];
        insta::assert_snapshot!("mattermost_several", pretty(several));
        let part = |n: usize| Notice {
            part_of: Some(Incident { firing: 12, agents: 20 }),
            ..firing(&format!("w{n}"), Level::Warning, 0.0)
        };
        insta::assert_snapshot!("mattermost_incident", pretty((0..12).map(part).collect()));
    }

    #[test]
    fn a_level_has_its_colour() {
        let colour = |notice: Notice| {
            let value: Value = serde_json::from_str(&rendered(vec![notice])).unwrap();
            value["attachments"][0]["color"].as_str().unwrap().to_owned()
        };
        for (level, expected) in [
            (Level::Critical, "#990000"),
            (Level::Error, "#ff0000"),
            (Level::Warning, "#ff9900"),
            (Level::Info, "#36a64f"),
        ] {
            assert_eq!(colour(firing("a", level, 0.0)), expected);
        }
        assert_eq!(colour(resolved("a", 9.0)), "#36a64f");
    }

    #[test]
    fn nobody_is_mentioned_and_nothing_is_formatted() {
        for (text, expected) in [
            ("worker-1 is idle", "worker-1 is idle"),
            ("@all, @channel", "@\u{200b}all, @\u{200b}channel"),
            (
                "<!here> <@U1> <http://x|y>",
                "<\u{200b}!here\u{200b}> <\u{200b}@\u{200b}U1\u{200b}> <\u{200b}http://x|y\u{200b}>",
            ),
            ("![x](http://y)[a][b]", "![x]\u{200b}(http://y)[a]\u{200b}[b]"),
            ("[ERROR] a: [x]: http://y", "[ERROR] a: [x]\u{200b}: http://y"),
            ("*b* _i_ ~s~ `c` # \\", "\\*b\\* \\_i\\_ \\~s\\~ \\`c\\` \\# \\\\"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn a_storm_says_how_many_were_left_out() {
        let storm: Vec<Notice> = (0..400).map(|n| firing(&format!("agent_{n}"), Level::Warning, 0.0)).collect();
        let receiver = build(json!({"name": "ops", "mattermost": {"webhook_url": "https://x.invalid/hooks/x"}}));
        let fits = receiver.fitting(at(20.0), &storm.iter().collect::<Vec<_>>());
        assert!((80..200).contains(&fits), "{fits}");
        assert!(!rendered(storm[..fits].to_vec()).contains("more; all of them"));
        assert!(rendered(storm).contains(" more; all of them are on"));
    }

    #[tokio::test]
    async fn answers_of_both_servers_mean_what_they_say() {
        let unknown =
            r#"{"id":"web.incoming_webhook.invalid.app_error","message":"Invalid webhook.","status_code":400}"#;
        for (status, body, expected) in [
            ("200 OK", "ok", None),
            ("200 OK", r#"{"success":true}"#, None),
            ("200 OK", r#"{"success":false,"error":"x"}"#, Some(Retry::Unlimited)),
            ("400 X", r#"{"success":false,"error":"error-invalid-channel"}"#, Some(Retry::Never)),
            ("400 X", unknown, Some(Retry::Limited)),
            ("400 X", r#"{"id":"web.incoming_webhook.text.app_error","status_code":400}"#, Some(Retry::Never)),
            ("404 X", r#"{"success":false,"error":"Invalid integration id or token provided."}"#, Some(Retry::Limited)),
            ("503 X", "Service Unavailable", Some(Retry::Unlimited)),
        ] {
            let (address, _posted) = answering(move |_: &str| (status.to_owned(), body.to_owned())).await;
            let url = format!("http://{address}/hooks/x");
            let receiver = build(json!({"name": "ops", "mattermost": {"webhook_url": url}}));
            let sent = receiver.send(at(0.0), &[Arc::new(firing("a", Level::Error, 0.0))]).await;
            assert_eq!(sent.err().map(|error| error.retry), expected, "{status} {body}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_passes_the_limit_and_no_mention_gets_through(
            texts in proptest::collection::vec(("\\PC{0,300}", "[\\x00-\\x1f&<>@*_\"\\\\🤖ä]{0,60}"), 1..40),
            times in 1_usize..80,
        ) {
            let notice = |(name, words): (String, String)| {
                let words = words.repeat(times);
                let notice = firing(&name, Level::Error, 0.0);
                Notice { message: Arc::from(&*words), action: Arc::from(words), rule: Arc::from(name), ..notice }
            };
            let notices: Vec<Notice> = texts.into_iter().map(notice).collect();
            for notices in [vec![notices[0].clone()], notices] {
                let value: Value = serde_json::from_str(&rendered(notices)).unwrap();
                let mut texts = vec![value["text"].as_str().unwrap().to_owned()];
                let attachment = &value["attachments"][0];
                texts.extend(["fallback", "text"].map(|key| attachment[key].as_str().unwrap().to_owned()));
                let fields = attachment["fields"].as_array().unwrap().iter();
                texts.extend(fields.map(|field| field["value"].as_str().unwrap().to_owned()));
                prop_assert!(texts.iter().map(|text| text.chars().count()).sum::<usize>() <= TOTAL);
                let is_apart = |text: &String| text.split(['@', '<']).skip(1).all(|rest| rest.starts_with('\u{200b}'));
                prop_assert!(texts.iter().all(is_apart), "{:?}", texts);
            }
        }
    }
}
