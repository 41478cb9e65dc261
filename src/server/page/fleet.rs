//! The fleet: who needs you, as rows, then the healthy as squares.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use minijinja::{Value, context};

use super::shown::{Shown, Standing};
use super::words::{age, agent_href, element_id, escape, query};
use super::{AlertSummary, PageError, TEMPLATES, Visit, active_alerts, frame, send, svg};
use crate::engine::View;
use crate::machine::AlertView;
use crate::model::{Agent, AlertState, TokenType, duration};
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::store::HistoryEntry;
use crate::text::number;

/// Most rows of one state, unless the page is asked for that state alone.
const MAX_ROWS: usize = 100;
const MAX_ROWS_OF_STATE: usize = 2_000;
/// Rows whose last 24 hours are read.
const MAX_BANDS: usize = 60;
/// Most names in the choice of a filter.
const MAX_OPTIONS: usize = 200;

/// Which agents are shown, and how they are grouped.
#[derive(Clone, Debug, Default)]
struct Filter {
    text: String,
    project: Option<String>,
    agent_type: Option<String>,
    state: Option<String>,
    by_type: bool,
}

impl Filter {
    fn new(visit: &Visit) -> Self {
        let given = |name: &str| visit.parameter(name).map(ToOwned::to_owned);
        Self {
            text: given("q").unwrap_or_default(),
            project: given("project"),
            agent_type: given("type"),
            state: given("state"),
            by_type: visit.parameter("group") == Some("type"),
        }
    }

    fn covers(&self, standing: &Standing<'_>) -> bool {
        let agent = standing.agent;
        let is = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted == own);
        let has = |part: &str| part.to_lowercase().contains(&self.text.to_lowercase());
        is(&self.project, &agent.project)
            && is(&self.agent_type, agent.agent_type.as_deref().unwrap_or_default())
            && is(&self.state, standing.shown.key())
            && (self.text.is_empty()
                || has(&format!("{}/{}", agent.project, agent.name))
                || has(&standing.reason)
                || agent.model.as_deref().is_some_and(has)
                || agent.task.as_ref().is_some_and(|task| has(&task.id)))
    }
}

type Bands = HashMap<(String, String), Vec<HistoryEntry>>;

/// `GET /` for browsers.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let view = shared.context.engine.view().await?;
    let alerts = active_alerts(&shared).await?;
    let filter = Filter::new(&visit);
    let mut bands = Bands::new();
    let (seen, wanted) = (view.clone(), filter.clone());
    let (alerts, urgent) = shared
        .sending
        .build(move || {
            let urgent = urgent(&seen, &alerts, &wanted);
            (alerts, urgent)
        })
        .await?;
    for (project, name) in urgent {
        let changes = (shared.context.statuses)(project.clone(), name.clone()).await;
        bands.insert((project, name), changes);
    }
    let shown = visit.clone();
    Ok(send(&shared, &reader, &visit, "fleet.html", move || page(&shown, &view, &alerts, &filter, &bands)).await?)
}

/// Alerts by the agent (project, name) that they are about.
fn by_agent(alerts: &[AlertView]) -> HashMap<(&str, &str), Vec<&AlertView>> {
    let mut found: HashMap<_, Vec<&AlertView>> = HashMap::new();
    for alert in alerts.iter().filter(|alert| alert.state == AlertState::Firing) {
        if let (Some(project), Some(name)) = (&alert.project, &alert.agent_name) {
            found.entry((&**project, &**name)).or_default().push(alert);
        }
    }
    found
}

/// Alerts that want attention and are about no agent of the fleet: one that is missing, a source, a component, a project.
fn loose<'a>(view: &View, alerts: &'a [AlertView]) -> Vec<&'a AlertView> {
    let known: HashSet<(&str, &str)> = view.fleet.agents.iter().map(|agent| (&*agent.project, &*agent.name)).collect();
    let is_known = |alert: &AlertView| {
        let names = alert.project.as_deref().zip(alert.agent_name.as_deref());
        names.is_some_and(|names| known.contains(&names))
    };
    alerts.iter().filter(|alert| super::shown::is_loud(alert) && !is_known(alert)).collect()
}

