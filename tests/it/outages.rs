//! ClickHouse and MariaDB that come and go: nothing that was answered is lost, and statistics count it once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clickhouse::export;
use crate::counterparts::Need;
use crate::doubles::clickhouse::ClickHouseServer;
use crate::doubles::mariadb::{MariaDb, PLATFORM};
use crate::doubles::slack::Slack;
use crate::doubles::unreliable::{Fault, Unreliable};
use crate::program::{Setup, eventually, within};
use crate::slack::receiver;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    let needs = &[Need::ChDb, Need::MariaDb];
    vec![trial("outages: ClickHouse and MariaDB that come and go have everything, once", needs, come_and_go)]
}

const ROUNDS: usize = 6;

fn come_and_go() {
    let (server, database, slack) = (ClickHouseServer::start(), MariaDb::start(), Slack::start());
    // Through the faults the sidecar may not have created it by the end.
    database.sql(PLATFORM);
    let (spans, agents) = (Unreliable::before(server.address), Unreliable::before(database.address));
    let export_through = |address: &str| server.export().replace(&server.address.to_string(), address);
    let url = database.url().replace(&database.address.to_string(), &agents.address.to_string());
    let rules = std::fs::read_to_string(tidy::root().join("alerts/sidecar.yaml")).expect("built-in rules");
    let (_, rule) = rules.split_once("  - name: ExportLagging").expect("the rule");
    let setup = Setup::new(&format!(
        "{}\nregistry: {{mysql: {{url: \"{url}\", interval: 1s}}}}\nrules: [own.yaml]\nreceivers:\n{}",
        export_through(&spans.address.to_string()),
        receiver("ops", &slack)
    ));
    let own = format!("rules:\n  - name: ExportLagging{}", rule.replace("warning: 5m", "warning: 11s"));
    setup.write("own.yaml", &own);
    let mut lookout = setup.start();
    // With each fault in turn, a run of three spans and an agent; once the program is killed in between.
    for round in 0..ROUNDS {
        let fault = [Fault::None, Fault::Away, Fault::AnswersLost][round % 3];
        spans.set(fault);
        agents.set(fault);
        let trace = format!("4bf92f3577b34da6a3ce929d0e0e48{round:02}");
        let sent = lookout.post("/v1/traces", &export(&trace, "clerk", 2));
        assert_eq!(sent.status, 200, "{}", sent.text());
        let registered =
            lookout.post("/agents/register", &json!({"name": format!("agent-{round:02}"), "type": "vanna"}));
        assert!([200, 201].contains(&registered.status), "{}", registered.text());
        spans.wait_for_attempt();
        if round == ROUNDS / 2 {
            lookout.kill9();
            lookout = setup.start();
        }
    }
    spans.set(Fault::Away);
    slack.wait_for("lagging", |seen| seen.iter().any(|it| it.text().contains("to be exported")));
    spans.set(Fault::None);
    agents.set(Fault::None);
    let distinct = "SELECT countDistinct(TraceId, SpanId), countDistinct(TraceId) FROM otel.otel_traces";
    let all = format!("{}\t{ROUNDS}", 3 * ROUNDS);
    within(Duration::from_secs(60), "all spans", || (server.sql(distinct) == all).then_some(()));
    slack.wait_for("its end", |seen| seen.iter().any(|it| it.text().contains("exports in time again")));
    let rows = "SELECT COUNT(*), COUNT(DISTINCT name) FROM agents WHERE name LIKE 'agent-%'";
    let all = format!("{ROUNDS}\t{ROUNDS}");
    within(Duration::from_secs(60), "all agents", || (database.sql(rows) == all).then_some(()));
    // What came twice, since an answer was lost, counts once.
    let reader = Setup::new(&format!("{}\nruns: {{read_from: clickhouse}}", server.export()));
    let reader = reader.start();
    let stats = |from: &crate::program::Lookout| -> Value {
        let answer = from.get("/api/agents/stats?agents=clerk&range=24h&by=total");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["agents"].clone()
    };
    eventually("the same statistics", || (stats(&reader) == stats(&lookout)).then_some(()));
    assert!(stats(&lookout).to_string().contains(&format!("\"runs\":{ROUNDS}")), "{}", stats(&lookout));
    assert!(lookout.sigterm().success());
}
