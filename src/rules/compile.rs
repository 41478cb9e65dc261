//! From rules as written to rules that can be judged; every mistake is found here, none later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, ForEach, OverTime, Repeat, RuleEntry, SignalExpr, Threshold, Where};
use super::level::{Thresholds, When};
use super::text::Texts;
use super::window::TrackSpec;
use super::{builtin, read};
use crate::model::{AgentStatus, Class, ComponentStatus, Health, Level, Origin, Problem, RulePolicy, Signal, Signals};

/// Rules at most; each agent keeps a bit for each.
pub(super) const MAX_RULES: usize = 256;
/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most changes that make coming and going; each alert keeps as many times.
const MAX_CHANGES: u32 = 100;

/// The settings that thresholds may be multiples of.
#[derive(Clone, Copy, Debug)]
pub struct RuleSettings {
    /// `agents.max_idle`.
    pub max_idle: Duration,
    /// `agents.timeout`.
    pub timeout: Duration,
}

/// What a rule computes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expr {
    Now(Signal),
    Increase(usize),
    Rate(usize, f64),
    Average(usize),
    Ratio { part: usize, whole: usize, min_samples: f64 },
}

/// A rule that can be judged.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) policy: RulePolicy,
    pub(super) for_each: ForEach,
    pub(super) expr: Expr,
    pub(super) signal: Signal,
    /// A change of one of these may change its value.
    pub(super) reads: Signals,
    pub(super) thresholds: Thresholds,
    pub(super) filter: Option<Where>,
}

impl Rule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.policy.name
    }
}

/// All rules in force.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
    pub(super) tracks: Vec<TrackSpec>,
    /// Signals whose value changes with time alone.
    pub(super) timed: Signals,
    pub(super) texts: Texts,
}

impl RuleSet {
    /// The built-in rules with those of `files` (name and text, in order) over them: a rule replaces the
    /// one of its name, or switches it off. All mistakes are reported at once.
    pub fn load(files: &[(String, String)], settings: RuleSettings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut entries: BTreeMap<String, (String, RuleEntry)> = BTreeMap::new();
        let mut order = Vec::new();
        let built_in = builtin::BUILT_IN.iter().map(|(name, text)| (format!("built-in {name}"), (*text).to_owned()));
        for (origin, text) in built_in.chain(files.iter().cloned()) {
            let (read, mistakes) = file::read(&text);
            let of_file = |problem| Problem { origin: Origin::File(origin.clone().into()), ..problem };
            problems.extend(mistakes.into_iter().map(of_file));
            let mut seen = Vec::new();
            for entry in read {
                let name = entry.name.clone();
                if seen.contains(&name) {
                    let message = "the name is given twice in this file; rename one";
                    problems.push(Problem::in_file(&origin, file::path_of(&name), message));
                }
                seen.push(name.clone());
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                entries.insert(name, (origin.clone(), entry));
            }
        }
        let mut set = Self { rules: Vec::new(), tracks: Vec::new(), timed: Signals::NONE, texts: Texts::default() };
        for name in order {
            let Some((origin, entry)) = entries.remove(&name) else { continue };
            if !entry.enabled {
                continue;
            }
            if let Err(message) = set.add(&entry, settings) {
                problems.push(Problem::in_file(origin, file::path_of(&name), message));
            }
        }
        set.texts.complete();
        if set.rules.len() > MAX_RULES {
            let message = format!("{} rules are too many; {MAX_RULES} are the most", set.rules.len());
            problems.push(Problem::in_file("rules", "", message));
        }
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }

    /// How many rules are in force.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(Rule::name)
    }

    /// Each rule's name and the levels that its alerts can have.
    pub fn levels(&self) -> impl Iterator<Item = (&str, Vec<Level>)> {
        self.rules.iter().map(|rule| {
            let given = |level: &Level| rule.thresholds.levels.get(level.index()).is_some_and(Option::is_some);
            (rule.name(), Level::ALL.into_iter().filter(given).collect())
        })
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn describe(&self, rule: &str, facts: &super::Facts<'_>) -> (String, String) {
        self.texts.render(rule, facts)
    }

    fn add(&mut self, entry: &RuleEntry, settings: RuleSettings) -> Result<(), String> {
        if entry.name.is_empty() || !entry.name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(
                "a name has ASCII letters and digits only, as it becomes a label; write it like AgentIdle".into()
            );
        }
        let missing = |key: &str| format!("`{key}` is missing; a rule needs for_each, signal, when and levels");
        let for_each = entry.for_each.ok_or_else(|| missing("for_each"))?;
        let when = entry.when.ok_or_else(|| missing("when"))?;
        let expr = entry.signal.as_ref().ok_or_else(|| missing("signal"))?;
        if entry.levels.is_empty() {
            return Err(missing("levels"));
        }
        let (expr, signal, reads) = self.expr(expr, for_each, when)?;
        let thresholds = thresholds(entry, when, signal, matches!(expr, Expr::Now(_)), settings)?;
        let lowest = entry.levels.keys().next().copied().unwrap_or(Level::Warning);
        if entry.r#where.as_ref().is_some_and(|filter| {
            for_each != ForEach::Agent
                && (filter.agent_name.is_some() || filter.r#type.is_some() || filter.status.is_some())
        }) {
            return Err("`where` knows agent_name, type and status only with `for_each: agent`".into());
        }
        let policy = RulePolicy {
            name: Arc::from(entry.name.as_str()),
            class: class(for_each, signal),
            lowest,
            hold: entry.hold.unwrap_or_default(),
            clear_after: entry.clear_after.unwrap_or_default(),
            cooldown: entry.cooldown.unwrap_or(Duration::from_secs(60)),
            repeat: match entry.repeat {
                Repeat::Default => Some(Duration::from_secs(4 * 3600)),
                Repeat::Never => None,
                Repeat::Every(every) if every < Duration::from_secs(10) => {
                    return Err("`repeat` is shorter than 10s; nobody reads that".into());
                }
                Repeat::Every(every) => Some(every),
            },
            flap: match entry.flap.0 {
                Some(flap) if !(2..=MAX_CHANGES).contains(&flap.changes) => {
                    return Err(format!("`flap.changes` is {}; give 2 to {MAX_CHANGES}", flap.changes));
                }
                Some(flap) if flap.within.is_zero() || flap.settle.is_zero() => {
                    return Err(
                        "`flap.within` and `flap.settle` must be longer than 0s; `flap: null` switches it off".into()
                    );
                }
                flap => flap,
            },
            quiet: Arc::from(entry.quiet_hours.as_slice()),
            version: version(entry),
        };
        self.texts.add(&entry.name, entry.summary.as_deref(), entry.action.as_deref(), signal)?;
        let is_timed = read::grows(signal) || read::fades(signal) || !matches!(expr, Expr::Now(_));
        if is_timed {
            self.timed = self.timed.union(reads);
        }
        self.rules.push(Rule { policy, for_each, expr, signal, reads, thresholds, filter: entry.r#where.clone() });
        Ok(())
    }

    /// The expression, the signal it is about, and all signals it reads.
    fn expr(&mut self, expr: &SignalExpr, for_each: ForEach, when: When) -> Result<(Expr, Signal, Signals), String> {
        let over = match expr {
            SignalExpr::Now(signal) => {
                fits(*signal, for_each)?;
                return Ok((Expr::Now(*signal), *signal, Signals::NONE.with(*signal)));
            }
            SignalExpr::Over(over) => over,
        };
        if for_each != ForEach::Agent {
            return Err("a signal taken over time is judged for agents; write `for_each: agent`".into());
        }
        if when == When::Absent {
            return Err("`when: absent` looks at a signal as it is, not over time".into());
        }
        let window = over.over.ok_or("`over` is missing; say over which time, like `over: 10m`")?;
        if window < Duration::from_secs(1) || window > MAX_WINDOW {
            return Err("`over` must be from 1s to 7d".into());
        }
        let mut counter = |signal: Signal| -> Result<usize, String> {
            if !read::counts(signal) {
                return Err(format!(
                    "`{}` does not count up; take one of requests, request_errors, rate_limit_hits, retries, restarts, tokens, cost_usd",
                    signal.word()
                ));
            }
            Ok(self.track(TrackSpec { signal, over: window, average: false }))
        };
        let one = Signals::NONE;
        let OverTime { increase_of, rate_of, average_of, changes_of, ratio_of, min_samples, .. } = over;
        match (increase_of, rate_of, average_of, changes_of, ratio_of) {
            (Some(signal), None, None, None, None) => {
                Ok((Expr::Increase(counter(*signal)?), *signal, one.with(*signal)))
            }
            (None, Some(signal), None, None, None) => {
                Ok((Expr::Rate(counter(*signal)?, window.as_secs_f64()), *signal, one.with(*signal)))
            }
            (None, None, Some(signal), None, None) => {
                let fits = [Signal::Progress, Signal::TaskBudgetRatio, Signal::DayBudgetRatio, Signal::DayCostRatio];
                if !fits.contains(signal) {
                    return Err(format!(
                        "`average_of: {}` has no meaning; it takes progress and the budget ratios",
                        signal.word()
                    ));
                }
                let track = self.track(TrackSpec { signal: *signal, over: window, average: true });
                Ok((Expr::Average(track), *signal, one.with(*signal)))
            }
            (None, None, None, Some(Signal::Status), None) => {
                let track = self.track(TrackSpec { signal: Signal::Status, over: window, average: false });
                Ok((Expr::Increase(track), Signal::Status, one.with(Signal::Status)))
            }
            (None, None, None, Some(_), None) => Err("`changes_of` takes status".into()),
            (None, None, None, None, Some([part, whole])) => Ok((
                Expr::Ratio {
                    part: counter(*part)?,
                    whole: counter(*whole)?,
                    min_samples: min_samples.unwrap_or(1).max(1) as f64,
                },
                *part,
                one.with(*part).with(*whole),
            )),
            _ => Err("give exactly one of increase_of, rate_of, average_of, changes_of, ratio_of".into()),
        }
    }

    fn track(&mut self, spec: TrackSpec) -> usize {
        self.tracks.iter().position(|known| *known == spec).unwrap_or_else(|| {
            self.tracks.push(spec);
            self.tracks.len() - 1
        })
    }
}

