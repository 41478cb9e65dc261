//! ntfy: a push message to the phones that subscribe to a topic, by <https://docs.ntfy.sh/publish/#publish-as-json>.
//!
//! The topic is a secret as the token is: whoever knows one of a server without access control can read it and write to
//! it. What is published is plain text, so that nothing in it formats or mentions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Parts, Rate, ReceiverSection, Sending, Transport, Wrong, webhook, wrong};
use crate::model::{DeliveryReceipt, Level, Notice, SendError, SendReason, Time};
use crate::notify::answer::Success;
use crate::notify::http::{self, Http, Target, read};
use crate::notify::message::{self, Body, Tone};
use crate::notify::settings::{Reporter, api};
use crate::notify::words::Words;
use crate::secret::{Secret, SecretPair, SecretSource, SecretUrl};

/// Longest message, in bytes. A server takes 4,096 and makes an attachment of what is longer; the whole request may have
/// twice as many, of which each quote in the message takes two.
const MESSAGE: usize = 3_500;
/// Room for the overview of several alerts.
const OVERVIEW: usize = 600;
/// Room for the line in place of those that do not fit.
const LEFT_OUT: usize = 100;
/// Room for the lines of several alerts.
const LINES: usize = MESSAGE - OVERVIEW - LEFT_OUT - message::ACTIONS_ROOM;
/// Room for the line of one incident.
const INCIDENT: usize = 800;
/// Longest title, in bytes; a server takes 1,024.
const TITLE: usize = 250;
/// Longest link, in bytes, so that the request keeps within what a server takes.
const CLICK: usize = 400;
/// Longest topic.
const TOPIC: usize = 64;
/// What is wrong with what is no topic.
const NO_TOPIC: &str = "it is not a topic; ntfy takes 1 to 64 letters, digits, `-` and `_`";

/// A topic of an ntfy server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NtfyConfig {
    /// The server; ntfy.sh when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretUrl>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Secret>,
    /// The file that holds the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_file: Option<PathBuf>,
    /// An access token, where the topic is protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl NtfyConfig {
    fn url(&self) -> &str {
        api(self.url.as_ref(), "https://ntfy.sh")
    }

    fn topic(&self) -> Result<SecretSource, &'static str> {
        match SecretSource::from_required_pair(&self.topic, &self.topic_file)? {
            SecretSource::Value(topic) if !is_topic(topic.expose()) => Err(NO_TOPIC),
            topic => Ok(topic),
        }
    }

    fn token(&self) -> SecretPair {
        SecretSource::from_pair(&self.token, &self.token_file)
    }
}

fn is_topic(text: &str) -> bool {
    let is_of_topic = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=TOPIC).contains(&text.len()) && text.bytes().all(is_of_topic)
}

impl ReceiverSection for NtfyConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        report.url("url", self.url.as_deref());
        report.secret("topic", self.topic().map(Some));
        report.secret("token", self.token());
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let target = Target::Plain(self.url().to_owned());
        let token = self.token().map_err(wrong("token"))?;
        Ok(Box::new(Ntfy {
            http: parts.http("ntfy", target, Success::NoError)?.with_token(token),
            topic: self.topic().map_err(wrong("topic"))?,
            external_url: parts.external_url.to_owned(),
            words: parts.words,
        }))
    }

    /// A server limits who publishes, by address, whatever the topic.
    fn is_place_of(&self, other: &Self) -> bool {
        self.url() == other.url()
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        use super::{SECRET, Sample};
        let section = serde_json::json!({"url": format!("http://{address}"), "topic": SECRET, "token": SECRET});
        vec![Sample::post(Success::NoError, section)]
    }
}

/// A topic.
#[derive(Debug)]
struct Ntfy {
    http: Http,
    topic: SecretSource,
    external_url: String,
    words: Words,
}

/// The body of a request.
#[derive(Serialize)]
struct Publication<'a> {
    topic: &'a str,
    title: String,
    message: String,
    priority: u8,
    tags: [&'static str; 1],
    /// What opens when it is touched.
    #[serde(skip_serializing_if = "str::is_empty")]
    click: &'a str,
}

impl Ntfy {
    fn body(&self, now: Time, notices: &[Arc<Notice>], topic: &str) -> Result<String, String> {
        let message = self.words.compose(now, notices);
        let link = match notices {
            [notice] => webhook::link(notice, &self.external_url),
            _ => self.external_url.clone(),
        };
        let title = cut(&message.title, TITLE);
        let text = match message.body {
            Body::One(details) => {
                let text = details.text_below(&message.title, title.ends_with('…'));
                let footer = details.footer();
                let footer = Some(&*footer).filter(|footer| !footer.is_empty());
                let lines: Vec<&str> = text.into_iter().chain(details.action.as_deref()).chain(footer).collect();
                lines.join("\n")
            }
            Body::Many(mut summary) => {
                summary.overview = cut(&summary.overview, OVERVIEW);
                summary.within(LINES, |entry| entry.line(), cost)
            }
        };
        let (priority, tag) = urgency(message.tone);
        let publication = Publication {
            topic,
            title,
            message: cut(text.trim(), MESSAGE),
            priority,
            tags: [tag],
            click: if link.len() > CLICK { "" } else { &link },
        };
        serde_json::to_string(&publication).map_err(|error| error.to_string())
    }
}

