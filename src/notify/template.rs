//! Teams, Discord, Telegram and PagerDuty: JSON templates over the one HTTP sender.

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::http::{Http, read};
use super::message::{Body, Message, Tone};
use super::webhook;
use super::words::Words;
use crate::model::{Notice, SendError, SendReason, Time};
use crate::secret::SecretSource;

/// Characters of lines that one message has, before a medium's own marks.
const ROOM: usize = 1_900;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// Microsoft Teams, through a workflow's webhook.
    Teams,
    /// Discord, through a webhook.
    Discord,
    /// Telegram, through a bot.
    Telegram,
    /// PagerDuty's events, version 2.
    PagerDuty,
}

impl Medium {
    /// Its word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Teams => "teams",
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::PagerDuty => "pagerduty",
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Self::Teams => include_str!("templates/teams.json"),
            Self::Discord => include_str!("templates/discord.json"),
            Self::Telegram => include_str!("templates/telegram.json"),
            Self::PagerDuty => include_str!("templates/pagerduty.json"),
        }
    }

    /// Whether each alert is a request of its own.
    pub(super) const fn takes_each(self) -> bool {
        matches!(self, Self::PagerDuty)
    }
}

/// A medium, how it is reached, and in which words.
#[derive(Debug)]
pub(super) struct Templated {
    medium: Medium,
    http: Http,
    /// Goes into the body.
    token: Option<SecretSource>,
    chat_id: String,
    words: Words,
    environment: Environment<'static>,
}

impl Templated {
    /// Told through `http`; `token` and `chat_id` go into the body of those that want them there.
    pub(super) fn new(
        medium: Medium,
        http: Http,
        token: Option<SecretSource>,
        chat_id: String,
        words: Words,
    ) -> Result<Self, String> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("json", |value: Value| serde_json::to_string(&value).unwrap_or_default());
        environment.add_filter("markdown", |text: String| markdown(&text));
        environment.add_filter("cut", |text: String, limit: usize| cut(&text, limit));
        environment.add_template("body", medium.template()).map_err(|error| error.to_string())?;
        Ok(Self { medium, http, token, chat_id, words, environment })
    }

    /// The same with another deadline, for tests of a receiver that hangs.
    #[cfg(test)]
    pub(super) fn with_deadline(self, deadline: std::time::Duration) -> Self {
        Self { http: self.http.with_deadline(deadline), ..self }
    }

    /// What it is.
    pub(super) const fn medium(&self) -> Medium {
        self.medium
    }

    /// How many of `notices`, from the first on, one message has room to tell.
    pub(super) fn fitting(&self, now: Time, notices: &[&Notice]) -> usize {
        if self.medium.takes_each() {
            return notices.len();
        }
        super::message::fitting(now, notices, ROOM, ROOM / 4, |line| line.chars().count() + 1)
    }

    /// The bytes of the request that tells `notices`, with `token` where it belongs.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>], token: &str) -> Result<String, String> {
        let message = self.words.compose(now, notices);
        let (text, facts, action) = parts(now, &message);
        let first = notices.first().ok_or("there is nothing to tell")?;
        let colour = message.tone.colour();
        let rendered = self.environment.get_template("body").and_then(|template| {
            template.render(context! {
                title => &*message.title,
                text => text,
                facts => facts,
                action => action,
                tone => match message.tone { Tone::Firing(level) => level.as_str(), _ => "info" },
                colour_number => u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap_or_default(),
                is_over => !first.kind.is_firing(),
                fingerprint => first.fingerprint.to_string(),
                level => first.level.as_str(),
                rule => &*first.rule,
                project => first.subject.project().map_or("", |project| project),
                subject => &**first.subject.name(),
                at => first.at.to_string(),
                token => token,
                chat_id => &*self.chat_id,
            })
        });
        let rendered = rendered.map_err(|error| error.to_string())?;
        // Written anew, so that what is sent is JSON whatever the template's author did.
        let body: serde_json::Value = serde_json::from_str(&rendered).map_err(|error| error.to_string())?;
        Ok(body.to_string())
    }

    /// Tells `notices`: in one message, or each by itself where that is the medium's way.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let token = match &self.token {
            Some(token) => Some(read(token).await?),
            None => None,
        };
        let token = token.as_ref().map_or("", |token| token.expose());
        let size = if self.medium.takes_each() { 1 } else { notices.len().max(1) };
        for part in notices.chunks(size) {
            let body = self.render(now, part, token).map_err(|message| {
                SendError::permanent(SendReason::Message, format!("build the message: {message}"))
            })?;
            self.http.post(now, body, &webhook::key(part)).await?;
        }
        Ok(())
    }
}

/// Text, facts and action of a message.
fn parts(now: Time, message: &Message<'_>) -> (String, Vec<(String, String)>, String) {
    match &message.body {
        Body::One(details) => {
            let facts = details.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            (details.sentence.clone(), facts, details.action.clone().unwrap_or_default())
        }
        Body::Many(summary) => {
            let (mut room, mut told) = (ROOM, 0);
            let mut lines = vec![summary.overview.clone()];
            for entry in &summary.entries {
                let line = entry.line(now);
                let cost = line.chars().count() + 1;
                if cost > room && told > 0 {
                    break;
                }
                room = room.saturating_sub(cost);
                lines.push(line);
                told += 1;
            }
            let left: usize = summary.entries.iter().skip(told).map(|entry| entry.notices().len()).sum();
            if left > 0 {
                lines.push(super::message::left_out(left));
            }
            (lines.join("\n"), Vec::new(), String::new())
        }
    }
}

/// `text` without meaning to Markdown, and without mentions.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\`*_[]~|<>@".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// At most `limit` characters of `text`.
fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::answer::Success;
    use super::super::http::Target;
    use super::super::samples::{at, firing, resolved};
    use super::*;
    use crate::model::Level;
    use crate::secret::Secret;

    fn body(medium: Medium, notices: &[Notice]) -> serde_json::Value {
        let target = Target::Url(SecretSource::Value(Secret::new("https://x.invalid/")));
        let http = Http::new(
            medium.as_str(),
            crate::http_client::build(std::time::Duration::from_secs(1), None).unwrap(),
            target,
            Success::NoError,
        );
        let templated = Templated::new(medium, http, None, "42".to_owned(), Words::default()).unwrap();
        let notices: Vec<_> = notices.iter().cloned().map(Arc::new).collect();
        serde_json::from_str(&templated.render(at(20.0), &notices, "k3y").unwrap()).unwrap()
    }

    #[test]
    fn each_medium_is_told_in_its_own_shape() {
        for medium in [Medium::Teams, Medium::Discord, Medium::Telegram, Medium::PagerDuty] {
            let sly = firing("*w* \"1\" @everyone\n\\", Level::Error, 0.0);
            let shown = serde_json::to_string_pretty(&body(medium, &[sly])).unwrap();
            insta::assert_snapshot!(medium.as_str(), shown);
        }
        let over = body(Medium::PagerDuty, &[resolved("a", 10.0)]);
        assert_eq!((&over["event_action"], &over["routing_key"]), (&"resolve".into(), &"k3y".into()));
        let fired = body(Medium::PagerDuty, &[firing("a", Level::Warning, 0.0)]);
        assert_eq!(over["dedup_key"], fired["dedup_key"], "it ends what it began");
        let many: Vec<Notice> = (0..400).map(|n| firing(&format!("agent-{n}"), Level::Warning, 0.0)).collect();
        let text = body(Medium::Telegram, &many)["text"].as_str().unwrap().to_owned();
        assert!(text.chars().count() <= 4_000 && text.contains("more that found no room"), "{text}");
    }
}
