//! Encodes a batch as a body of `POST /api/state`, which is how polls are recorded.
//!
//! [`super::decode_state`] decodes it into the same batch. Rejections are left out.

use serde_json::{Map, Value, json};

use crate::ingest::metrics::encode_metric;
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentUpdate, Batch, ComponentUpdate, Patch, TokenType, duration};

/// The body that decodes into `batch`.
pub fn encode_state(batch: &Batch<'_>) -> String {
    let mut body = Map::new();
    body.insert("project".to_owned(), json!(batch.project));
    if let Some(ttl) = batch.ttl {
        body.insert("ttl".to_owned(), json!(duration::exact(ttl)));
    }
    if let Some(ordinal) = &batch.ordinal {
        body.insert("ordinal".to_owned(), json!({"run": ordinal.run, "number": ordinal.number}));
    }
    body.insert("agents".to_owned(), batch.agents.iter().map(agent).collect());
    if batch.complete {
        body.insert("complete".to_owned(), Value::Bool(true));
    }
    if !batch.components.is_empty() {
        body.insert("components".to_owned(), batch.components.iter().map(component).collect());
    }
    Value::Object(body).to_string()
}

/// An object without keys for unknown values.
struct JsonFields(Map<String, Value>);

impl JsonFields {
    fn known<T: serde::Serialize>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value.map(|value| json!(value)) {
            self.0.insert(key.to_owned(), value);
        }
    }

    fn patch<T: serde::Serialize>(&mut self, key: &str, patch: &Patch<T>) {
        match patch {
            Patch::Keep => {}
            Patch::Clear => self.known(key, Some(Value::Null)),
            Patch::Set(value) => self.known(key, Some(value)),
        }
    }

    fn group(&mut self, key: &str, fields: Self) {
        if !fields.0.is_empty() {
            self.0.insert(key.to_owned(), Value::Object(fields.0));
        }
    }
}

fn agent(update: &AgentUpdate<'_>) -> Value {
    // Destructured, so that a new field has to be added here.
    let AgentUpdate {
        name,
        agent_type,
        status,
        running,
        ended,
        reason,
        task_id,
        task_started_at,
        phase,
        progress,
        context_window_ratio,
        restart_count,
        last_activity,
        estimated_completion,
        model,
        tokens: tokens_known,
        cost_usd,
        requests: requests_known,
        request_errors,
        rate_limit_hits,
        retries,
        reviews_passed,
        reviews_failed,
        rate_limits,
        index: _,
        is_last_activity_unreadable: _,
        // It is derived from other fields when they are decoded.
        rate_limit_hit: _,
    } = update;
    let none = || JsonFields(Map::new());
    let mut fields = none();
    fields.known("name", Some(name));
    fields.known("type", agent_type.as_ref());
    fields.known("status", status.map(|status| status.as_str()));
    fields.known("running", *running);
    fields.known("ended", ended.then_some(true));
    fields.patch("reason", reason);
    fields.patch("task_id", task_id);
    fields.known("task_started_at", task_started_at.map(|at| at.to_string()));
    fields.patch("phase", phase);
    fields.patch("progress", progress);
    fields.patch("context_window_ratio", context_window_ratio);
    fields.known("restart_count", *restart_count);
    fields.known("last_activity", last_activity.map(|at| at.to_string()));
    let completion = match estimated_completion {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(at) => Patch::Set(at.to_string()),
    };
    fields.patch("estimated_completion", &completion);
    fields.known("model", model.as_ref());
    let mut tokens = none();
    for (token_type, count) in TokenType::ALL.into_iter().zip(*tokens_known) {
        tokens.known(token_type.as_str(), count);
    }
    tokens.known("cost_usd", *cost_usd);
    fields.group("tokens", tokens);
    let mut requests = none();
    requests.known("total", *requests_known);
    requests.known("errors", *request_errors);
    requests.known("rate_limited", *rate_limit_hits);
    requests.known("retries", *retries);
    fields.group("requests", requests);
    let mut reviews = none();
    reviews.known("passed", *reviews_passed);
    reviews.known("failed", *reviews_failed);
    fields.group("reviews", reviews);
    fields.known("rate_limits", rate_limits.as_ref().map(|limits| limits.iter().map(rate_limit).collect::<Value>()));
    Value::Object(fields.0)
}

fn rate_limit(limit: &RateLimitUpdate<'_>) -> Value {
    let mut fields = JsonFields(Map::new());
    fields.known("provider", Some(&limit.provider));
    fields.known("limit_type", Some(&limit.limit_type));
    fields.known("limit", limit.limit);
    fields.known("remaining", limit.remaining);
    fields.known("reset_at", limit.reset_at.map(|at| at.to_string()));
    Value::Object(fields.0)
}

