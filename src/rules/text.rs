//! The texts of rules, rendered from templates in Jinja's syntax: what is wrong, what to do about it, and how a resolve
//! reads.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use minijinja::{Environment, State, UndefinedBehavior, Value, context};

use super::file::RuleEntry;
use crate::model::unit::{percent, rounded, seconds};
use crate::model::{DescribedRun, Level, Subject, Time, Unit};
use crate::text::number::{dollars, short};

/// Longest rendered text in bytes.
const MAX_TEXT: usize = 2_000;

/// What a template can name.
#[derive(Clone, Debug)]
pub struct TemplateData<'a> {
    /// `subject`, and `agent`, `component`, `source`, `receiver` or neither, and `project`.
    pub subject: &'a Subject,
    /// `level`.
    pub level: Level,
    /// `value`.
    pub value: Option<f64>,
    /// `threshold`, and `limit`.
    pub threshold: Option<f64>,
    /// `status`: the agent's or component's.
    pub status: Option<&'a str>,
    /// `reason`: what the agent or component last gave as the reason of its status, or the last error of a source or
    /// receiver.
    pub reason: Option<&'a str>,
    /// `down`: whether the agent is down now; between two flaps it is not.
    pub down: bool,
    /// `task`: the id of the agent's task.
    pub task: Option<&'a str>,
    /// `progress`: of the task, 0 to 1.
    pub progress: Option<f64>,
    /// `used`: what was used of the budget that the rule is about.
    pub used: Option<f64>,
    /// `budget`: that budget.
    pub budget: Option<f64>,
    /// `stop`: `stopped` when the agent stands still by lookout's order, `ordered` when its next hook is answered with it.
    pub stop: &'a str,
    /// `agents`: for agents down or rate-limited in a project, who.
    pub agents: &'a [String],
    /// `components`: for a project, its components in error.
    pub components: &'a [String],
    /// `total`: how many agents the project or source has.
    pub total: Option<u32>,
    /// `up`: how many agents of the project are up.
    pub up: Option<u32>,
    /// `expected`: how many agents of the project should be up.
    pub expected: Option<u32>,
    /// `until`: when the rate limit ends for the agent, or for all of them, in the clock's time.
    pub until: Option<Time>,
    /// `provider`: whose rate limit it is, if it is one provider's.
    pub provider: Option<&'a str>,
    /// `run`, `run_id`, `run_is_running`, `run_error` and `usual`: the run that the rule is about.
    pub run: Option<DescribedRun<'a>>,
    /// `at`: when the text is rendered, from which `clock_time` counts on.
    pub at: Time,
    /// The zone of `clock_time` and `until`: the budgets'.
    pub zone: &'a TimeZone,
}

impl<'a> TemplateData<'a> {
    /// Nothing but the names, at `level` and as of `at`.
    pub fn new(subject: &'a Subject, level: Level, at: Time, zone: &'a TimeZone) -> Self {
        Self {
            subject,
            level,
            value: None,
            threshold: None,
            status: None,
            reason: None,
            down: false,
            task: None,
            progress: None,
            used: None,
            budget: None,
            stop: "",
            agents: &[],
            components: &[],
            total: None,
            up: None,
            expected: None,
            until: None,
            provider: None,
            run: None,
            at,
            zone,
        }
    }
}

/// The rendered texts of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertTexts {
    /// What is wrong.
    pub summary: String,
    /// What to do about it; may be empty.
    pub action: String,
}

/// What of a rule its texts depend on.
#[derive(Clone, Debug)]
struct Measured {
    unit: Unit,
    words: Vec<&'static str>,
}

impl Measured {
    /// The variable `measure`: the value against its limit, with units, or the word that it stands for.
    fn show(&self, value: Option<f64>, threshold: Option<f64>) -> Option<String> {
        match self.unit {
            Unit::Word => self.words.get(value? as usize).map(|word| (*word).to_owned()),
            unit => unit.measure(value?, threshold),
        }
    }
}