/// All agents as they are shown, the most urgent first.
fn standings<'a>(view: &'a View, alerts: &'a [AlertView]) -> Vec<Standing<'a>> {
    let fleet = &view.fleet;
    let by_agent = by_agent(alerts);
    let none = Vec::new();
    let of =
        |agent: &'a Agent| Standing::new(agent, fleet, by_agent.get(&(&*agent.project, &*agent.name)).unwrap_or(&none));
    let mut standings: Vec<Standing<'a>> = fleet.agents.iter().map(of).collect();
    standings.sort_by(|a, b| {
        let by_name = || (&*a.agent.project, &*a.agent.name).cmp(&(&*b.agent.project, &*b.agent.name));
        if a.shown.is_urgent() && b.shown.is_urgent() {
            (a.shown, b.level(), a.since).cmp(&(b.shown, a.level(), b.since)).then_with(by_name)
        } else {
            a.shown.cmp(&b.shown).then_with(by_name)
        }
    });
    standings
}

/// The agents (project, name) whose history the page shows.
fn urgent(view: &View, alerts: &[AlertView], filter: &Filter) -> Vec<(String, String)> {
    let standings = standings(view, alerts);
    let urgent = standings.iter().filter(|standing| standing.shown.is_urgent() && filter.covers(standing));
    urgent
        .take(MAX_BANDS)
        .map(|standing| (standing.agent.project.to_string(), standing.agent.name.to_string()))
        .collect()
}

fn page(visit: &Visit, view: &View, alerts: &[AlertView], filter: &Filter, bands: &Bands) -> Value {
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let all = standings(view, alerts);
    let counts: BTreeMap<Shown, usize> = all.iter().fold(BTreeMap::new(), |mut counts, standing| {
        *counts.entry(standing.shown).or_default() += 1;
        counts
    });
    let covered: Vec<&Standing<'_>> = all.iter().filter(|standing| filter.covers(standing)).collect();
    let mut groups = Vec::new();
    let mut healthy = Vec::new();
    for shown in Shown::ALL {
        let of_state: Vec<&Standing<'_>> = covered.iter().filter(|it| it.shown == shown).copied().collect();
        if of_state.is_empty() {
            continue;
        }
        if shown.is_urgent() || filter.state.is_some() {
            let most = if filter.state.is_some() { MAX_ROWS_OF_STATE } else { MAX_ROWS };
            let rows: Vec<Value> =
                of_state.iter().take(most).map(|standing| row(visit, now, standing, bands)).collect();
            let rest = of_state.len().saturating_sub(most);
            let more = (rest > 0).then(|| {
                context! { href => format!("./?state={}", shown.key()), text => format!("{rest} more") }
            });
            groups.push(context! {
                state => shown.key(), name => shown.word(), count => of_state.len(), rows => rows, more => more,
            });
        } else {
            healthy.push(squares(now, shown, &of_state, filter));
        }
    }
    let loose = loose(view, alerts);
    let summary = summary(view, &counts, loose.len());
    let of_agents: usize = counts.iter().filter(|(shown, _)| shown.is_urgent()).map(|(_, count)| *count).sum();
    let urgent = of_agents + loose.len();
    let is_shown = |alert: &&&AlertView| {
        filter.state.is_none()
            && filter.agent_type.is_none()
            && filter.text.is_empty()
            && filter.project.as_deref().is_none_or(|project| alert.project.as_deref() == Some(project))
    };
    let loose: Vec<Value> =
        loose.iter().filter(is_shown).take(MAX_ROWS).map(|alert| super::alerts::alert_value(alert, now)).collect();
    let frame_alerts = AlertSummary { needs: urgent, ..AlertSummary::of(alerts) };
    let title =
        if all.is_empty() { "No agents yet · lookout".to_owned() } else { format!("{} · lookout", summary.title) };
    context! {
        page => frame(visit, "fleet", title, frame_alerts, now),
        summary => context! { parts => summary.parts, line => summary.line },
        filter => choices(view, filter),
        loose => loose,
        groups => groups,
        healthy => healthy,
        sources => sources(view, now),
        empty => all.is_empty().then(super::setup::beginnings),
        unmatched => !all.is_empty() && covered.is_empty(),
    }
}

