//! The steps of one run, generated from a seed: the same seed gives the same steps. `world` executes them.

use std::fmt;
use std::time::Duration;

use crate::doubles::mailbox::Verdict;
use crate::doubles::slack::Act;

/// Pseudo-random numbers, the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("less than a bound that is one")
    }

    /// True with this chance in percent.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// The subjects; each has one rule.
pub(super) const SUBJECTS: [&str; 11] =
    ["idle0", "idle1", "idle2", "idle3", "down0", "down1", "slow0", "slow1", "part0", "loop0", "loop1"];

/// The number of them whose rule has a window; they come last.
const LOOPING: usize = 2;

/// The delay of a late mail server: longer than the timeout of a client that ignores RFC 5321.
pub(super) const LATE: Duration = Duration::from_secs(34);
/// Its name in the report.
pub(super) const LATE_ANSWER: &str = "late answer to DATA";

/// The condition of a subject; which alerts it causes depends on the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It does not exist.
    Gone,
    /// Healthy.
    Well,
    /// It has the first, second or third kind of problem.
    Trouble(usize),
}

/// The threshold of the rule `Slow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    /// There is no such rule.
    Absent,
    /// It fires for slow.
    Strict,
    /// It fires only for very slow.
    Lenient,
}

/// The receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReceiverName {
    /// Everything from warning on.
    Ops,
    /// Everything from error on.
    Oncall,
    /// As ops, but removed from the configuration at times.
    Extra,
    /// As oncall, by mail.
    Mail,
}

impl ReceiverName {
    pub(super) const ALL: [Self; 4] = [Self::Ops, Self::Oncall, Self::Extra, Self::Mail];
    /// Those that are webhooks.
    pub(super) const HOOKS: [Self; 3] = [Self::Ops, Self::Oncall, Self::Extra];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::Oncall => "oncall",
            Self::Extra => "extra",
            Self::Mail => "mail",
        }
    }
}

/// The address of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Its own.
    Home,
    /// A port without a listener.
    Refused,
    /// A host name that does not resolve.
    Unresolved,
}

/// How a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is replaced by other content.
    Rubbish,
    /// Its middle is overwritten.
    Middle,
    /// Its end is missing.
    Short,
}

/// How a reload is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// `POST /-/reload`, whose answer shows that it is done.
    Api,
    /// SIGHUP, which does not.
    Signal,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A subject's condition is reported; with the time of the last report again, if its condition allows.
    Report(usize, Condition, bool),
    /// A subject is silenced for this many milliseconds.
    Silence(usize, u64),
    /// Its silences are ended.
    Unsilence(usize),
    /// Its alert is acknowledged.
    Acknowledge(usize),
    /// The rules change.
    Rules(Slow),
    /// The receiver `extra` is added or removed.
    Receiver(bool),
    /// The unchanged configuration is reloaded, by the API or by a signal.
    Reload(By),
    /// Monitoring is paused, extended or resumed.
    Monitoring(bool),
    /// An exporting agent has used that many more tokens and exports its total.
    Export(usize, u64),
    /// Responses of a receiver to its next requests.
    Trouble(ReceiverName, Vec<Act>),
    /// Responses of the mail server to its next mails.
    MailTrouble(Vec<Verdict>),
    /// A receiver's address changes.
    Address(ReceiverName, Address),
    /// The disk is full, or has space again.
    DiskFull(bool),
    /// The wall clock is set to an offset in seconds.
    Clock(i64),
    /// `kill -9` and a new start; these conditions change meanwhile.
    Kill(Vec<(usize, Condition)>),
    /// SIGTERM and a new start; these conditions change meanwhile.
    Term(Vec<(usize, Condition)>),
    /// `kill -9`, a file of the store is damaged, and a new start.
    Damage(&'static str, Damage),
    /// A database of the store is removed, with its write-ahead log, while the program runs.
    Remove(&'static str),
    /// A wait in microseconds.
    Pause(u64),
}

impl Step {
    /// The name of the fault in the report.
    pub(super) fn fault(&self) -> Vec<&'static str> {
        match self {
            Self::Trouble(_, acts) => acts.iter().filter_map(|act| act_name(*act)).collect(),
            Self::Address(_, Address::Refused) => vec!["connection refused"],
            Self::Address(_, Address::Unresolved) => vec!["name not resolved"],
            Self::DiskFull(true) => vec!["disk full"],
            Self::Clock(seconds) if *seconds > 0 => vec!["clock +1 h"],
            Self::Clock(_) => vec!["clock -1 h"],
            Self::Kill(_) => vec!["kill -9"],
            Self::Term(_) => vec!["SIGTERM"],
            Self::Rules(_) | Self::Receiver(_) | Self::Reload(By::Api) => vec!["reload"],
            Self::Reload(By::Signal) => vec!["SIGHUP"],
            Self::Monitoring(false) => vec!["pause or its extension"],
            Self::Export(who, _) if *who < TWINS => vec!["export of a twin"],
            Self::MailTrouble(verdicts) => verdicts.iter().filter_map(|verdict| verdict_name(*verdict)).collect(),
            Self::Remove(_) => vec!["database removed"],
            Self::Damage("lookout.db", _) => vec!["kill -9", "ledger damaged"],
            Self::Damage(..) => vec!["kill -9", "history damaged"],
            _ => Vec::new(),
        }
    }
}

const fn verdict_name(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Take => None,
        Verdict::Late(_) => Some(LATE_ANSWER),
        Verdict::Cut => Some("reset"),
        Verdict::Refuse(500..) => Some("5xx of the mail server"),
        Verdict::Refuse(_) => Some("4xx of the mail server"),
    }
}

