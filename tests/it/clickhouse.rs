//! Spans in ClickHouse, in the collector's schema: with the platform's own queries, older tables, and a server that is away.

use serde_json::{Value, json};

use crate::counterparts::Need;
use crate::doubles::clickhouse::{ClickHouseServer, PASSWORD};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::ChDb];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("clickhouse: a run and its calls are found by the platform's queries", NEEDS, rows),
        trial("clickhouse: what it missed while it was away arrives, and counts once", NEEDS, outage),
        trial("clickhouse: tables of older exporters are used as they are", NEEDS, older_tables),
        trial("clickhouse: it is tried with its table, which stays as it is", NEEDS, tried),
        trial("clickhouse: lists, runs and statistics read from it are those of the store", NEEDS, read_from),
    ]
}

/// Spans of one agent in a trace: a run with so many calls.
pub(crate) fn export(trace: &str, agent: &str, calls: u64) -> Value {
    let base = lookout::clock::Clock::system().wall().as_millis() as u64 * 1_000_000;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let number = |key: &str, value: u64| json!({"key": key, "value": {"intValue": value.to_string()}});
    let place = |at: u64| json!({"start": base + at * 1_000_000, "end": base + at * 1_000_000 + 500_000});
    let span = |at: u64, parent: &str, name: &str, attributes: Vec<Value>| {
        json!({"traceId": trace, "spanId": format!("{:016x}", at + 1), "parentSpanId": parent, "name": name, "kind": 3,
            "startTimeUnixNano": place(at)["start"].to_string(), "endTimeUnixNano": place(at)["end"].to_string(),
            "attributes": attributes})
    };
    let mut spans = vec![span(
        0,
        "",
        &format!("invoke_agent {agent}"),
        vec![text("gen_ai.operation.name", "invoke_agent"), text("gen_ai.agent.name", agent)],
    )];
    for at in 1..=calls {
        spans.push(span(
            at,
            "0000000000000001",
            "chat gpt-4o-mini",
            vec![
                text("gen_ai.operation.name", "chat"),
                text("gen_ai.request.model", "gpt-4o-mini"),
                text("gen_ai.provider.name", "openai"),
                text("gen_ai.input.messages", "how many apples"),
                number("gen_ai.usage.input_tokens", 100),
                number("gen_ai.usage.output_tokens", 7),
            ],
        ));
    }
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", "shop")]},
        "scopeSpans": [{"scope": {"name": "shop"}, "spans": spans}],
    }]})
}

fn send(lookout: &Lookout, body: &Value) {
    let answer = lookout.post("/v1/traces", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

const COUNT: &str = "SELECT count(), countDistinct(SpanId) FROM otel.otel_traces";

fn rows() {
    let server = ClickHouseServer::start();
    let setup = Setup::new(&server.export());
    let lookout = setup.start();
    let agent = lookout.post("/agents/register", &json!({"name": "stock", "type": "vanna"})).json();
    let id = agent["id"].as_str().expect("an id").to_owned();
    let started = lookout.post(&format!("/agents/{id}/trace/start"), &json!({"name": "count"})).json();
    let run = started["trace_id"].as_str().expect("an id").to_owned();
    let call = json!({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "litellm"}, "spans": [{
    "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00000000000000a2", "name": "chat gpt-4o-mini",
    "startTimeUnixNano": "1796000000000000000", "endTimeUnixNano": "1796000000500000000",
    "attributes": [
        {"key": "litellm.metadata.agent_id", "value": {"stringValue": id}},
        {"key": "litellm.metadata.parent_trace_id", "value": {"stringValue": run}},
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o-mini"}},
    ]}]}]}]});
    send(&lookout, &call);
    lookout.post(&format!("/agents/{id}/trace/end"), &json!({"trace_id": run, "status": "ok"}));
    let by_agent = format!(
        "SELECT SpanName, StatusCode FROM otel.otel_traces WHERE SpanAttributes['metadata.agent_id'] = '{id}' \
         AND SpanAttributes['metadata.parent_trace_id'] = '{run}' ORDER BY SpanName"
    );
    eventually("both spans by the platform's query", || {
        (server.sql(&by_agent) == "chat gpt-4o-mini\tUnset\ncount\tOk").then_some(())
    });
    send(&lookout, &export("4bf92f3577b34da6a3ce929d0e0e4736", "clerk", 3));
    let own = "SELECT SpanKind, ServiceName, ScopeName, Duration, SpanAttributes['gen_ai.usage.input_tokens'], \
               SpanAttributes['metadata.agent_id'] != '' FROM otel.otel_traces WHERE SpanName LIKE 'chat %' \
               AND TraceId = '4bf92f3577b34da6a3ce929d0e0e4736' LIMIT 1";
    eventually("spans of telemetry", || (server.sql(own) == "Client\tshop\tshop\t500000\t100\t1").then_some(()));
    // The view of the collector's schema works as well.
    let times =
        "SELECT count() > 0 FROM otel.otel_traces_trace_id_ts WHERE TraceId = '4bf92f3577b34da6a3ce929d0e0e4736'";
    assert_eq!(server.sql(times), "1");
    assert_eq!(server.sql("SELECT count() FROM otel.otel_traces WHERE toString(SpanAttributes) LIKE '%apples%'"), "0");
    assert!(!lookout.log().contains(PASSWORD));
}