/// One row of the queue, rendered.
fn row(visit: &Visit, now: crate::model::Time, standing: &Standing<'_>, bands: &Bands) -> Value {
    let agent = standing.agent;
    let key = (agent.project.to_string(), agent.name.to_string());
    let band = bands
        .get(&key)
        .map(|changes| svg::band(&svg::day(now, changes, (standing.shown, standing.since), standing.since), false));
    let alert = standing.alert;
    let row = context! {
        id => element_id("a", &[&agent.project, &agent.name]),
        key => format!("{}/{}", agent.project, agent.name),
        state => standing.shown.key(),
        word => standing.shown.word(),
        glyph => if standing.is_by_alert && standing.shown == Shown::NeedsYou { "alert" } else { standing.shown.key() },
        href => agent_href(&agent.project, &agent.name),
        project => &*agent.project,
        agent => &*agent.name,
        reason => standing.reason.clone(),
        level => alert.map(|alert| alert.level.as_str()),
        badge => alert.map(|alert| format!("{} {}", alert.rule, alert.level.as_str())),
        rule => alert.map(|alert| &*alert.rule),
        fingerprint => alert.map(|alert| alert.fingerprint.to_string()),
        since => standing.since.to_string(),
        since_shown => standing.since.to_jiff().strftime("%H:%M:%S UTC, %e %b").to_string(),
        age => age(now, standing.since),
        band => band.map(Value::from_safe_string),
        acked => alert.and_then(|alert| alert.acked_by.as_deref()).map(|by| format!("by {by}")),
        silenced => alert.and_then(|alert| alert.silenced_by.as_deref()).map(|id| format!("by silence {id}")),
        can_ack => visit.is_admin && alert.is_some_and(|alert| alert.acked_by.is_none()),
    };
    let page = context! { admin => visit.is_admin };
    let html = TEMPLATES.get_template("row.html").and_then(|template| template.render(context! { row, page }));
    Value::from_safe_string(html.unwrap_or_default())
}

