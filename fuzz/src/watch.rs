//! A sidecar without sockets, clock and store: updates are applied, rules evaluated, and the exposition checked each time.

use std::cell::RefCell;
use std::time::Duration;

use lookout::config::Config;
use lookout::fleet::{Fleet, FleetSettings};
use lookout::metrics::{ExpositionFormat, ExpositionPage, SidecarMetrics, write_fleet};
use lookout::model::alert::AlertCounts;
use lookout::model::telemetry::Telemetry;
use lookout::model::{Finding, Snapshot, Time};
use lookout::rules::compile::RuleSettings;
use lookout::rules::{Rules, built_in};

use crate::begin;
use crate::page::{self, Counts};

/// Most series of agents: few enough that an input can reach the cap.
const MAX_SERIES: usize = 1_000;

thread_local! {
    /// Compiled once, since that takes longer than most inputs; reset before each input.
    static RULES: RefCell<(Rules, SidecarMetrics)> = RefCell::new({
        let agents = Config::default().agents;
        let settings = RuleSettings { max_idle: agents.max_idle, timeout: agents.timeout };
        (Rules::new(built_in(settings).expect("the built-in rules")), SidecarMetrics::new())
    });
}

/// The fleet of one input.
pub struct Watch {
    /// The time in this input.
    pub now: Time,
    /// The fleet.
    pub fleet: Fleet,
    findings: Vec<Finding>,
    format: ExpositionFormat,
    shown: Counts,
}

impl Watch {
    /// An empty fleet that is exposed in one of the two formats.
    pub fn new(is_openmetrics: bool) -> Self {
        RULES.with_borrow_mut(|(rules, _)| *rules = Rules::new(rules.take_set()));
        let settings = FleetSettings { max_series: MAX_SERIES, ..Config::default().fleet_settings() };
        let format = if is_openmetrics { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
        let (fleet, findings) = (Fleet::new(begin(), settings), Vec::new());
        Self { now: begin(), fleet, findings, format, shown: Counts::new() }
    }

    /// Advances time: deadlines pass, agents go stale and expire.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        let now = self.now;
        self.fleet.observe_wall_clock(now, now);
        self.fleet.tick(now);
        RULES.with_borrow_mut(|(rules, _)| rules.tick(now, self.fleet.state(), &mut self.findings));
        self.evaluate();
    }

    /// Evaluates the rules for what changed, as after each update.
    pub fn evaluate(&mut self) {
        RULES.with_borrow_mut(|(rules, _)| {
            rules.evaluate(self.now, self.fleet.state(), self.fleet.changes(), &mut self.findings);
        });
        self.findings.clear();
        self.fleet.clear_changes();
    }

    /// Shows the page; panics when it is no page, or when what only grows fell since it was last shown.
    pub fn show(&mut self, telemetry: &Telemetry) {
        let page = self.page(telemetry);
        let shown = page::read(&page, self.format);
        page::compare(&self.shown, &shown);
        self.shown = shown;
        assert!(self.fleet.state().agents.len() * lookout::fleet::SERIES_PER_AGENT <= MAX_SERIES, "past the cap");
    }

    /// Forgets the last exposition, after series were removed on purpose.
    pub fn forget_counts(&mut self) {
        self.shown.clear();
    }

    /// The exposition. The sidecar's own series, which take longest to write, are included only with telemetry.
    fn page(&mut self, telemetry: &Telemetry) -> String {
        let fleet: &Snapshot = &self.fleet.snapshot(self.now);
        let mut text = Vec::new();
        let mut flush = |piece: &mut Vec<u8>| {
            text.append(piece);
            true
        };
        let alerts = AlertCounts::default();
        if telemetry.families.is_empty() {
            let mut rest = Vec::new();
            write_fleet(fleet, &alerts, self.format, &mut rest, &mut flush);
            text.append(&mut rest);
            if self.format == ExpositionFormat::OpenMetrics {
                text.extend_from_slice(b"# EOF\n");
            }
        } else {
            RULES.with_borrow(|(_, own)| {
                let page = ExpositionPage { fleet, alerts: &alerts, own, telemetry };
                page.render(self.format, &mut |piece| flush(&mut Vec::from(piece)));
            });
        }
        String::from_utf8(text).expect("a page is text")
    }
}
