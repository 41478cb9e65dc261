//! The statements that read a table of spans. Values are parameters, never part of a statement.

use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ArchivedAgents;
use crate::model::{Run, Time};
use crate::store::traces::RunFilter;

/// Bounds of every statement.
pub(super) const SETTINGS: [(&str, &str); 3] =
    [("max_execution_time", "15"), ("wait_end_of_query", "1"), ("result_overflow_mode", "throw")];

/// The run of a span: the one that it names, else its trace.
const RUN: &str = "if(match(lower(replaceAll(SpanAttributes['metadata.parent_trace_id'], '-', '')), '^[0-9a-f]{32}$'), \
                   lower(replaceAll(SpanAttributes['metadata.parent_trace_id'], '-', '')), lower(TraceId))";
/// Traces of one run that are read.
const MAX_TRACES: usize = 200;

/// Spans that name the same run.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Candidate {
    /// The run.
    #[serde(default)]
    pub(super) run: String,
    /// When the first of them began, in milliseconds.
    #[serde(default)]
    began: String,
    /// Their traces.
    pub(super) traces: Vec<String>,
}

impl Candidate {
    pub(super) fn of_traces(traces: Vec<String>) -> Self {
        Self { traces, ..Self::default() }
    }

    pub(super) fn began(&self) -> Time {
        Time::from_millis(self.began.parse().unwrap_or(0))
    }
}

/// Which candidates are asked for.
#[derive(Debug, Default)]
pub(super) struct Selection {
    wheres: Vec<String>,
    havings: Vec<String>,
    pub(super) parameters: Vec<(String, String)>,
    limit: usize,
}

impl Selection {
    fn parameter(&mut self, kind: &str, value: String) -> String {
        let name = format!("p{}", self.parameters.len());
        let mark = format!("{{{name}:{kind}}}");
        self.parameters.push((name, value));
        mark
    }

    /// What a list may have, a superset: the runs that begin before `before`.
    pub(super) fn of_list(filter: &RunFilter, agents: &ArchivedAgents, before: Option<Time>, limit: usize) -> Self {
        let mut selection = Self { limit, ..Self::default() };
        if let Some(since) = filter.since {
            let mark = selection.parameter("Int64", since.as_millis().to_string());
            selection.wheres.push(format!("Timestamp >= fromUnixTimestamp64Milli({mark})"));
        }
        let until = [filter.until, before].into_iter().flatten().min();
        if let Some(until) = until {
            let mark = selection.parameter("Int64", until.as_millis().to_string());
            // The next page has those of the same millisecond as well.
            selection.havings.push(format!("min(Timestamp) < fromUnixTimestamp64Milli({mark} + 1)"));
        }
        selection.of_agents(agents);
        for value in [&filter.task, &filter.platform, &filter.model, &filter.session].into_iter().flatten() {
            let mark = selection.parameter("String", value.clone());
            selection
                .havings
                .push(format!("countIf(arrayExists(v -> position(v, {mark}) > 0, mapValues(SpanAttributes))) > 0"));
        }
        if let Some(tool) = &filter.tool {
            let mark = selection.parameter("String", tool.clone());
            let in_values = format!("arrayExists(v -> position(v, {mark}) > 0, mapValues(SpanAttributes))");
            selection.havings.push(format!("countIf({in_values} OR position(SpanName, {mark}) > 0) > 0"));
        }
        selection
    }

    /// The spans of agents from one hour to another.
    pub(super) fn of_hours(agents: Option<&ArchivedAgents>, hours: &Range<u32>, limit: usize) -> Self {
        let mut selection = Self { limit, ..Self::default() };
        let start = selection.parameter("Int64", (i64::from(hours.start) * 3_600_000).to_string());
        let end = selection.parameter("Int64", (i64::from(hours.end) * 3_600_000).to_string());
        selection.wheres.push(format!("Timestamp >= fromUnixTimestamp64Milli({start})"));
        selection.wheres.push(format!("Timestamp < fromUnixTimestamp64Milli({end})"));
        if let Some(agents) = agents {
            selection.of_agents(agents);
        }
        selection
    }

    /// The spans that have one of these ids as that of their trace or of their run.
    pub(super) fn of_ids(ids: &[String], limit: usize) -> Self {
        let mut selection = Self { limit, ..Self::default() };
        let mark = selection.parameter("Array(String)", list(ids));
        selection.wheres.push(format!("({RUN} IN {mark} OR lower(TraceId) IN {mark})"));
        selection
    }

    fn of_agents(&mut self, agents: &ArchivedAgents) {
        if agents.agents.is_empty() {
            return;
        }
        let names: Vec<String> = agents.agents.iter().map(|(_, name)| name.clone()).collect();
        let all: Vec<String> = names.iter().chain(&agents.ids).cloned().collect();
        let (names, all) = (self.parameter("Array(String)", list(&names)), self.parameter("Array(String)", list(&all)));
        self.havings.push(format!(
            "countIf(SpanAttributes['metadata.agent_id'] IN {all} OR SpanAttributes['litellm.metadata.agent_id'] IN {all} \
             OR SpanAttributes['gen_ai.agent.name'] IN {names} OR ServiceName IN {names}) > 0"
        ));
    }

