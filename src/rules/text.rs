//! Summary and action of an alert, rendered from templates in Jinja syntax.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use minijinja::{Environment, State, UndefinedBehavior, Value, context};

use super::indicators::Indicator;
use crate::model::{Level, Subject, Time, duration};
use crate::text::number::fixed;

/// The maximum length of a rendered text, in bytes.
const MAX_TEXT: usize = 2_000;

/// The variables of a template.
#[derive(Clone, Debug)]
pub struct TemplateData<'a> {
    /// `subject`, and `agent`, `component`, `source`, `receiver` or neither, and `project`.
    pub subject: &'a Subject,
    /// `level`.
    pub level: Level,
    /// `value`.
    pub value: Option<f64>,
    /// `threshold`.
    pub threshold: Option<f64>,
    /// `reason`: the reason of the agent's or component's status.
    pub reason: Option<&'a str>,
    /// `agents`: the names of the agents, for alerts about several agents of a project.
    pub agents: &'a [String],
    /// `until`: when the rate limit of the agent, or of all agents, ends, by the wall clock.
    pub until: Option<Time>,
    /// `provider`: the provider of the rate limit, if it is the same for all.
    pub provider: Option<&'a str>,
    /// `at`: the time of the message, which `clock_time` is relative to.
    pub at: Time,
    /// The time zone of `clock_time`: that of the budgets.
    pub zone: &'a TimeZone,
}

/// The templates of all rules, by `RULE.summary` and `RULE.action`. Each is compiled at first use, since it then takes
/// 8 KiB, and most rules never fire.
#[derive(Debug)]
pub(super) struct Texts {
    environment: Environment<'static>,
    templates: BTreeMap<String, String>,
}

impl Default for Texts {
    fn default() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("duration", as_duration);
        environment.add_filter("percent", as_percent);
        environment.add_filter("count", as_count);
        environment.add_filter("clock_time", |state: &State<'_, '_>, seconds: Option<f64>| {
            let word = |name: &str| state.lookup(name).and_then(|value| value.as_str().map(str::to_owned));
            clock_time(seconds, word("at"), word("zone")).unwrap_or_else(|| "an unknown time".to_owned())
        });
        environment.add_filter("join", |items: Vec<String>, separator: Option<String>| {
            items.join(separator.as_deref().unwrap_or(", "))
        });
        Self { environment, templates: BTreeMap::new() }
    }
}

/// The template filter `duration`: seconds as `1h30m`.
pub fn as_duration(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || "some time".to_owned(),
        |seconds| duration::display(Duration::try_from_secs_f64(seconds.max(0.0).floor()).unwrap_or_default()),
    )
}

/// The template filter `percent`: a ratio as `90 %`.
pub fn as_percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "unknown".to_owned(), |ratio| format!("{} %", rounded(ratio * 100.0)))
}

/// The template filter `count`: a number with at most one decimal.
pub fn as_count(number: Option<f64>) -> String {
    number.map_or_else(|| "an unknown number of".to_owned(), rounded)
}

/// The time of day `seconds` after `at` in `zone`, like `14:20`.
fn clock_time(seconds: Option<f64>, at: Option<String>, zone: Option<String>) -> Option<String> {
    let then = Time::parse(&at?)?.plus(Duration::try_from_secs_f64(seconds?).ok()?);
    let zone = TimeZone::get(&zone?).ok()?;
    Some(then.to_jiff().to_zoned_datetime(zone).strftime("%H:%M").to_string())
}

fn rounded(number: f64) -> String {
    fixed(number, usize::from(number.fract().abs() >= 1e-9))
}

impl Texts {
    /// Adds the templates of a rule and test-renders them, so that errors are found when rules are loaded.
    pub(super) fn add(
        &mut self,
        rule: &str,
        summary: Option<&str>,
        action: Option<&str>,
        indicator: Indicator,
    ) -> Result<(), String> {
        let summary = summary.map_or_else(|| default_summary(rule, indicator), str::to_owned);
        for (key, text) in [("summary", summary), ("action", action.unwrap_or_default().to_owned())] {
            let name = format!("{rule}.{key}");
            let wrong = |error: minijinja::Error| format!("{key}: {error}");
            let template = self.environment.template_from_named_str(&name, &text).map_err(wrong)?;
            let subject = Subject::Agent { project: "project".into(), name: "agent".into() };
            let agents = ["agent".to_owned()];
            for value in [None, Some(1.5)] {
                let facts = TemplateData {
                    subject: &subject,
                    level: Level::Warning,
                    value,
                    threshold: value,
                    reason: None,
                    agents: &agents,
                    until: None,
                    provider: None,
                    at: Time::from_millis(0),
                    zone: &TimeZone::UTC,
                };
                template.render(variables(rule, &facts)).map_err(wrong)?;
            }
            self.templates.insert(name, text);
        }
        Ok(())
    }

    /// Makes the added templates available for rendering.
    pub(super) fn complete(&mut self) {
        let templates = std::mem::take(&mut self.templates);
        self.environment.set_loader(move |name| Ok(templates.get(name).cloned()));
    }

    /// The template `summary` or `action` of `rule` as it is written.
    pub(super) fn source(&self, rule: &str, key: &str) -> String {
        let template = self.environment.get_template(&format!("{rule}.{key}"));
        template.map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// Summary and action of `rule`; a generic summary if the rule was removed or its template fails.
    pub(super) fn render(&self, rule: &str, facts: &TemplateData<'_>) -> (String, String) {
        let variables = variables(rule, facts);
        let text = |key: &str| {
            let template = self.environment.get_template(&format!("{rule}.{key}")).ok()?;
            let text = template.render(&variables).ok()?;
            Some(crate::text::clean(text.trim(), MAX_TEXT).into_owned())
        };
        let summary = text("summary").unwrap_or_else(|| format!("{rule} on {}", facts.subject.name()));
        (summary, text("action").unwrap_or_default())
    }
}

fn default_summary(rule: &str, indicator: Indicator) -> String {
    let filter = indicator.row().unit.filter();
    format!("{rule}: {{{{ subject }}}} is at {{{{ value | {filter} }}}}")
}

fn variables(rule: &str, facts: &TemplateData<'_>) -> Value {
    let name = facts.subject.name();
    context! {
        rule => rule,
        subject => &**name,
        // All names exist for every kind of subject, so that one template serves agents and projects.
        agent => &**name,
        component => &**name,
        source => &**name,
        receiver => &**name,
        project => facts.subject.project().map_or("", |project| project),
        level => facts.level.as_str(),
        value => facts.value,
        threshold => facts.threshold,
        reason => facts.reason.unwrap_or_default(),
        agents => facts.agents.to_vec(),
        until => facts.until.map(|until| until.on_clock(facts.at, facts.zone)).unwrap_or_default(),
        provider => facts.provider.unwrap_or_default(),
        at => facts.at.to_string(),
        zone => facts.zone.iana_name().unwrap_or("UTC"),
    }
}