fn component(update: &ComponentUpdate<'_>) -> Value {
    let mut fields = JsonFields(Map::new());
    fields.known("name", Some(&update.name));
    fields.known("status", Some(update.status.as_str()));
    fields.known("details", update.details.as_ref());
    if !update.custom.is_empty() {
        let plain = update.metrics.iter().map(|(name, value)| json!({"name": name, "value": value}));
        fields.known("metrics", Some(plain.chain(update.custom.iter().map(encode_metric)).collect::<Value>()));
    } else if !update.metrics.is_empty() {
        let plain = update.metrics.iter().map(|(name, value)| (name.to_string(), json!(value)));
        fields.known("metrics", Some(plain.collect::<Map<_, _>>()));
    }
    Value::Object(fields.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::decode_state;
    use crate::model::update::Ordinal;
    use crate::model::{AgentStatus, ComponentStatus, CustomKind, CustomUpdate, Time};

    fn now() -> Time {
        Time::from_millis(1_767_225_600_000)
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9 \"\\\\/<>{}:äß-]{1,12}".prop_map(|text| format!("x{}", text.trim()))
    }

    fn patch<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Patch<T>> {
        (0..3, value).prop_map(|(kind, value)| match kind {
            0 => Patch::Keep,
            1 => Patch::Clear,
            _ => Patch::Set(value),
        })
    }

    prop_compose! {
        fn agents()(
            name in text(), texts in proptest::collection::vec(proptest::option::of(text()), 2),
            status in proptest::option::of(0..9_usize), running in proptest::option::of(any::<bool>()),
            reason in patch(text()), task in patch(text()), phase in patch(text()),
            (progress, context_window_ratio) in (patch((0..1_000_u16).prop_map(|tenths| f64::from(tenths) / 10.0)), patch((0..9_u8).prop_map(|eighths| f64::from(eighths) / 8.0))),
            times in proptest::collection::vec(proptest::option::of(0..100_000_000_i64), 2),
            completion in patch(0..100_000_000_i64),
            counts in proptest::collection::vec(proptest::option::of(0..1_u64 << 50), 12),
            cost in proptest::option::of(0..1_000_000_u32),
            limits in proptest::option::of(proptest::collection::vec((text(), 0..4_usize, proptest::option::of(any::<u32>()), proptest::option::of(0..100_000_000_i64)), 0..3)),
        ) -> AgentUpdate<'static> {
            let count = |place: usize| counts[place];
            let past = |place: usize| times[place].map(|millis| Time::from_millis(now().as_millis() - millis));
            AgentUpdate {
                name: name.into(),
                index: 0,
                agent_type: texts[0].clone().map(Into::into),
                status: status.map(|place| AgentStatus::ALL[place]),
                running,
                ended: running == Some(false),
                rate_limit_hit: None,
                reason: owned(reason),
                task_id: owned(task),
                task_started_at: past(0),
                phase: owned(phase),
                progress,
                context_window_ratio,
                restart_count: count(0),
                last_activity: past(1),
                is_last_activity_unreadable: false,
                estimated_completion: match completion {
                    Patch::Set(millis) => Patch::Set(Time::from_millis(now().as_millis() + millis)),
                    Patch::Clear => Patch::Clear,
                    Patch::Keep => Patch::Keep,
                },
                model: texts[1].clone().map(Into::into),
                tokens: [count(1), count(2), count(3), count(4), count(5)],
                cost_usd: cost.map(|cost| f64::from(cost) / 1024.0),
                requests: count(6),
                request_errors: count(7),
                rate_limit_hits: count(8),
                retries: count(9),
                reviews_passed: count(10),
                reviews_failed: count(11),
                rate_limits: limits.map(|limits| limits.into_iter().map(|(provider, kind, left, reset)| RateLimitUpdate {
                    provider: provider.into(),
                    limit_type: ["requests", "tokens", "input_tokens", "output_tokens"][kind].into(),
                    limit: left.map(u64::from),
                    remaining: left.map(u64::from),
                    reset_at: reset.map(Time::from_millis),
                }).collect()),
            }
        }
    }

    fn owned(patch: Patch<String>) -> Patch<std::borrow::Cow<'static, str>> {
        match patch {
            Patch::Set(text) => Patch::Set(text.into()),
            Patch::Clear => Patch::Clear,
            Patch::Keep => Patch::Keep,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_encoded_batch_decodes_into_the_same(
            project in text(), complete in any::<bool>(), ttl in proptest::option::of(1..2_000_000_000_u64),
            ordinal in proptest::option::of((text(), 0..1_u64 << 50)),
            agents in proptest::collection::vec(agents(), 0..3),
            components in proptest::collection::vec((text(), 0..4_usize, proptest::option::of(text()), 0..3_u8, 0..2_u8), 0..3),
        ) {
            let agents = agents.into_iter().enumerate().map(|(index, agent)| AgentUpdate { index, ..agent }).collect();
            let components = components.into_iter().enumerate().map(|(index, (name, status, details, metrics, custom))| ComponentUpdate {
                name: name.into(),
                index,
                status: ComponentStatus::ALL[status],
                details: details.map(Into::into),
                metrics: (0..metrics).map(|it| (format!("m{it}").into(), f64::from(it) / 3.0)).collect(),
                custom: (0..custom).map(|it| CustomUpdate {
                    index: 0,
                    name: format!("c{it}").into(),
                    kind: CustomKind::Counter,
                    labels: [("pool".into(), "a".into())].into(),
                    value: 1.5,
                    project: None,
                    agent: None,
                    component: None,
                    ttl: Some(std::time::Duration::from_secs(90)),
                }).collect(),
            });
            let batch = Batch {
                project: project.into(), complete, ttl: ttl.map(std::time::Duration::from_millis),
                ordinal: ordinal.map(|(run, number)| Ordinal { run: run.into(), number }), agents,
                components: components.collect(), rejected: vec![],
            };
            let body = encode_state(&batch);
            let read = decode_state(&body, now()).map_err(|error| TestCaseError::fail(format!("{error}: {body}")))?;
            prop_assert_eq!(format!("{read:?}"), format!("{batch:?}"), "{}", body);
        }
    }
}
