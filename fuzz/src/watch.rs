//! A sidecar without sockets, clock and store: what came in is applied, judged and shown, and checked each time.

use std::cell::RefCell;
use std::time::Duration;

use lookout::config::Config;
use lookout::fleet::{Fleet, FleetSettings};
use lookout::metrics::{ExpositionFormat, SidecarMetrics, ExpositionPage, write_fleet};
use lookout::model::alert::AlertCounts;
use lookout::model::telemetry::Telemetry;
use lookout::model::{Finding, Snapshot, Time};
use lookout::rules::compile::RuleSettings;
use lookout::rules::{Rules, built_in};

use crate::begin;
use crate::page::{self, Counts};

/// Series that agents may have: few enough that an input can reach the cap.
const MAX_SERIES: usize = 1_000;

thread_local! {
    /// Compiled once, since that costs more than most inputs; made to forget before each input.
    static JUDGE: RefCell<(Rules, SidecarMetrics)> = RefCell::new({
        let agents = Config::default().agents;
        let settings = RuleSettings { max_idle: agents.max_idle, timeout: agents.timeout };
        (Rules::new(built_in(settings).expect("the built-in rules")), SidecarMetrics::new())
    });
}

/// The fleet that an input makes.
pub struct Watch {
    /// The time by this input.
    pub now: Time,
    /// What takes updates.
    pub fleet: Fleet,
    findings: Vec<Finding>,
    format: ExpositionFormat,
    shown: Counts,
}

impl Watch {
    /// An empty fleet that is shown in one of the two formats.
    pub fn new(is_openmetrics: bool) -> Self {
        JUDGE.with_borrow_mut(|(rules, _)| *rules = Rules::new(rules.take_set()));
        let settings = FleetSettings { max_series: MAX_SERIES, ..Config::default().fleet_settings() };
        let format = if is_openmetrics { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
        let (fleet, findings) = (Fleet::new(begin(), settings), Vec::new());
        Self { now: begin(), fleet, findings, format, shown: Counts::new() }
    }

    /// Lets time go by: deadlines come, agents go stale and are forgotten.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        let now = self.now;
        self.fleet.observe_wall_clock(now, now);
        self.fleet.tick(now);
        JUDGE.with_borrow_mut(|(rules, _)| rules.tick(now, self.fleet.state(), &mut self.findings));
        self.judge();
    }

    /// Judges what changed and forgets that it did, as after each update.
    pub fn judge(&mut self) {
        JUDGE.with_borrow_mut(|(rules, _)| {
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

    /// The page is shown anew from here on: series went on purpose.
    pub fn forget_counts(&mut self) {
        self.shown.clear();
    }

    /// The sidecar's own series, which cost most to write, stand on it only beside telemetry.
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
            JUDGE.with_borrow(|(_, own)| {
                let page = ExpositionPage { fleet, alerts: &alerts, own, telemetry };
                page.render(self.format, &mut |piece| flush(&mut Vec::from(piece)));
            });
        }
        String::from_utf8(text).expect("a page is text")
    }
}