fn outage() {
    let mut server = ClickHouseServer::start();
    let setup = Setup::new(&server.export());
    let lookout = setup.start();
    send(&lookout, &export("4bf92f3577b34da6a3ce929d0e0e4701", "clerk", 2));
    eventually("the first run", || (server.sql(COUNT) == "3\t3").then_some(()));
    server.pause();
    for number in 2..=5 {
        send(&lookout, &export(&format!("4bf92f3577b34da6a3ce929d0e0e47{number:02}"), "clerk", 2));
    }
    lookout.wait_for_log(&["ClickHouse at 127.0.0.1 can't be reached"]);
    // What waits outlives a kill.
    lookout.kill9();
    let lookout = setup.start();
    server.resume();
    let spans = "SELECT countDistinct(TraceId, SpanId), countDistinct(TraceId) FROM otel.otel_traces";
    eventually("all of them", || (server.sql(spans) == "15\t5").then_some(()));
    assert!(!lookout.log().contains(PASSWORD));
    // Another password is refused, with the remedy, and the batch waits.
    lookout.kill9();
    let wrong = Setup::new(&server.export().replace(PASSWORD, "wrong"));
    let lookout = wrong.start();
    send(&lookout, &export("4bf92f3577b34da6a3ce929d0e0e4706", "clerk", 2));
    lookout.wait_for_log(&["error 516", "check url, user, password"]);
}

fn older_tables() {
    let server = ClickHouseServer::start();
    server.sql("CREATE DATABASE otel");
    server.sql(
        "CREATE TABLE otel.otel_traces (Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String,
         TraceState String, SpanName LowCardinality(String), SpanKind LowCardinality(String),
         ServiceName LowCardinality(String), ResourceAttributes Map(LowCardinality(String), String),
         SpanAttributes Map(LowCardinality(String), String), Duration Int64, StatusCode LowCardinality(String),
         StatusMessage String, Events Nested(Timestamp DateTime64(9), Name LowCardinality(String),
         Attributes Map(LowCardinality(String), String)), Links Nested(TraceId String, SpanId String, TraceState String,
         Attributes Map(LowCardinality(String), String)), Team String DEFAULT 'shop') ENGINE = MergeTree ORDER BY Timestamp",
    );
    let setup = Setup::new(&server.export());
    let lookout = setup.start();
    send(&lookout, &export("4bf92f3577b34da6a3ce929d0e0e4701", "clerk", 1));
    let words = "SELECT SpanKind, StatusCode, Team FROM otel.otel_traces LIMIT 1";
    eventually("rows in its words", || {
        (server.sql(words) == "SPAN_KIND_CLIENT\tSTATUS_CODE_UNSET\tshop").then_some(())
    });
    server.sql("CREATE TABLE otel.json_traces (Timestamp DateTime64(9), SpanAttributes JSON) ENGINE = MergeTree ORDER BY Timestamp");
    let refused = Setup::new(&server.export().replace("database: otel", "database: otel, table: json_traces"));
    let lookout = refused.start();
    send(&lookout, &export("4bf92f3577b34da6a3ce929d0e0e4701", "clerk", 1));
    lookout.wait_for_log(&["columns of the type JSON", "name another table in export.clickhouse.table"]);
}

