//! A receiver's own texts: templates for the title and the text of its messages, in Jinja's syntax.
//!
//! A template that fails never costs an alert: the usual text is sent, with the error.

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::message::{Body, Message, compose, one_line};
use super::samples_for_trial;
use crate::model::{Notice, Time};

/// Longest rendered text, in bytes.
const TEXT: usize = 4_000;
/// Longest rendered title, in bytes.
const TITLE: usize = 300;

/// The words of one receiver; the usual ones where it has none.
#[derive(Debug, Default)]
pub(super) struct Words {
    environment: Option<Environment<'static>>,
}

impl Words {
    /// The templates, tried once with an alert; the error is the key and what is wrong.
    pub(super) fn new(title: Option<&str>, text: Option<&str>) -> Result<Self, (&'static str, String)> {
        if title.is_none() && text.is_none() {
            return Ok(Self::default());
        }
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (key, source) in [("title", title), ("text", text)] {
            let Some(source) = source else { continue };
            let wrong = |error: minijinja::Error| (key, format!("it can't be built: {error}"));
            environment.add_template_owned(key, source.to_owned()).map_err(wrong)?;
        }
        let words = Self { environment: Some(environment) };
        let trial = [Arc::new(samples_for_trial())];
        let message = compose(trial[0].at, &trial);
        for key in ["title", "text"] {
            if let Some(Err(error)) = words.render(key, &message, &trial) {
                return Err((key, format!("it can't be built: {error}")));
            }
        }
        Ok(words)
    }

    /// The message that carries `notices`, in these words.
    pub(super) fn compose<'a>(&self, now: Time, notices: &'a [Arc<Notice>]) -> Message<'a> {
        let mut message = compose(now, notices);
        if notices.iter().any(|notice| !notice.kind.is_of_alert()) {
            return message;
        }
        let (title, text) = (self.render("title", &message, notices), self.render("text", &message, notices));
        let place = match &mut message.body {
            Body::One(details) => &mut details.sentence,
            Body::Many(summary) => &mut summary.overview,
        };
        match text {
            Some(Ok(text)) => *place = one_line(&text, TEXT),
            Some(Err(error)) => complain(place, "text", &error),
            None => {}
        }
        match title {
            Some(Ok(title)) => message.title = one_line(&title, TITLE),
            Some(Err(error)) => complain(place, "title", &error),
            None => {}
        }
        message
    }

    fn render(
        &self,
        key: &str,
        message: &Message<'_>,
        notices: &[Arc<Notice>],
    ) -> Option<Result<String, minijinja::Error>> {
        let template = self.environment.as_ref()?.get_template(key).ok()?;
        let first = notices.first()?;
        let usual = match &message.body {
            Body::One(details) => &details.sentence,
            Body::Many(summary) => &summary.overview,
        };
        let alerts: Vec<Value> = notices.iter().map(|notice| facts(notice)).collect();
        Some(template.render(context! {
            title => &*message.title,
            text => usual,
            count => notices.len(),
            alerts => alerts,
            ..facts(first)
        }))
    }
}

/// What a template can name of one alert.
fn facts(notice: &Notice) -> Value {
    context! {
        rule => &*notice.rule,
        level => notice.level.as_str(),
        project => notice.subject.project().map_or("", |project| project),
        subject => &**notice.subject.name(),
        who => notice.subject.who(),
        agent_type => notice.agent_type.as_deref().unwrap_or_default(),
        status => if notice.kind.is_firing() { "firing" } else { "resolved" },
        message => &*notice.message,
        action => &*notice.action,
        value => notice.value,
        threshold => notice.threshold,
        measure => notice.value.and_then(|value| notice.unit.measure(value, notice.threshold)).unwrap_or_default(),
        started_at => notice.started_at.to_string(),
        fingerprint => notice.fingerprint.to_string(),
    }
}

fn complain(place: &mut String, key: &str, error: &minijinja::Error) {
    tracing::warn!(key, %error, "a receiver's template failed; the usual words are sent");
    place.push_str(&format!(" (the receiver's own {key} can't be built: {error})"));
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, firing};
    use super::*;
    use crate::model::Level;

    fn composed(title: Option<&str>, text: Option<&str>, notices: Vec<Notice>) -> (String, String) {
        let words = Words::new(title, text).unwrap();
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let message = words.compose(at(0.0), &notices);
        let text = match message.body {
            Body::One(details) => details.sentence,
            Body::Many(summary) => summary.overview,
        };
        (message.title, text)
    }

    #[test]
    fn a_receiver_has_its_own_words() {
        let (title, text) = composed(
            Some("{{ status }}: {{ subject }} ({{ level }})"),
            Some("{{ message }}! {% for alert in alerts %}{{ alert.rule }} {% endfor %}"),
            vec![firing("worker-1", Level::Error, 0.0)],
        );
        assert_eq!(
            (&*title, &*text),
            ("firing: worker-1 (error)", "no activity for 6m40s (limit 5m), task-1-0! AgentIdle")
        );
        let many = vec![firing("a", Level::Error, 0.0), firing("b", Level::Error, 0.0)];
        assert_eq!(composed(None, Some("{{ count }} of them"), many).1, "2 of them");
    }

    #[test]
    fn a_template_that_fails_later_falls_back_and_says_so() {
        let sly = "{{ 1 // (value - 401) }}";
        let notice = Notice { value: Some(401.0), ..firing("worker-1", Level::Error, 0.0) };
        let (title, text) = composed(None, Some(sly), vec![notice]);
        assert!(title.starts_with("[ERROR] shop/worker-1: no activity"), "{title}");
        assert!(text.contains("task-1-0 (the receiver's own text can't be built:"), "{text}");
    }

    #[test]
    fn mistakes_are_found_when_settings_are_read() {
        for (title, key) in [("{{ agnt }}", "title"), ("{{ subject", "title")] {
            assert_eq!(Words::new(Some(title), None).unwrap_err().0, key);
        }
    }
}
