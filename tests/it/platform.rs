//! A platform's walk with all of its parts real: it registers an agent, starts a run, calls a model through LiteLLM, ends the
//! run, and finds all of it by its own queries in ClickHouse and in its own table in MariaDB.

use serde_json::json;

use crate::agents::litellm::Proxy;
use crate::agents::{Home, Sidecar};
use crate::counterparts::Need;
use crate::doubles::clickhouse::ClickHouseServer;
use crate::doubles::mariadb::{MariaDb, PLATFORM};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::program::eventually;
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::LiteLlm, Need::ChDb, Need::MariaDb];

pub(crate) fn trials() -> Vec<Case> {
    vec![trial("platform: an agent's run with a call through LiteLLM is in every store", NEEDS, walk)]
}

fn walk() {
    let database = MariaDb::start();
    database.sql(PLATFORM);
    let clickhouse = ClickHouseServer::start();
    let registry = format!("registry: {{mysql: {{url: \"{}\", interval: 1s}}}}", database.url());
    let sidecar = Sidecar::start(&format!("{registry}\n{}", clickhouse.export()));
    let lookout = sidecar.lookout();
    let model = Model::using(ModelBehavior::Answers, Usage { input: 640, output: 24, ..Usage::default() });
    let home = Home::new();
    let printed = sidecar.printed("litellm");
    let proxy = Proxy::start(&home, &model, "litellm_settings: {callbacks: [otel]}\n", &printed, &[]);

    let agent = lookout.post("/agents/register", &json!({"name": "stock", "type": "vanna", "external_id": "v-1"}));
    assert_eq!(agent.status, 201);
    let id = agent.json()["id"].as_str().expect("an id").to_owned();
    let started = lookout.post(&format!("/agents/{id}/trace/start"), &json!({"name": "How many apples?"})).json();
    let run = started["trace_id"].as_str().expect("an id").to_owned();
    assert_eq!(proxy.call(&json!({"metadata": {"agent_id": id, "parent_trace_id": run}})), 200);
    let end = json!({"trace_id": run, "status": "ok"});
    assert_eq!(lookout.post(&format!("/agents/{id}/trace/end"), &end).status, 200);

    let shown = eventually("the call beneath the run", || {
        let shown = lookout.get(&format!("/api/traces/{run}")).json();
        (shown["calls"] == json!(1)).then_some(shown)
    });
    assert_eq!((&shown["status"], &shown["agent_name"]), (&json!("ok"), &json!("stock")));
    assert_eq!((&shown["tokens"]["input"], &shown["tokens"]["output"]), (&json!(640), &json!(24)));
    let cost = shown["cost_usd"].as_f64().expect("a cost");
    assert!((cost - 0.000_88).abs() < 1e-9, "{cost}");
    let root = &shown["tree"][0];
    assert_eq!((&root["name"], &root["kind"]), (&json!("How many apples?"), &json!("agent")));
    assert!(root.to_string().contains("litellm_request"), "{root}");

    // The fleet counts the call for the registered agent, and for no other.
    let counted = "orchestrator_agent_tokens_total{project=\"default\",agent_name=\"stock\",token_type=\"input\"} 640";
    eventually("the tokens of the registered agent", || {
        lookout.get("/metrics").text().lines().any(|line| line == counted).then_some(())
    });
    let page = lookout.get("/metrics").text().to_owned();
    assert!(!page.contains("agent_name=\"litellm\""), "{page}");

    let query = format!(
        "SELECT SpanName FROM otel.otel_traces WHERE SpanAttributes['metadata.agent_id'] = '{id}' \
         AND SpanAttributes['metadata.parent_trace_id'] = '{run}' ORDER BY SpanName"
    );
    eventually("the run and its call by the platform's query", || {
        let found = clickhouse.sql(&query);
        (found.contains("How many apples?") && found.contains("litellm_request")).then_some(())
    });
    let row = format!("SELECT name, type, external_id, last_used_at IS NOT NULL FROM agents WHERE id = '{id}'");
    eventually("the agent with its last use", || (database.sql(&row) == "stock\tvanna\tv-1\t1").then_some(()));
    assert_eq!(database.sql("SELECT count(*) FROM agents WHERE name = 'stock'"), "1");
}
