//! AG2: its spans of model calls name no agent, which is that of the nearest span above them.

use std::collections::HashMap;

use super::attributes::text;
use crate::otlp::wire::{KeyValue, Span};

/// The scope of its spans.
const SCOPE: &str = "opentelemetry.instrumentation.ag2";
/// The attribute with the agent's name.
const AGENT: &str = "gen_ai.agent.name";
/// Depth up to which ancestors are searched, so that a circle of parents ends.
const MAX_DEPTH: usize = 100;

/// The spans of one export by their ids; `None` for those of other scopes.
pub(super) fn by_id<'s>(scope: Option<&str>, spans: &'s [Span]) -> Option<HashMap<&'s [u8], &'s Span>> {
    (scope == Some(SCOPE)).then(|| spans.iter().map(|span| (&*span.span_id, span)).collect())
}

/// The span with the agent of the nearest span above it in the same export; `None` if it has one, or there is none.
pub(super) fn with_agent_above(span: &Span, spans: &HashMap<&[u8], &Span>) -> Option<Span> {
    if text(&span.attributes, AGENT).is_some() {
        return None;
    }
    let mut above = span;
    for _ in 0..MAX_DEPTH {
        above = spans.get(&*above.parent_span_id)?;
        let named = |attribute: &&KeyValue| attribute.key == AGENT;
        if let Some(agent) = above.attributes.iter().find(named) {
            let mut span = span.clone();
            span.attributes.push(agent.clone());
            return Some(span);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{Value, attribute};

    fn span(id: u8, parent: u8, agent: Option<&str>) -> Span {
        let agent = agent.map(|agent| attribute(AGENT, Value::StringValue(agent.to_owned())));
        let parent_span_id = if parent == 0 { Vec::new() } else { vec![parent; 8] };
        Span { span_id: vec![id; 8], parent_span_id, attributes: agent.into_iter().collect(), ..Span::default() }
    }

    #[test]
    fn a_call_has_the_agent_of_the_nearest_span_above() {
        let spans = [
            span(1, 0, Some("boss")),
            span(2, 1, Some("clerk")),
            span(3, 2, None),
            span(4, 3, None),
            span(5, 9, None),
            // A circle.
            span(6, 7, None),
            span(7, 6, None),
        ];
        assert!(by_id(Some("other"), &spans).is_none() && by_id(None, &spans).is_none());
        let by_id = by_id(Some(SCOPE), &spans).expect("of AG2");
        let agent = |at: usize| {
            let span = with_agent_above(&spans[at], &by_id)?;
            text(&span.attributes, AGENT).map(|agent| agent.into_owned())
        };
        assert_eq!([agent(2), agent(3)], [Some("clerk".to_owned()), Some("clerk".to_owned())]);
        assert_eq!([agent(0), agent(1), agent(4), agent(5)], [None, None, None, None]);
    }
}
