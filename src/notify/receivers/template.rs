//! What receivers with a JSON template share: the template itself, and chats that take it in one POST.

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::{CHAT, Rate, Sending, Transport};
use crate::model::{DeliveryReceipt, Notice, SendError, SendReason, Time};
use crate::notify::http::{self, Http};
use crate::notify::message::{self, Body, Message, Tone};
use crate::notify::words::Words;

/// Characters of lines that one message has, before a medium's own marks.
const ROOM: usize = 1_900;

/// The template of a request's body. Its filters are `json`, `markdown` and `cut(characters)`.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// Longest title, in characters.
    title: usize,
}

impl Template {
    /// The template `source`, whose title has room for `title` characters; an error when it can't be parsed.
    pub(super) fn new(source: &'static str, title: usize) -> Result<Self, String> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("json", |value: Value| serde_json::to_string(&value).unwrap_or_default());
        environment.add_filter("markdown", |text: String| markdown(&text));
        environment.add_filter("cut", |text: String, limit: usize| cut(&text, limit));
        environment.add_template("body", source).map_err(|error| error.to_string())?;
        Ok(Self { environment, title })
    }

    /// The body with `notices`, by the templates of `words`. The template can name what is in `more` as well.
    pub(super) fn render(
        &self,
        now: Time,
        words: &Words,
        notices: &[Arc<Notice>],
        more: Value,
    ) -> Result<String, String> {
        let message = words.compose(now, notices);
        let title = cut(&message.title, self.title);
        let (text, facts, action) = parts(&message, title.ends_with('…'));
        let first = notices.first().ok_or("there is no notice to send")?;
        let colour = message.tone.colour();
        let footer = if let Body::One(details) = &message.body { details.footer() } else { String::new() };
        let rendered = self.environment.get_template("body").and_then(|template| {
            template.render(context! {
                title => title,
                text => text,
                footer => footer,
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
                ..more
            })
        });
        let rendered = rendered.map_err(|error| error.to_string())?;
        // Written anew, so that what is sent is JSON whatever the template's author did.
        let body: serde_json::Value = serde_json::from_str(&rendered).map_err(|error| error.to_string())?;
        Ok(body.to_string())
    }
}

/// What it means that a body can't be built.
pub(super) fn failed(message: String) -> SendError {
    SendError::permanent(SendReason::Message, format!("build the message: {message}"))
}

/// A chat that takes a template in one POST.
#[derive(Debug)]
pub(super) struct Chat {
    http: Http,
    words: Words,
    template: Template,
    /// What its template can name in addition to what is the same for all.
    more: Value,
}

impl Chat {
    /// Sends through `http`, by the templates of `words` and the template `source` with room for a `title` of so many
    /// characters; it can name what is in `more`.
    pub(super) fn new(
        http: Http,
        words: Words,
        (source, title): (&'static str, usize),
        more: Value,
    ) -> Result<Self, String> {
        Ok(Self { http, words, template: Template::new(source, title)?, more })
    }

    fn body(&self, now: Time, notices: &[Arc<Notice>]) -> Result<String, String> {
        self.template.render(now, &self.words, notices, self.more.clone())
    }
}

impl Transport for Chat {
    fn rate(&self) -> Option<Rate> {
        CHAT
    }

    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        message::fitting(notices, ROOM, ROOM / 4, cost)
    }

    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        self.body(now, notices).map(String::into_bytes)
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let body = self.body(now, notices).map_err(failed)?;
            self.http.post(now, body, &http::key(notices)).await?;
            Ok(DeliveryReceipt::default())
        })
    }
}

/// What a line takes of the room.
fn cost(line: &str) -> usize {
    line.chars().count() + 1
}

/// Text below the title, facts and action of a message.
fn parts(message: &Message<'_>, is_cut: bool) -> (String, Vec<(String, String)>, String) {
    match &message.body {
        Body::One(details) => {
            let facts = details.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let text = details.text_below(&message.title, is_cut).unwrap_or_default().to_owned();
            (text, facts, details.action.clone().unwrap_or_default())
        }
        Body::Many(summary) => (summary.within(ROOM, |entry| entry.line(), cost), Vec::new(), String::new()),
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
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::model::Level;
    use crate::notify::samples::{at, firing};
    use crate::notify::transport_tests::build;

    fn body(section: serde_json::Value, notices: Vec<crate::model::Notice>) -> serde_json::Value {
        let notices: Vec<_> = notices.into_iter().map(std::sync::Arc::new).collect();
        serde_json::from_slice(&build(section).render(at(20.0), &notices).unwrap()).unwrap()
    }

    #[test]
    fn each_chat_gets_its_own_shape() {
        let url = "https://x.invalid/";
        let telegram = json!({"name": "ops", "telegram": {"bot_token": "t", "chat_id": "42"}});
        for (kind, section) in [
            ("teams", json!({"name": "ops", "teams": {"webhook_url": url}})),
            ("discord", json!({"name": "ops", "discord": {"webhook_url": url}})),
            ("telegram", telegram.clone()),
        ] {
            let hostile = firing("*w* \"1\" @everyone\n\\", Level::Error, 0.0);
            insta::assert_snapshot!(kind, serde_json::to_string_pretty(&body(section, vec![hostile])).unwrap());
        }
        let many = (0..400).map(|n| firing(&format!("agent-{n}"), Level::Warning, 0.0)).collect();
        let text = body(telegram, many)["text"].as_str().unwrap().to_owned();
        assert!(text.chars().count() <= 4_000 && text.contains("more; all of them"), "{text}");
    }
}