/// The agents of a calm state, as squares by project or type.
fn squares(now: crate::model::Time, shown: Shown, agents: &[&Standing<'_>], filter: &Filter) -> Value {
    let mut by_group: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for standing in agents {
        let agent = standing.agent;
        let group = if filter.by_type { agent.agent_type.as_deref().unwrap_or("no type") } else { &agent.project };
        let (count, html) = by_group.entry(group).or_default();
        *count += 1;
        let doing = if standing.reason.is_empty() { String::new() } else { format!(" · {}", standing.reason) };
        let title = format!("{} · {} {}{doing}", agent.name, shown.word().to_lowercase(), age(now, standing.since));
        let (href, title) = (escape(&agent_href(&agent.project, &agent.name)), escape(&title));
        write!(html, r#"<a href="{href}" title="{title}"></a>"#).ok();
    }
    let projects = by_group.into_iter().map(|(name, (count, squares))| {
        let key = if filter.by_type { "type" } else { "project" };
        context! {
            name => name,
            href => format!("./?{key}={}", query(name)),
            count => count,
            squares => Value::from_safe_string(squares),
        }
    });
    context! { state => shown.key(), name => shown.word(), count => agents.len(), projects => projects.collect::<Vec<_>>() }
}

struct Headline {
    title: String,
    parts: Vec<Value>,
    line: Vec<Value>,
}

/// The headline, and a quiet line about spending.
fn summary(view: &View, counts: &BTreeMap<Shown, usize>, loose: usize) -> Headline {
    let fleet = &view.fleet;
    let count = |shown: Shown| counts.get(&shown).copied().unwrap_or(0);
    let urgent: Vec<Shown> = Shown::ALL.into_iter().filter(|shown| shown.is_urgent() && count(*shown) > 0).collect();
    let sentences: Vec<String> = urgent.iter().map(|shown| shown.sentence(count(*shown))).collect();
    let calm: Vec<String> = [Shown::Working, Shown::Idle, Shown::Done, Shown::Unknown]
        .into_iter()
        .filter(|shown| count(*shown) > 0)
        .map(|shown| shown.sentence(count(shown)))
        .collect();
    let mut line = Vec::new();
    let item = |text: String, source: &str| context! { text => text, source => source };
    let (title, parts) = if !urgent.is_empty() || loose > 0 {
        if !calm.is_empty() {
            line.push(item(calm.join(", "), "agents without an alert, by status"));
        }
        let parts = urgent.iter().map(|shown| context! { state => shown.key(), text => shown.sentence(count(*shown)) });
        let of_others = (loose > 0).then(|| format!("{loose} alert{}", if loose == 1 { "" } else { "s" }));
        let others = of_others.iter().map(|text| context! { state => "alert", text => text.clone() });
        let title: Vec<String> = sentences.iter().chain(&of_others).cloned().collect();
        (title.join(" · "), parts.chain(others).collect())
    } else {
        let is_well = fleet.monitoring && count(Shown::Unknown) == 0;
        let text = match (calm.is_empty(), is_well) {
            (true, _) => "No agents yet".to_owned(),
            (false, true) => format!("All well: {}", calm.join(", ")),
            (false, false) => calm.join(", "),
        };
        (text.clone(), vec![context! { text => text }])
    };
    let cost: f64 = fleet.agents.iter().map(|agent| agent.day_cost_usd).sum();
    let tokens: u64 = fleet.agents.iter().map(|agent| agent.day_tokens).fold(0, u64::saturating_add);
    if cost > 0.0 {
        line.insert(
            0,
            item(
                format!("{} today", number::dollars(cost)),
                "cost of the budgets' day, as agents and telemetry report it",
            ),
        );
    }
    if tokens > 0 {
        line.push(item(
            format!("{} tokens today", number::short(tokens as f64)),
            "tokens of the budgets' day, without those read from a cache",
        ));
    }
    if !fleet.monitoring {
        line.push(item(
            "monitoring is paused: nothing is evaluated or sent".to_owned(),
            "resume it by POST /api/monitoring/start",
        ));
    }
    Headline { title, parts, line }
}

fn choices(view: &View, filter: &Filter) -> Value {
    let fleet = &view.fleet;
    let projects: BTreeSet<&str> = fleet.agents.iter().map(|agent| &*agent.project).collect();
    let types: BTreeSet<&str> = fleet.agents.iter().filter_map(|agent| agent.agent_type.as_deref()).collect();
    let choice = |key: &str, name: &str, values: &BTreeSet<&str>, chosen: Option<&str>| {
        let all = [context! { value => "", name => "all", selected => chosen.is_none() }];
        let each = values.iter().take(MAX_OPTIONS);
        let each = each.map(|value| context! { value => *value, name => *value, selected => chosen == Some(*value) });
        context! { key => key, name => name, options => all.into_iter().chain(each).collect::<Vec<_>>() }
    };
    let mut all = Vec::new();
    if projects.len() > 1 {
        all.push(choice("project", "project", &projects, filter.project.as_deref()));
    }
    if types.len() > 1 {
        all.push(choice("type", "type", &types, filter.agent_type.as_deref()));
        let by =
            |value: &str, name: &str, selected: bool| context! { value => value, name => name, selected => selected };
        let options = [by("", "project", !filter.by_type), by("type", "type", filter.by_type)];
        all.push(context! { key => "group", name => "group by", options => options });
    }
    context! { q => filter.text.clone(), choices => all, state => filter.state.clone() }
}

fn sources(view: &View, now: crate::model::Time) -> Option<Value> {
    let fleet = &view.fleet;
    let failing: Vec<Value> = fleet
        .sources
        .iter()
        .filter(|source| source.up == Some(false))
        .map(|source| {
            let error = source.last_error.as_deref().unwrap_or("not polled yet");
            let agents = fleet.agents.iter().filter(|agent| agent.source == source.name).count();
            let since = source.failing_since.map(|since| format!(" for {}", age(now, fleet.wall.to_wall(since))));
            let unknown = if agents > 0 { format!("; its {agents} agents may be out of date") } else { String::new() };
            context! { name => &*source.name, text => format!("{error}{}{unknown}", since.unwrap_or_default()) }
        })
        .collect();
    let total = fleet.sources.len();
    (!failing.is_empty()).then(|| context! { up => total - failing.len(), total => total, failing => failing })
}

/// Tokens by type in words, for tooltips.
pub(super) fn tokens_in_words(agent: &Agent) -> String {
    let known = TokenType::ALL.iter().zip(&agent.tokens);
    let known = known.filter(|(_, count)| count.total() > 0).filter_map(|(kind, count)| {
        Some(format!("{} {}", number::short(count.get()? as f64), kind.as_str().replace('_', " ")))
    });
    known.collect::<Vec<_>>().join(", ")
}

/// How long, in words of the API.
pub(super) fn long(seconds: std::time::Duration) -> String {
    duration::display(seconds)
}
