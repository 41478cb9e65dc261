//! Compiles rule files into rules that can be evaluated, and finds all of their errors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, IndicatorExpr, OverTime, Repeat, RuleEntry, Threshold, Where};
use super::indicators::{Indicator, Indicators};
use super::metric::{MetricSelector, RuleInput};
use super::row::{ForEach, IndicatorRow, Reading, Windowed};
use super::text::Texts;
use super::thresholds::{Comparison, Thresholds};
use super::window::TrackSpec;
use crate::model::{Agent, Level, Origin, Problem, RulePolicy, Snapshot, Time, Unit};

/// Name and text of each file of built-in rules, those in `alerts/`.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("agents.yaml", include_str!("../../alerts/agents.yaml")),
    ("budgets.yaml", include_str!("../../alerts/budgets.yaml")),
    ("fleet.yaml", include_str!("../../alerts/fleet.yaml")),
    ("runs.yaml", include_str!("../../alerts/runs.yaml")),
    ("sidecar.yaml", include_str!("../../alerts/sidecar.yaml")),
    ("sources.yaml", include_str!("../../alerts/sources.yaml")),
    ("spending.yaml", include_str!("../../alerts/spending.yaml")),
    ("tasks.yaml", include_str!("../../alerts/tasks.yaml")),
];

/// The maximum number of rules; each agent keeps a bit per rule.
pub(super) const MAX_RULES: usize = 256;
/// The maximum length of a window.
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// The maximum of `flap.changes`; each alert keeps as many timestamps.
const MAX_CHANGES: u32 = 100;

/// The settings that thresholds may refer to.
#[derive(Clone, Copy, Debug)]
pub struct RuleSettings {
    /// `agents.max_idle`.
    pub max_idle: Duration,
    /// `agents.timeout`.
    pub timeout: Duration,
}

/// The built-in rules alone.
pub fn built_in(settings: RuleSettings) -> Result<RuleSet, Vec<Problem>> {
    RuleSet::load(&[], settings)
}

/// How a rule computes its value from its indicator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expr {
    Now,
    Increase(usize),
    Rate(usize, f64),
    Average(usize),
    Ratio { part: usize, whole: usize, min_samples: f64 },
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) policy: RulePolicy,
    pub(super) for_each: ForEach,
    pub(super) expr: Expr,
    /// The indicator that it reads; of a ratio, the numerator.
    pub(super) indicator: Indicator,
    /// If that is a custom metric, which.
    pub(super) metric: Option<Arc<MetricSelector>>,
    /// All indicators that its value depends on.
    pub(super) reads: Indicators,
    pub(super) thresholds: Thresholds,
    pub(super) filter: Option<Where>,
}

impl Rule {
    /// This rule with its thresholds as numbers, where they are multiples of what is usual of `agent`; the error is that
    /// nothing is known to be usual.
    pub(super) fn of_agent(&self, agent: &Agent, now: Time) -> Result<Cow<'_, Self>, ()> {
        if !self.thresholds.are_multiples {
            return Ok(Cow::Borrowed(self));
        }
        let usual = self.indicator.row().usual.and_then(|(_, usual)| usual(agent, now)).filter(|usual| *usual > 0.0);
        let thresholds = self.thresholds.of_usual(usual.ok_or(())?);
        Ok(Cow::Owned(Self { thresholds, ..self.clone() }))
    }

    /// What it reads.
    pub(super) fn input(&self) -> RuleInput {
        RuleInput { indicator: self.indicator, metric: self.metric.clone() }
    }

    /// Its current value for `agent`.
    pub(super) fn read(&self, agent: &Agent, fleet: &Snapshot, now: Time) -> Reading {
        match &self.metric {
            Some(metric) => metric.read(agent.custom.as_deref(), &self.thresholds),
            None => self.indicator.row().read(agent, fleet, now),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    /// The function that reads its value for this kind of subject, if it is evaluated for that kind.
    pub(super) fn reader<T>(&self, for_each: ForEach, reader: impl FnOnce(&IndicatorRow) -> Option<T>) -> Option<T> {
        (self.for_each == for_each).then(|| reader(self.indicator.row())).flatten()
    }
}

/// All loaded rules.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
    pub(super) tracks: Vec<TrackSpec>,
    /// All indicators that rules read of agents.
    pub(super) read: Vec<Indicator>,
    /// Indicators whose value changes by time alone.
    pub(super) timed: Indicators,
    /// Indicators that are reset at the end of the budgets' day.
    pub(super) of_the_day: Indicators,
    pub(super) texts: Texts,
}