const fn act_name(act: Act) -> Option<&'static str> {
    match act {
        Act::Take => None,
        Act::Hang => Some("hang"),
        Act::Cut => Some("reset"),
        Act::Answer(429, _, Some(_)) => Some("429 with Retry-After"),
        Act::Answer(429, _, None) => Some("429 without Retry-After"),
        Act::Answer(500.., _, _) => Some("5xx"),
        Act::Answer(..) => Some("4xx"),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report(subject, condition, again) => {
                let again = if *again { ", with the same timestamp" } else { "" };
                write!(out, "{} is {condition:?}{again}", SUBJECTS[*subject])
            }
            Self::Silence(subject, millis) => write!(out, "silence {} for {millis} ms", SUBJECTS[*subject]),
            Self::Unsilence(subject) => write!(out, "end the silences of {}", SUBJECTS[*subject]),
            Self::Acknowledge(subject) => write!(out, "acknowledge {}", SUBJECTS[*subject]),
            other => write!(out, "{other:?}"),
        }
    }
}

/// The exporting agents: two processes with equal attributes, and one with its own.
pub(super) const EXPORTERS: usize = 3;
/// How many of them are twins; they come first.
pub(super) const TWINS: usize = 2;

/// The schedule of `seed`.
pub(super) fn make(seed: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut steps = Vec::new();
    let count = 12 + dice.below(14);
    let (mut full, mut extra, mut hours) = (false, false, 0_i64);
    while steps.len() < count {
        let step = match dice.below(100) {
            0..27 => report(&mut dice),
            27..31 => Step::Export(dice.below(EXPORTERS), dice.pick(&[0, 7, 100, 4_000])),
            31..33 => Step::Monitoring(dice.chance(40)),
            33..36 => Step::Reload(dice.pick(&[By::Api, By::Signal])),
            36..40 => Step::Silence(dice.below(SUBJECTS.len()), dice.pick(&[300, 800, 7_200_000])),
            40..43 => Step::Unsilence(dice.below(SUBJECTS.len())),
            43..47 => Step::Acknowledge(dice.below(SUBJECTS.len())),
            47..52 => Step::Rules(dice.pick(&[Slow::Absent, Slow::Strict, Slow::Lenient])),
            52..56 => {
                extra = !extra;
                Step::Receiver(extra)
            }
            56..59 => Step::MailTrouble(verdicts(&mut dice)),
            59..71 => trouble(&mut dice),
            71..76 => {
                let address = dice.pick(&[Address::Home, Address::Refused, Address::Unresolved]);
                Step::Address(dice.pick(&ReceiverName::HOOKS), address)
            }
            76..80 => {
                full = !full;
                Step::DiskFull(full)
            }
            80..85 => {
                // Twice in one direction would be two hours, more than is promised.
                let hour = if hours == 0 { dice.pick(&[-1, 1]) } else { -hours };
                hours += hour;
                Step::Clock(hour * 3600)
            }
            // While nothing can be written, a crash loses the record of notifications, which is logged; another test covers that.
            _ if full => {
                full = false;
                Step::DiskFull(false)
            }
            85..93 => Step::Kill(meanwhile(&mut dice)),
            93..96 => Step::Term(meanwhile(&mut dice)),
            96..98 => Step::Remove(dice.pick(&["lookout.db", "lookout.history.db"])),
            _ => {
                let file = dice.pick(&["lookout.db", "lookout.history.db"]);
                Step::Damage(file, dice.pick(&[Damage::Rubbish, Damage::Middle, Damage::Short]))
            }
        };
        steps.push(step);
        // Short pauses hit the moments of writing and sending, long ones let things settle.
        let pause = match dice.below(10) {
            0..3 => 0,
            3..6 => dice.below(3_000),
            6..9 => dice.below(60_000),
            _ => dice.below(500_000),
        };
        steps.push(Step::Pause(pause as u64));
    }
    steps
}

fn condition(dice: &mut Dice) -> Condition {
    match dice.below(10) {
        0..3 => Condition::Well,
        3 => Condition::Gone,
        _ => Condition::Trouble(dice.below(3)),
    }
}

fn report(dice: &mut Dice) -> Step {
    // Windows need many reports: looping agents are reported more often than others.
    let subject = if dice.chance(35) { SUBJECTS.len() - 1 - dice.below(LOOPING) } else { dice.below(SUBJECTS.len()) };
    Step::Report(subject, condition(dice), dice.chance(30))
}

fn meanwhile(dice: &mut Dice) -> Vec<(usize, Condition)> {
    let count = dice.below(4);
    (0..count).map(|_| (dice.below(SUBJECTS.len()), condition(dice))).collect()
}

fn trouble(dice: &mut Dice) -> Step {
    let receiver = dice.pick(&ReceiverName::HOOKS);
    let count = 1 + dice.below(3);
    let acts = (0..count).map(|_| match dice.below(12) {
        0..2 => Act::Hang,
        2..4 => Act::Cut,
        4..6 => Act::Answer(500, "rollup_error", None),
        6 => Act::Answer(503, "", None),
        7 => Act::Answer(429, "rate_limited", Some(1)),
        8 => Act::Answer(429, "rate_limited", None),
        9 => Act::Answer(400, "invalid_blocks", None),
        10 => Act::Answer(404, "no_service", None),
        _ => Act::Take,
    });
    Step::Trouble(receiver, acts.collect())
}

fn verdicts(dice: &mut Dice) -> Vec<Verdict> {
    let count = 1 + dice.below(2);
    let verdicts = (0..count).map(|_| match dice.below(6) {
        0..3 => Verdict::Late(LATE),
        3 => Verdict::Cut,
        4 => Verdict::Refuse(451),
        _ => Verdict::Refuse(554),
    });
    verdicts.collect()
}