/// What tells how a rule is written from how it was: eight hex digits.
fn version(entry: &RuleEntry) -> Arc<str> {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{entry:?}").as_bytes());
    Arc::from(digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn fits(signal: Signal, for_each: ForEach) -> Result<(), String> {
    let fits: &[ForEach] = match signal {
        Signal::AgentsDown | Signal::AgentsLimited | Signal::AgentsMissing => &[ForEach::Agent, ForEach::Cluster],
        Signal::ClusterHealth => &[ForEach::Cluster],
        Signal::ComponentStatus => &[ForEach::Component],
        Signal::SourceFailingSeconds => &[ForEach::Source],
        Signal::ReceiverFailingSeconds | Signal::UndeliveredSeconds | Signal::GivenUp => &[ForEach::Receiver],
        Signal::LagSeconds | Signal::StoreFailingSeconds => &[ForEach::Sidecar],
        _ => &[ForEach::Agent],
    };
    if fits.contains(&for_each) {
        return Ok(());
    }
    let places: Vec<String> = fits.iter().map(|place| format!("{place:?}").to_lowercase()).collect();
    Err(format!("`{}` is judged with `for_each: {}`", signal.word(), places.join("` or `")))
}

const fn class(for_each: ForEach, signal: Signal) -> Class {
    match (for_each, signal) {
        (ForEach::Source, _) => Class::SourceFailing,
        (ForEach::Cluster, Signal::AgentsDown) => Class::AgentsDown,
        (ForEach::Cluster, Signal::ClusterHealth) => Class::ClusterHealth,
        (ForEach::Cluster, Signal::AgentsLimited) => Class::AgentsLimited,
        (ForEach::Agent, Signal::AgentsDown) => Class::AgentDown,
        (ForEach::Agent, Signal::RateLimitHits | Signal::AgentsLimited) => Class::AgentLimited,
        (ForEach::Agent, Signal::StaleSeconds) => Class::AgentStale,
        (ForEach::Component, _) => Class::Component,
        (ForEach::Agent, Signal::AgentsMissing) | (ForEach::Cluster | ForEach::Receiver | ForEach::Sidecar, _) => {
            Class::Other
        }
        (ForEach::Agent, _) => Class::Agent,
    }
}

fn thresholds(
    entry: &RuleEntry,
    when: When,
    signal: Signal,
    is_plain: bool,
    settings: RuleSettings,
) -> Result<Thresholds, String> {
    let mut levels = [None; 4];
    for (level, threshold) in &entry.levels {
        let value = match (when, threshold) {
            (When::Absent, Threshold::Flag(true)) => 1.0,
            (When::Absent, _) => return Err(format!("with `when: absent` write `levels: {{{level}: true}}`")),
            _ => {
                number(threshold, signal, is_plain, settings).map_err(|problem| format!("levels.{level}: {problem}"))?
            }
        };
        if let Some(place) = levels.get_mut(level.index()) {
            *place = Some(value);
        }
    }
    if when == When::Absent && entry.levels.len() > 1 {
        return Err("`when: absent` has one level".into());
    }
    let given: Vec<f64> = levels.iter().flatten().copied().collect();
    let in_order = given.iter().zip(given.iter().skip(1)).all(|(milder, worse)| match when {
        When::AtLeast => milder < worse,
        When::AtMost => milder > worse,
        When::Equals | When::Absent => milder != worse,
    });
    if !in_order {
        return Err(match when {
            When::AtLeast => "levels must rise with severity when `at_least`".into(),
            When::AtMost => "levels must fall with severity when `at_most`".into(),
            _ => "two levels have the same value".into(),
        });
    }
    let clear = match (&entry.clear_below, &entry.clear_above, when) {
        (None, None, _) => None,
        (Some(below), None, When::AtLeast) => {
            let clear =
                number(below, signal, is_plain, settings).map_err(|problem| format!("clear_below: {problem}"))?;
            if given.first().is_some_and(|lowest| clear > *lowest) {
                return Err("`clear_below` is above the mildest level; put it at or below it".into());
            }
            Some(clear)
        }
        (None, Some(above), When::AtMost) => {
            let clear =
                number(above, signal, is_plain, settings).map_err(|problem| format!("clear_above: {problem}"))?;
            if given.first().is_some_and(|lowest| clear < *lowest) {
                return Err("`clear_above` is below the mildest level; put it at or above it".into());
            }
            Some(clear)
        }
        _ => return Err("`clear_below` goes with `at_least`, `clear_above` with `at_most`".into()),
    };
    Ok(Thresholds { when, levels, clear })
}

fn number(threshold: &Threshold, signal: Signal, is_plain: bool, settings: RuleSettings) -> Result<f64, String> {
    let number = match threshold {
        Threshold::Number(number) => *number,
        Threshold::Flag(flag) => return Err(format!("`{flag}` is not a threshold; write a number")),
        Threshold::Text(text) => amount(text.trim(), signal, is_plain, settings)?,
    };
    if number.is_finite() { Ok(number) } else { Err(format!("{number} is not a number to compare with")) }
}

/// The number that a word, a multiple, a percentage or a duration stands for.
fn amount(text: &str, signal: Signal, is_plain: bool, settings: RuleSettings) -> Result<f64, String> {
    if is_plain {
        let code = match signal {
            Signal::Status => AgentStatus::parse(text).map(|status| f64::from(status as u8)),
            Signal::ComponentStatus => ComponentStatus::parse(text).map(|status| f64::from(status as u8)),
            Signal::ClusterHealth => {
                Health::ALL.into_iter().find(|health| health.as_str() == text).map(|health| f64::from(health as u8))
            }
            _ => None,
        };
        if let Some(code) = code {
            return Ok(code);
        }
    }
    if let Some((factor, setting)) = text.split_once('*') {
        let base = match setting.trim() {
            "agents.max_idle" => settings.max_idle,
            "agents.timeout" => settings.timeout,
            other => {
                return Err(format!("`{other}` is no setting to multiply; take agents.max_idle or agents.timeout"));
            }
        };
        let factor: f64 = factor.trim().parse().map_err(|_| format!("`{}` is not a number", factor.trim()))?;
        return Ok(factor * base.as_secs_f64());
    }
    if let Some(percent) = text.strip_suffix('%') {
        return percent
            .trim()
            .parse()
            .map(|percent: f64| percent / 100.0)
            .map_err(|_| format!("`{text}` is not a percentage"));
    }
    crate::model::duration::parse(text).map(|duration| duration.as_secs_f64()).map_err(|_| {
        format!(
            "`{text}` is neither a number, a duration like 5m, a percentage nor a word that {} knows",
            signal.word()
        )
    })
}