impl RuleSet {
    /// The built-in rules, overridden by those of `files` (name and text, in order): a rule replaces an earlier one with the
    /// same name, or disables it. All errors are reported at once.
    pub fn load(files: &[(String, String)], settings: RuleSettings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut entries: BTreeMap<String, (String, RuleEntry)> = BTreeMap::new();
        let mut order = Vec::new();
        let built_in = BUILT_IN.iter().map(|(name, text)| (format!("built-in {name}"), (*text).to_owned()));
        for (origin, text) in built_in.chain(files.iter().cloned()) {
            let (read, mistakes) = file::read(&text);
            let of_file = |problem| Problem { origin: Origin::File(origin.clone().into()), ..problem };
            problems.extend(mistakes.into_iter().map(of_file));
            let mut seen = Vec::new();
            for entry in read {
                let name = entry.name.clone();
                if seen.contains(&name) {
                    let message = "duplicate rule name in this file; rename one";
                    let problem = Problem::in_file(&origin, file::path_of(&name), message);
                    problems.push(Problem { place: entry.place, ..problem });
                }
                seen.push(name.clone());
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                entries.insert(name, (origin.clone(), entry));
            }
        }
        let mut set = Self {
            rules: Vec::new(),
            tracks: Vec::new(),
            read: Vec::new(),
            timed: Indicators::NONE,
            of_the_day: Indicators::NONE,
            texts: Texts::default(),
        };
        for name in order {
            let Some((origin, entry)) = entries.remove(&name) else { continue };
            if !entry.enabled {
                continue;
            }
            if let Err(message) = set.add(&entry, settings) {
                let problem = Problem::in_file(origin, file::path_of(&name), message);
                problems.push(Problem { place: entry.place, ..problem });
            }
        }
        set.texts.complete();
        if set.rules.len() > MAX_RULES {
            let message = format!("{} rules exceed the limit of {MAX_RULES}; remove or disable some", set.rules.len());
            problems.push(Problem::in_file("rules", "", message));
        }
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }

    /// The number of rules.
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

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn add(&mut self, entry: &RuleEntry, settings: RuleSettings) -> Result<(), String> {
        if entry.name.is_empty() || !entry.name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(
                "invalid rule name: it becomes a label value, so use ASCII letters, digits and underscores only, as in AgentIdle".into()
            );
        }
        let missing = |key: &str| format!("`{key}` is missing; a rule needs for_each, signal, when and levels");
        let for_each = entry.for_each.ok_or_else(|| missing("for_each"))?;
        let when = entry.when.ok_or_else(|| missing("when"))?;
        let expr = entry.signal.as_ref().ok_or_else(|| missing("signal"))?;
        if entry.levels.is_empty() {
            return Err(missing("levels"));
        }
        let (expr, input, reads) = self.expr(expr, for_each, when)?;
        let RuleInput { indicator, metric } = input;
        let thresholds = thresholds(entry, when, indicator, matches!(expr, Expr::Now), settings)?;
        let lowest = entry.levels.keys().next().copied().unwrap_or(Level::Warning);
        if entry.r#where.as_ref().is_some_and(|filter| {
            for_each != ForEach::Agent
                && (filter.agent_name.is_some() || filter.r#type.is_some() || filter.status.is_some())
        }) {
            return Err("`where` takes agent_name, type and status only with `for_each: agent`".into());
        }
        let policy = RulePolicy {
            name: Arc::from(entry.name.as_str()),
            class: indicator.row().class_of(for_each),
            lowest,
            hold: entry.hold.unwrap_or_default(),
            clear_after: entry.clear_after.unwrap_or_default(),
            cooldown: entry.cooldown.unwrap_or(Duration::from_secs(60)),
            repeat: match entry.repeat {
                Repeat::Default => Some(Duration::from_secs(4 * 3600)),
                Repeat::Never => None,
                Repeat::Every(every) if every < Duration::from_secs(10) => {
                    return Err("`repeat` is shorter than 10s; write at least 10s, or null for never".into());
                }
                Repeat::Every(every) => Some(every),
            },
            flap: match entry.flap.0 {
                Some(flap) if !(2..=MAX_CHANGES).contains(&flap.changes) => {
                    return Err(format!("`flap.changes` is {}; write 2 to {MAX_CHANGES}", flap.changes));
                }
                Some(flap) if flap.within.is_zero() || flap.settle.is_zero() => {
                    return Err(
                        "`flap.within` and `flap.settle` must be longer than 0s; write `flap: null` to disable flap detection".into()
                    );
                }
                flap => flap,
            },
            quiet: Arc::from(entry.quiet_hours.as_slice()),
            version: Arc::clone(&entry.version),
        };
        let unit = unit_of(expr, indicator);
        self.texts.add(entry, unit, indicator.words())?;
        let is_timed = indicator.row().is_timed() || !matches!(expr, Expr::Now);
        if is_timed {
            self.timed = self.timed.union(reads);
        }
        if indicator.row().is_of_the_day {
            self.of_the_day = self.of_the_day.union(reads);
        }
        if for_each == ForEach::Agent {
            let is_new = |it: &&Indicator| reads.contains(**it) && !self.read.contains(it);
            let new: Vec<Indicator> = Indicator::ALL.iter().filter(is_new).copied().collect();
            self.read.extend(new);
        }
        let filter = entry.r#where.clone();
        self.rules.push(Rule { policy, for_each, expr, indicator, metric, reads, thresholds, filter });
        Ok(())
    }

    /// The compiled expression, its main input, and all indicators that it reads.
    fn expr(
        &mut self,
        expr: &IndicatorExpr,
        for_each: ForEach,
        when: Comparison,
    ) -> Result<(Expr, RuleInput, Indicators), String> {
        let one = |input: &RuleInput| Indicators::NONE.with(input.indicator);
        let over = match expr {
            IndicatorExpr::Now(input) => {
                fits(input.indicator, for_each)?;
                if let Some((part, whole, over, min_samples)) = input.indicator.row().ratio_of {
                    if when == Comparison::Absent {
                        return Err(format!("`{}` can't be absent; use another `when`", input.name()));
                    }
                    let of_name = |name| {
                        let indicator = Indicator::parse(name).ok_or_else(|| format!("there is no signal `{name}`"))?;
                        Ok::<_, String>(RuleInput::from(indicator))
                    };
                    let (part, whole) = (of_name(part)?, of_name(whole)?);
                    let reads = one(&part).union(one(&whole));
                    let mut track =
                        |input: &RuleInput| self.track(TrackSpec { input: input.clone(), over, average: false });
                    let expr = Expr::Ratio { part: track(&part), whole: track(&whole), min_samples };
                    return Ok((expr, part, reads));
                }
                return Ok((Expr::Now, input.clone(), one(input)));
            }
            IndicatorExpr::Over(over) => over,
        };
        if for_each != ForEach::Agent {
            return Err("a signal over time is evaluated for agents only; write `for_each: agent`".into());
        }
        if when == Comparison::Absent {
            return Err("`when: absent` takes a plain signal, not one over time".into());
        }
        let window = over.over.ok_or("`over` is missing; write the length of the window, like `over: 10m`")?;
        if window < Duration::from_secs(1) || window > MAX_WINDOW {
            return Err("`over` must be from 1s to 7d".into());
        }
        let mut track =
            |input: &RuleInput, average| self.track(TrackSpec { input: input.clone(), over: window, average });
        let mut counter = |input: &RuleInput| match (&input.metric, input.indicator.row().windowed) {
            (Some(_), _) | (None, Windowed::Increase(_)) => Ok(track(input, false)),
            _ => Err(format!(
                "`{}` is not a counter; use one of {}",
                input.name(),
                taken_as(|windowed| matches!(windowed, Windowed::Increase(_)))
            )),
        };
        let OverTime { increase_of, rate_of, average_of, changes_of, ratio_of, min_samples, .. } = over;
        match (increase_of, rate_of, average_of, changes_of, ratio_of) {
            (Some(it), None, None, None, None) => Ok((Expr::Increase(counter(it)?), it.clone(), one(it))),
            (None, Some(it), None, None, None) => {
                Ok((Expr::Rate(counter(it)?, window.as_secs_f64()), it.clone(), one(it)))
            }
            (None, None, Some(it), None, None) => match (&it.metric, it.indicator.row().windowed) {
                (Some(_), _) | (None, Windowed::Average) => Ok((Expr::Average(track(it, true)), it.clone(), one(it))),
                _ => Err(format!(
                    "`average_of: {}` has no meaning; it takes {}",
                    it.name(),
                    taken_as(|windowed| matches!(windowed, Windowed::Average))
                )),
            },
            (None, None, None, Some(it), None) => match it.indicator.row().windowed {
                Windowed::Changes(_) => Ok((Expr::Increase(track(it, false)), it.clone(), one(it))),
                _ => {
                    Err(format!("`changes_of` takes {}", taken_as(|windowed| matches!(windowed, Windowed::Changes(_)))))
                }
            },
            (None, None, None, None, Some([part, whole])) => Ok((
                Expr::Ratio {
                    part: counter(part)?,
                    whole: counter(whole)?,
                    min_samples: min_samples.unwrap_or(1).max(1) as f64,
                },
                part.clone(),
                one(part).union(one(whole)),
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

/// The unit of what `expr` makes of `indicator`.
fn unit_of(expr: Expr, indicator: Indicator) -> Unit {
    match (expr, indicator.row().unit) {
        (Expr::Ratio { .. }, _) => Unit::Ratio,
        // Of a word, how often it changed.
        (Expr::Increase(_) | Expr::Rate(..), Unit::Word) => Unit::Count,
        (_, unit) => unit,
    }
}

/// The names of the indicators with this kind of window.
fn taken_as(is_so: impl Fn(Windowed) -> bool) -> String {
    let words: Vec<_> = Indicator::ALL.iter().filter(|it| is_so(it.row().windowed)).map(|it| it.name()).collect();
    words.join(", ")
}

fn fits(indicator: Indicator, for_each: ForEach) -> Result<(), String> {
    let fits = indicator.row().subjects();
    if fits.contains(&for_each) {
        return Ok(());
    }
    let places: Vec<String> = fits.iter().map(|place| format!("{place:?}").to_lowercase()).collect();
    Err(format!("`{}` is available with `for_each: {}`", indicator.name(), places.join("` or `")))
}

fn thresholds(
    entry: &RuleEntry,
    when: Comparison,
    indicator: Indicator,
    is_plain: bool,
    settings: RuleSettings,
) -> Result<Thresholds, String> {
    let mut levels = [None; 4];
    let usual = indicator.row().usual.filter(|_| is_plain).map(|(word, _)| word);
    let is_multiple =
        |threshold: &Threshold| matches!(threshold, Threshold::Text(text) if multiple(text, usual).is_some());
    let written = || entry.levels.values().chain(&entry.clear_below).chain(&entry.clear_above);
    let are_multiples = written().any(is_multiple);
    if are_multiples && !written().all(is_multiple) {
        let word = usual.unwrap_or_default();
        return Err(format!("either all thresholds are multiples of {word}, like `3 * {word}`, or none"));
    }
    for (level, threshold) in &entry.levels {
        let value = match (when, threshold) {
            (Comparison::Absent, Threshold::Flag(true)) => 1.0,
            (Comparison::Absent, _) => return Err(format!("with `when: absent` write `levels: {{{level}: true}}`")),
            _ => number(threshold, indicator, is_plain, settings)
                .map_err(|problem| format!("levels.{level}: {problem}"))?,
        };
        if let Some(place) = levels.get_mut(level.index()) {
            *place = Some(value);
        }
    }
    if when == Comparison::Absent && entry.levels.len() > 1 {
        return Err("`when: absent` has one level".into());
    }
    let given: Vec<f64> = levels.iter().flatten().copied().collect();
    let in_order = given.iter().zip(given.iter().skip(1)).all(|(milder, worse)| match when {
        Comparison::AtLeast => milder < worse,
        Comparison::AtMost => milder > worse,
        Comparison::Equals | Comparison::Absent => milder != worse,
    });
    if !in_order {
        return Err(match when {
            Comparison::AtLeast => "thresholds must increase with severity for `when: at_least`".into(),
            Comparison::AtMost => "thresholds must decrease with severity for `when: at_most`".into(),
            _ => "two levels have the same threshold".into(),
        });
    }
    let clear = match (&entry.clear_below, &entry.clear_above, when) {
        (None, None, _) => None,
        (Some(below), None, Comparison::AtLeast) => {
            let clear =
                number(below, indicator, is_plain, settings).map_err(|problem| format!("clear_below: {problem}"))?;
            if given.first().is_some_and(|lowest| clear > *lowest) {
                return Err("`clear_below` is above the lowest threshold; set it to that or less".into());
            }
            Some(clear)
        }
        (None, Some(above), Comparison::AtMost) => {
            let clear =
                number(above, indicator, is_plain, settings).map_err(|problem| format!("clear_above: {problem}"))?;
            if given.first().is_some_and(|lowest| clear < *lowest) {
                return Err("`clear_above` is below the highest threshold; set it to that or more".into());
            }
            Some(clear)
        }
        _ => return Err("`clear_below` goes with `at_least`, `clear_above` with `at_most`".into()),
    };
    Ok(Thresholds { when, levels, clear, are_multiples })
}

/// The factor of a multiple of what is usual, as in `3 * p95`.
fn multiple(text: &str, usual: Option<&str>) -> Option<f64> {
    let (factor, word) = text.split_once('*')?;
    factor.trim().parse().ok().filter(|_| Some(word.trim()) == usual)
}

fn number(threshold: &Threshold, indicator: Indicator, is_plain: bool, settings: RuleSettings) -> Result<f64, String> {
    let number = match threshold {
        Threshold::Number(number) => *number,
        Threshold::Flag(flag) => return Err(format!("`{flag}` is not a threshold; write a number")),
        Threshold::Text(text) => amount(text.trim(), indicator, is_plain, settings)?,
    };
    if number.is_finite() { Ok(number) } else { Err(format!("{number} is not a finite number")) }
}

/// The number for a status name, a multiple of a setting, a percentage or a duration.
fn amount(text: &str, indicator: Indicator, is_plain: bool, settings: RuleSettings) -> Result<f64, String> {
    if is_plain {
        let code = indicator.words().iter().position(|word| *word == text).map(|place| place as f64);
        if let Some(code) = code {
            return Ok(code);
        }
    }
    let usual = indicator.row().usual.filter(|_| is_plain).map(|(word, _)| word);
    if let Some(factor) = multiple(text, usual) {
        return Ok(factor);
    }
    if let Some((factor, setting)) = text.split_once('*') {
        let base = match setting.trim() {
            "agents.max_idle" => settings.max_idle,
            "agents.timeout" => settings.timeout,
            other => {
                let usual = usual.map(|word| format!(" or {word}")).unwrap_or_default();
                return Err(format!("unknown setting `{other}`; use agents.max_idle or agents.timeout{usual}"));
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
        format!("`{text}` is neither a number, a duration like 5m, a percentage nor a value of {}", indicator.name())
    })
}