/// The templates of all rules, by `RULE.summary` and so on. One is compiled when it is first rendered: compiled, it
/// takes 8 KiB, and most rules never fire.
#[derive(Debug)]
pub(super) struct Texts {
    environment: Environment<'static>,
    templates: BTreeMap<String, String>,
    measured: BTreeMap<String, Measured>,
}

impl Default for Texts {
    fn default() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_test("none", |value: Value| value.is_none());
        environment.add_filter("duration", as_duration);
        environment.add_filter("percent", as_percent);
        environment.add_filter("count", as_count);
        environment.add_filter("short", as_short);
        environment.add_filter("dollars", as_dollars);
        environment.add_filter("clock_time", |state: &State<'_, '_>, seconds: Option<f64>| {
            let word = |name: &str| state.lookup(name).and_then(|value| value.as_str().map(str::to_owned));
            clock_time(seconds, word("at"), word("zone")).unwrap_or_else(|| "an unknown time".to_owned())
        });
        environment.add_filter("join", |items: Vec<String>, separator: Option<String>| {
            items.join(separator.as_deref().unwrap_or(", "))
        });
        Self { environment, templates: BTreeMap::new(), measured: BTreeMap::new() }
    }
}

/// The filter `duration`: seconds as `1h30m`.
pub fn as_duration(value: Option<f64>) -> String {
    value.map_or_else(|| "some time".to_owned(), seconds)
}

/// The filter `percent`: a ratio as `90 %`.
pub fn as_percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "unknown".to_owned(), percent)
}

/// The filter `count`: a number with one decimal at most.
pub fn as_count(number: Option<f64>) -> String {
    number.map_or_else(|| "an unknown number of".to_owned(), rounded)
}

/// The filter `short`: a number as `204k`.
pub fn as_short(number: Option<f64>) -> String {
    number.map_or_else(|| "an unknown number of".to_owned(), short)
}

/// The filter `dollars`: an amount as `$12.50`.
pub fn as_dollars(amount: Option<f64>) -> String {
    amount.map_or_else(|| "an unknown amount".to_owned(), dollars)
}

/// The clock's time `seconds` after `at` in `zone`, like `14:20`.
fn clock_time(seconds: Option<f64>, at: Option<String>, zone: Option<String>) -> Option<String> {
    let then = Time::parse(&at?)?.plus(Duration::try_from_secs_f64(seconds?).ok()?);
    let zone = TimeZone::get(&zone?).ok()?;
    Some(then.to_jiff().to_zoned_datetime(zone).strftime("%H:%M").to_string())
}

impl Texts {
    /// Adds the texts of a rule and renders each once, so that a mistake shows when rules are loaded. `unit` is that of
    /// its value, `words` are those that a value of [`Unit::Word`] stands for.
    pub(super) fn add(&mut self, entry: &RuleEntry, unit: Unit, words: Vec<&'static str>) -> Result<(), String> {
        let rule = &*entry.name;
        self.measured.insert(rule.to_owned(), Measured { unit, words });
        let (subject, zone) = (Subject::Agent { project: "project".into(), name: "agent".into() }, TimeZone::UTC);
        let defaults = [
            ("summary", &entry.summary, default_summary(rule)),
            ("action", &entry.action, String::new()),
            ("resolved", &entry.resolved, default_resolved(rule)),
            ("peak", &entry.peak, DEFAULT_PEAK.to_owned()),
        ];
        for (key, text, default) in defaults {
            let text = text.clone().unwrap_or(default);
            let name = format!("{rule}.{key}");
            let wrong = |error: minijinja::Error| format!("{key}: {error}");
            let template = self.environment.template_from_named_str(&name, &text).map_err(wrong)?;
            let agents = ["agent".to_owned()];
            for value in [None, Some(1.5)] {
                let data = TemplateData {
                    value,
                    threshold: value,
                    progress: value,
                    used: value,
                    budget: value,
                    agents: &agents,
                    total: value.map(|_| 1),
                    ..TemplateData::new(&subject, Level::Warning, Time::from_millis(0), &zone)
                };
                template.render(self.variables(rule, &data)).map_err(wrong)?;
            }
            self.templates.insert(name, text);
        }
        Ok(())
    }