fn read_from() {
    let mut server = ClickHouseServer::start();
    let writer_setup = Setup::new(&server.export());
    let writer = writer_setup.start();
    for number in 1..=7 {
        let agent = if number % 2 == 0 { "clerk" } else { "writer" };
        let mut sent = export(&format!("4bf92f3577b34da6a3ce929d0e0e47{number:02}"), agent, number);
        let root = &mut sent["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let attributes = root["attributes"].as_array_mut().expect("attributes");
        attributes.push(json!({"key": "platform", "value": {"stringValue": "slack"}}));
        attributes.push(json!({"key": "metadata.thread_length", "value": {"intValue": number}}));
        send(&writer, &sent);
    }
    let agent = writer.post("/agents/register", &json!({"name": "stock", "type": "custom"})).json();
    let id = agent["id"].as_str().expect("an id").to_owned();
    let started = writer.post(&format!("/agents/{id}/trace/start"), &json!({"name": "count", "platform": "slack"}));
    let run = started.json()["run_id"].as_str().expect("an id").to_owned();
    let mut call = export("0af7651916cd43dd8448eb211c80319c", "x", 1);
    let spans = call["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
    spans.remove(0);
    spans[0]["parentSpanId"] = json!("");
    let attributes = spans[0]["attributes"].as_array_mut().expect("attributes");
    attributes.push(json!({"key": "litellm.metadata.parent_trace_id", "value": {"stringValue": run}}));
    send(&writer, &call);
    let facts = json!({"thread_length": 9, "answered": true});
    let end = json!({"trace_id": run, "status": "error", "error": "no rows", "metadata": facts});
    assert_eq!(writer.post(&format!("/agents/{id}/trace/end"), &end).status, 200);
    eventually("all spans", || (server.sql(COUNT).starts_with("37\t")).then_some(()));
    // A batch that was sent again is in the table twice.
    server.sql("INSERT INTO otel.otel_traces SELECT * FROM otel.otel_traces");

    let reader_setup = Setup::new(&format!("{}\nruns: {{read_from: clickhouse}}", server.export()));
    let reader = reader_setup.start();
    // The type of an agent is in the registry alone.
    reader.post("/agents/register", &json!({"name": "stock", "type": "custom"}));
    let get = |lookout: &Lookout, path: &str| {
        let answer = lookout.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    for query in [
        "?limit=100",
        "?agent=clerk",
        "?agent=default/writer&model=gpt-4o-mini",
        "?status=error",
        "?platform=slack",
        "?provider=openai&limit=100",
        "?q=COUNT",
        "?agent=no-such-agent",
        "?since=1h&limit=100",
        "?until=1h",
        "?min_duration=3ms",
    ] {
        let [stored, read] = [&writer, &reader].map(|lookout| get(lookout, &format!("/api/traces{query}")));
        assert_eq!(read["runs"], stored["runs"], "{query}");
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&reader, &format!("/api/traces?limit=3{cursor}"));
        let ids = page["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].clone());
        seen.extend(ids);
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let all = get(&writer, "/api/traces?limit=100");
    let all: Vec<Value> = all["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].clone()).collect();
    assert_eq!((seen.len(), &seen), (8, &all), "pages have each run once");

    for id in [&*run, "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4703"] {
        let [stored, read] = [&writer, &reader].map(|lookout| get(lookout, &format!("/api/traces/{id}")));
        let names = |shown: &Value| {
            let root = &shown["tree"][0];
            let below = root["children"].as_array().expect("children").iter();
            (root["name"].clone(), root["total_tokens"].clone(), below.map(|it| it["name"].clone()).collect::<Vec<_>>())
        };
        assert_eq!((&read["run_id"], names(&read)), (&stored["run_id"], names(&stored)), "{id}");
        assert_eq!(read["tokens"], stored["tokens"]);
    }
    let unknown = reader.get(&format!("/api/traces/{}", "ab".repeat(16)));
    assert_eq!(unknown.status, 404);
    for query in ["?range=24h&by=total", "?agents=clerk,stock&range=24h&by=model", "?range=24h", "?by=platform"] {
        let [stored, read] = [&writer, &reader].map(|lookout| get(lookout, &format!("/api/agents/stats{query}")));
        assert_eq!(read["agents"], stored["agents"], "{query}");
    }
    let reported = get(&reader, "/api/agents/stats?agents=stock,writer&range=24h&by=platform");
    let of = |place: usize| &reported["agents"][place]["points"][0]["reported"]["thread_length"];
    assert_eq!((&of(0)["sum"], &of(1)["sum"]), (&json!(9.0), &json!(16.0)), "{reported}");
    server.pause();
    let away = reader.get("/api/traces");
    assert_eq!(away.status, 503);
    assert!(away.text().contains("ClickHouse at 127.0.0.1 can't be reached"), "{}", away.text());
    assert_eq!(reader.get("/-/ready").status, 200);
}

fn tried() {
    let server = ClickHouseServer::start();
    let check = |export: &str, part: &str| {
        let setup = Setup::new(export);
        let output = setup.command(&["test", "export", "--config", "lookout.yaml"]).output().expect("runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(part) && !text.contains(PASSWORD), "{part} in {text}");
        output.status.success()
    };
    assert!(check(&server.export(), "takes traces once it is created: the table `otel`.`otel_traces` is missing"));
    assert_eq!(server.sql("SELECT count() FROM system.databases WHERE name = 'otel'"), "0", "nothing was created");
    let fixed = server.export().replace("database: otel", "database: otel, create_tables: false");
    assert!(!check(&fixed, "check database and table, or set create_tables"));
    assert!(!check(&server.export().replace(PASSWORD, "wrong"), "check url, user, password and the user's grants"));
    server.sql("CREATE DATABASE otel");
    server.sql(
        "CREATE TABLE otel.otel_traces (Timestamp DateTime64(9), TraceId String, SpanId String, SpanName String,
         SpanAttributes Map(LowCardinality(String), String)) ENGINE = MergeTree ORDER BY Timestamp",
    );
    assert!(check(&server.export(), "takes traces into `otel`.`otel_traces`, without ParentSpanId, TraceState"));
    assert_eq!(server.sql(COUNT), "0\t0");
    server.sql("ALTER TABLE otel.otel_traces DROP COLUMN SpanName");
    assert!(!check(&server.export(), "has no column SpanName; name another one in export.clickhouse.table"));
}