/// How loud a message of that tone is, from 1 to 5, and the tag whose picture stands before its title.
const fn urgency(tone: Tone) -> (u8, &'static str) {
    match tone {
        Tone::Firing(Level::Critical) => (5, "rotating_light"),
        Tone::Firing(Level::Error) => (4, "red_circle"),
        Tone::Firing(Level::Warning) => (3, "warning"),
        Tone::Firing(Level::Info) => (2, "information_source"),
        Tone::Resolved => (2, "white_check_mark"),
        Tone::Note => (2, "memo"),
        Tone::Test => (3, "test_tube"),
    }
}

impl Transport for Ntfy {
    /// That of ntfy.sh, which is also the default of a server of one's own.
    fn rate(&self) -> Option<Rate> {
        Some((Duration::from_secs(5), 60))
    }

    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        message::fitting(notices, LINES, INCIDENT, cost)
    }

    /// Without the topic.
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        self.body(now, notices, "").map(String::into_bytes)
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let topic = read(&self.topic).await?;
            if !is_topic(topic.expose()) {
                return Err(SendError::transient(SendReason::Secret, format!("the topic: {NO_TOPIC}")));
            }
            let body = self.body(now, notices, topic.expose()).map_err(super::template::failed)?;
            self.http.post(now, body, &http::key(notices)).await?;
            Ok(DeliveryReceipt::default())
        })
    }
}

/// What a line takes of the room.
const fn cost(line: &str) -> usize {
    line.len() + 1
}