    /// Makes what was added ready to be rendered.
    pub(super) fn complete(&mut self) {
        let templates = std::mem::take(&mut self.templates);
        self.environment.set_loader(move |name| Ok(templates.get(name).cloned()));
    }

    /// The template `key` of `rule` as it is written.
    pub(super) fn source(&self, rule: &str, key: &str) -> String {
        let template = self.environment.get_template(&format!("{rule}.{key}"));
        template.map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// The unit of the value of `rule`.
    pub(super) fn unit(&self, rule: &str) -> Unit {
        self.measured.get(rule).map_or(Unit::Count, |measured| measured.unit)
    }

    /// Summary and action of `rule`; a plain sentence for a rule that is gone or whose template fails.
    pub(super) fn render(&self, rule: &str, data: &TemplateData<'_>) -> AlertTexts {
        let variables = self.variables(rule, data);
        AlertTexts {
            summary: self.text(rule, "summary", &variables).unwrap_or_else(|| format!("{rule} fires")),
            action: self.text(rule, "action", &variables).unwrap_or_default(),
        }
    }

    /// How a resolve of `rule` reads behind the subject's name: `is active again. Idle for up to 10m50s`. `ending` is why
    /// it ended, when not because things are well again.
    pub(super) fn resolution(&self, rule: &str, data: &TemplateData<'_>, ending: Option<&str>) -> String {
        let variables = self.variables(rule, data);
        let well = ending.map(str::to_owned).or_else(|| self.text(rule, "resolved", &variables));
        let well = well.unwrap_or_else(|| default_resolved(rule));
        let peak = self.text(rule, "peak", &variables).unwrap_or_default();
        let mut letters = peak.chars();
        match letters.next() {
            Some(first) => format!("{well}. {}{}", first.to_uppercase(), letters.as_str()),
            None => well,
        }
    }

    fn text(&self, rule: &str, key: &str, variables: &Value) -> Option<String> {
        let template = self.environment.get_template(&format!("{rule}.{key}")).ok()?;
        let text = template.render(variables).ok()?;
        Some(crate::text::clean(text.trim(), MAX_TEXT).into_owned())
    }

    fn variables(&self, rule: &str, data: &TemplateData<'_>) -> Value {
        let name = data.subject.name();
        let measure = self.measured.get(rule).and_then(|it| it.show(data.value, data.threshold));
        context! {
            rule => rule,
            subject => &**name,
            // All names exist for every subject, so that one text serves agents and projects.
            agent => &**name,
            component => &**name,
            source => &**name,
            receiver => &**name,
            project => data.subject.project().map_or("", |project| project),
            level => data.level.as_str(),
            value => data.value,
            threshold => data.threshold,
            limit => data.threshold,
            measure => measure.unwrap_or_default(),
            status => data.status.unwrap_or_default(),
            reason => data.reason.unwrap_or_default(),
            down => data.down,
            task => data.task.unwrap_or_default(),
            progress => data.progress,
            used => data.used,
            budget => data.budget,
            stop => data.stop,
            agents => data.agents.to_vec(),
            components => data.components.to_vec(),
            total => data.total,
            up => data.up,
            expected => data.expected,
            until => data.until.map(|until| until.on_clock(data.at, data.zone)).unwrap_or_default(),
            provider => data.provider.unwrap_or_default(),
            run => data.run.map_or("", |run| run.name),
            run_id => data.run.map(|run| run.id.to_string()).unwrap_or_default(),
            run_is_running => data.run.is_some_and(|run| run.is_running),
            run_error => data.run.and_then(|run| run.error).unwrap_or_default(),
            usual => data.run.and_then(|run| run.usual),
            at => data.at.to_string(),
            zone => data.zone.iana_name().unwrap_or("UTC"),
        }
    }
}

/// The peak of a rule that gives no text for it.
const DEFAULT_PEAK: &str = "{% if measure %}peak {{ measure }}{% endif %}";

fn default_summary(rule: &str) -> String {
    format!("{rule}{{% if measure %}} at {{{{ measure }}}}{{% endif %}}")
}

fn default_resolved(rule: &str) -> String {
    format!("no longer breaks the rule {rule}")
}