    pub(super) fn statement(&self, table: &str) -> String {
        let and = |keyword: &str, conditions: &[String]| {
            if conditions.is_empty() { String::new() } else { format!(" {keyword} {}", conditions.join(" AND ")) }
        };
        format!(
            "SELECT {RUN} AS run, toString(toUnixTimestamp64Milli(min(Timestamp))) AS began, \
             groupUniqArray({MAX_TRACES})(TraceId) AS traces FROM {table}{} GROUP BY run{} \
             ORDER BY min(Timestamp) DESC LIMIT {} FORMAT JSONEachRow",
            and("WHERE", &self.wheres),
            and("HAVING", &self.havings),
            self.limit
        )
    }
}

/// The statement that reads the spans of candidates, each once.
pub(super) fn spans(
    table: &str,
    candidates: &[Candidate],
    has_scopes: bool,
    limit: usize,
) -> (String, Vec<(String, String)>) {
    let traces: Vec<String> = candidates.iter().flat_map(|candidate| candidate.traces.iter().cloned()).collect();
    let scope = if has_scopes { "ScopeName" } else { "'' AS ScopeName" };
    let statement = format!(
        "SELECT toString(toUnixTimestamp64Nano(Timestamp)) AS Nanos, TraceId, SpanId, ParentSpanId, SpanName, \
         ResourceAttributes, {scope}, SpanAttributes, toString(Duration) AS Took, StatusCode, StatusMessage, \
         `Events.Name` AS EventNames, `Events.Attributes` AS EventAttributes, `Links.TraceId` AS LinkTraces \
         FROM {table} WHERE TraceId IN {{traces:Array(String)}} ORDER BY Timestamp LIMIT 1 BY TraceId, SpanId \
         LIMIT {limit} FORMAT JSONEachRow"
    );
    (statement, vec![("traces".to_owned(), list(&traces))])
}

/// A list of texts as a parameter.
fn list(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")));
    format!("[{}]", quoted.collect::<Vec<_>>().join(","))
}

/// The rows of an answer; what can't be read is left out.
pub(super) fn read_lines<T: DeserializeOwned>(lines: &[u8]) -> Vec<T> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Whether a run is one that a list asks for.
pub(super) fn matches(filter: &RunFilter, run: &Run) -> bool {
    let is = |asked: &Option<String>, value: Option<&str>| asked.as_deref().is_none_or(|asked| value == Some(asked));
    let any = |asked: &Option<String>, mut values: Box<dyn Iterator<Item = &str> + '_>| {
        asked.as_deref().is_none_or(|asked| values.any(|value| value == asked))
    };
    let calls = &run.groups.calls;
    let duration = run.ended_at.map(|ended| ended.as_millis() - run.started_at.as_millis());
    let has_text = |asked: &str| {
        let asked = asked.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&asked);
        has(&run.name) || run.error.as_deref().is_some_and(has)
    };
    is(&filter.project, Some(&run.project))
        && is(&filter.agent, Some(&run.agent))
        && is(&filter.task, run.task.as_deref())
        && is(&filter.platform, run.platform.as_deref())
        && is(&filter.session, run.session.as_deref())
        && any(&filter.model, Box::new(calls.iter().map(|group| &*group.model)))
        && any(&filter.provider, Box::new(calls.iter().map(|group| &*group.provider)))
        && any(&filter.tool, Box::new(run.groups.tools.iter().map(|group| &*group.tool)))
        && filter.status.is_none_or(|status| status == run.status)
        && filter.since.is_none_or(|since| run.started_at >= since)
        && filter.until.is_none_or(|until| run.started_at < until)
        && filter
            .min_duration_ms
            .is_none_or(|min| duration.is_some_and(|ms| u64::try_from(ms).is_ok_and(|ms| ms >= min)))
        && filter.min_cost.is_none_or(|min| run.totals.cost_usd.is_some_and(|cost| cost >= min))
        && filter.parent.is_none_or(|parent| run.parent == Some(parent))
        && filter.text.as_deref().is_none_or(has_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parameters() {
        let filter = RunFilter {
            model: Some("x'; DROP TABLE t".to_owned()),
            since: Some(Time::from_millis(5)),
            ..RunFilter::default()
        };
        let agents =
            ArchivedAgents { agents: vec![("shop".to_owned(), "o'clerk\\".to_owned())], ids: vec!["1".to_owned()] };
        let selection = Selection::of_list(&filter, &agents, Some(Time::from_millis(9)), 10);
        let statement = selection.statement("`d`.`t`");
        assert!(!statement.contains("DROP") && !statement.contains("clerk"), "{statement}");
        assert!(
            statement
                .contains("FROM `d`.`t` WHERE Timestamp >= fromUnixTimestamp64Milli({p0:Int64}) GROUP BY run HAVING")
        );
        let value = |at: usize| selection.parameters.get(at).map(|(_, value)| value.as_str());
        assert_eq!((value(0), value(1), value(2)), (Some("5"), Some("9"), Some("['o\\'clerk\\\\']")));
    }
}