/// At most `limit` bytes of `text`.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub('…'.len_utf8());
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= room;
    text.char_indices().take_while(fits).map(|(_, letter)| letter).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Incident, NoticeKind};
    use crate::notify::config::{ReceiverConfig, validate};
    use crate::notify::samples::{at, firing, resolved};
    use crate::notify::transport_tests::{SECRET, answering, build, build_with};

    fn published(external_url: &str, notices: Vec<Notice>) -> String {
        let section = json!({"name": "ops", "ntfy": {"topic": "alerts"}});
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        String::from_utf8(build_with(section, external_url).render(at(20.0), &notices).unwrap()).unwrap()
    }

    fn value(notices: Vec<Notice>) -> Value {
        serde_json::from_str(&published("", notices)).unwrap()
    }

    #[test]
    fn one_alert_has_these_bytes() {
        let hostile = firing("*w* \"1\" @everyone", Level::Error, 0.0);
        insta::assert_snapshot!("ntfy_one", published("https://lookout.example/", vec![hostile]));
        insta::assert_snapshot!("ntfy_resolved", published("", vec![resolved("worker-1", 20.0)]));
    }

    #[test]
    fn several_alerts_and_an_incident_have_these_bytes() {
        let several = vec![resolved("b", 9.0), firing("a", Level::Critical, 0.0)];
        insta::assert_snapshot!("ntfy_several", published("https://lookout.example", several));
        let part = |n: usize| Notice {
            part_of: Some(Incident { firing: 12, agents: 20 }),
            ..firing(&format!("w{n}"), Level::Warning, 0.0)
        };
        insta::assert_snapshot!("ntfy_incident", published("", (0..12).map(part).collect()));
    }

    #[test]
    fn what_is_worse_is_louder_and_what_is_over_is_not() {
        let urgency = |notice: Notice| {
            let value = value(vec![notice]);
            (value["priority"].as_u64().unwrap(), value["tags"][0].as_str().unwrap().to_owned())
        };
        for (level, expected) in [
            (Level::Critical, (5, "rotating_light")),
            (Level::Error, (4, "red_circle")),
            (Level::Warning, (3, "warning")),
            (Level::Info, (2, "information_source")),
        ] {
            assert_eq!(urgency(firing("a", level, 0.0)), (expected.0, expected.1.to_owned()));
        }
        let over = Notice { level: Level::Critical, ..resolved("a", 9.0) };
        assert_eq!(urgency(over), (2, "white_check_mark".to_owned()));
        let note = Notice { kind: NoticeKind::Announcement, ..firing("a", Level::Info, 0.0) };
        assert_eq!(urgency(note), (2, "memo".to_owned()));
    }

    #[test]
    fn a_storm_says_how_many_were_left_out_and_goes_on_in_the_next_message() {
        let storm: Vec<Notice> = (0..400).map(|n| firing(&format!("agent-{n}"), Level::Warning, 0.0)).collect();
        let receiver = build(json!({"name": "ops", "ntfy": {"topic": "alerts"}}));
        let fits = receiver.fitting(at(20.0), &storm.iter().collect::<Vec<_>>());
        assert!((20..60).contains(&fits), "{fits}");
        let message_of = |notices: &[Notice]| value(notices.to_vec())["message"].as_str().unwrap().to_owned();
        assert!(!message_of(&storm[..fits]).contains(" more; all of them"));
        assert!(message_of(&storm).contains(" more; all of them are on") && message_of(&storm).len() <= MESSAGE);
    }

    #[test]
    fn a_section_is_checked_and_shows_neither_topic_nor_token() {
        for (section, expected) in [
            (json!({"topic": SECRET}), None),
            (json!({"topic_file": "/x", "token_file": "/y", "url": "http://127.0.0.1:8080"}), None),
            (json!({}), Some("receivers[0].ntfy.topic: missing; set it or its `_file`")),
            (
                json!({"topic": "S3CRET/x"}),
                Some("receivers[0].ntfy.topic: it is not a topic; ntfy takes 1 to 64 letters"),
            ),
            (
                json!({"topic": SECRET, "topic_file": "/x"}),
                Some("receivers[0].ntfy.topic: set the value or the `_file`"),
            ),
            (json!({"topic": SECRET, "token": ""}), Some("receivers[0].ntfy.token: is empty")),
            (
                json!({"topic": SECRET, "url": "http://S3CRET.example.com"}),
                Some("receivers[0].ntfy.url: it does not begin with https://"),
            ),
        ] {
            let config: ReceiverConfig = serde_json::from_value(json!({"name": "ops", "ntfy": section})).unwrap();
            let problems: Vec<String> = validate(std::slice::from_ref(&config))
                .iter()
                .map(|it| format!("{}: {}", it.path, it.message))
                .collect();
            assert_eq!(problems.len(), usize::from(expected.is_some()), "{section}: {problems:?}");
            assert!(expected.is_none_or(|text| problems[0].starts_with(text)), "{section}: {problems:?}");
            assert!(!problems.concat().contains(SECRET), "{problems:?}");
        }
        let config: ReceiverConfig =
            serde_json::from_value(json!({"name": "ops", "ntfy": {"topic": SECRET, "token": SECRET}})).unwrap();
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains(SECRET) && shown.contains("\"topic\":\"***\""), "{shown}");
    }

    #[test]
    fn receivers_of_one_server_share_its_rate() {
        let configs: Vec<ReceiverConfig> = serde_json::from_value(json!([
            {"name": "a", "ntfy": {"topic": "a"}},
            {"name": "b", "ntfy": {"topic": "b", "url": "https://ntfy.sh/"}},
            {"name": "c", "ntfy": {"topic": "a", "url": "https://ntfy.example.com"}},
        ]))
        .unwrap();
        let receivers = crate::notify::Receiver::build(&configs).unwrap();
        let buckets: Vec<_> = receivers.iter().map(|it| it.pace.bucket.unwrap()).collect();
        let (shared, alone) = ((Duration::from_secs(10), 30), (Duration::from_secs(5), 60));
        assert_eq!(buckets, [shared, shared, alone]);
    }

    #[tokio::test]
    async fn ntfys_own_answers_mean_what_they_say() {
        use crate::model::Retry::{Limited, Never, Unlimited};
        for (status, body, expected) in [
            ("200 OK", r#"{"id":"x","time":1,"event":"message","topic":"t","message":"error"}"#, None),
            ("400 X", r#"{"code":40009,"http":400,"error":"invalid request: topic invalid"}"#, Some(Never)),
            ("401 X", r#"{"code":40101,"http":401,"error":"unauthorized"}"#, Some(Limited)),
            ("403 X", r#"{"code":40301,"http":403,"error":"forbidden"}"#, Some(Limited)),
            ("413 X", r#"{"code":41303,"http":413,"error":"JSON body too large"}"#, Some(Never)),
            ("429 X", r#"{"code":42901,"http":429,"error":"limit reached: too many requests"}"#, Some(Unlimited)),
            ("500 X", r#"{"code":50001,"http":500,"error":"internal server error"}"#, Some(Unlimited)),
        ] {
            let (address, mut posted) = answering(move |_: &str| (status.to_owned(), body.to_owned())).await;
            let ntfy = build(json!({"name": "ops", "ntfy": {"url": format!("http://{address}"), "topic": "alerts"}}));
            let sent = ntfy.send(at(0.0), &[Arc::new(firing("a", Level::Error, 0.0))]).await;
            assert_eq!(sent.err().map(|error| error.retry), expected, "{status} {body}");
            assert!(posted.recv().await.unwrap().starts_with(r#"{"topic":"alerts","#));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_passes_a_limit(
            texts in proptest::collection::vec(("\\PC{0,300}", "[\\x00-\\x1f&<>\"\\\\🤖ä]{0,60}"), 1..40),
            times in 1_usize..80,
        ) {
            let notice = |(name, words): (String, String)| {
                let words = words.repeat(times);
                let notice = firing(&name, Level::Error, 0.0);
                Notice { message: Arc::from(&*words), action: Arc::from(words), rule: Arc::from(name), ..notice }
            };
            let notices: Vec<Notice> = texts.into_iter().map(notice).collect();
            for notices in [vec![notices[0].clone()], notices] {
                let body = published("https://lookout.example", notices);
                let value: Value = serde_json::from_str(&body).unwrap();
                prop_assert!(body.len() <= 2 * 4_096 && value["message"].as_str().unwrap().len() <= MESSAGE);
                prop_assert!(value["title"].as_str().unwrap().len() <= TITLE);
            }
        }
    }
}
