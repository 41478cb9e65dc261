//! The registry in a real MariaDB, shared with other sidecars and with programs that write to the table themselves.

use serde_json::{Value, json};

use crate::counterparts::Need;
use crate::doubles::mariadb::{MariaDb, PASSWORD, PLATFORM};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::MariaDb];
const WITH_TLS: &[Need] = &[Need::MariaDb, Need::Openssl];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("registry: two sidecars and a foreign writer share one in MariaDB", NEEDS, shared),
        trial("registry: MariaDB that is away is reconciled when it is back", NEEDS, outage),
        trial("registry: a row that MariaDB does not take costs that agent alone", NEEDS, odd_rows),
        trial("registry: MariaDB is tried with its table and its grants", NEEDS, tried),
        trial("registry: a connection over TLS is verified", WITH_TLS, over_tls),
    ]
}

fn config(database: &MariaDb) -> String {
    format!("registry: {{mysql: {{url: \"{}\", interval: 1s}}}}", database.url())
}

fn register(lookout: &Lookout, body: &Value) -> Value {
    let answer = lookout.post("/agents/register", body);
    assert!(answer.status == 200 || answer.status == 201, "{}", answer.text());
    answer.json()
}

fn agent(lookout: &Lookout, id: &str) -> Option<Value> {
    let answer = lookout.get(&format!("/agents/{id}"));
    (answer.status == 200).then(|| answer.json())
}

fn metric(lookout: &Lookout, series: &str) -> Option<f64> {
    let page = lookout.get("/metrics");
    let line = page.text().lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn is_up(lookout: &Lookout, expected: f64) {
    let series = "lookout_registry_up{database=\"mysql\"} ";
    eventually("the state of the database", || (metric(lookout, series) == Some(expected)).then_some(()));
}

fn shared() {
    let database = MariaDb::start();
    database.sql(PLATFORM);
    database.sql(
        "INSERT INTO agents(id, name, type, config, last_used_at) VALUES
         ('of-the-platform', 'vanna-main', 'vanna', '{\"db\": \"stock\"}', NULL), ('no-name', '', 'custom', NULL, NULL)",
    );
    let setups = [Setup::new(&config(&database)), Setup::new(&config(&database))];
    let [first, second] = setups.each_ref().map(Setup::start);
    // What the platform registered is known by its id, to both.
    for lookout in [&first, &second] {
        let known = eventually("the platform's agent", || agent(lookout, "of-the-platform"));
        assert_eq!(
            (&known["name"], &known["type"], &known["config"]),
            (&json!("vanna-main"), &json!("vanna"), &json!({"db": "stock"}))
        );
        assert_eq!((&known["project"], &known["shared"]), (&json!("default"), &json!(true)));
        lookout.wait_for_log(&["rows of the shared registry have no valid id, name or project"]);
    }
    // Registering it again keeps the id; the field that is given is written.
    let again = register(&first, &json!({"name": "vanna-main", "type": "vanna", "external_id": "v-7"}));
    assert_eq!((&again["id"], &again["created"]), (&json!("of-the-platform"), &json!(false)));
    let external = "SELECT external_id FROM agents WHERE id = 'of-the-platform'";
    eventually("the field in the database", || (database.sql(external) == "v-7").then_some(()));
    assert_eq!(database.sql("SELECT config FROM agents WHERE id = 'of-the-platform'"), r#"{"db": "stock"}"#);

    // A type that the column has no word for is `custom` there.
    let coder =
        register(&first, &json!({"name": "coder", "type": "claude-code", "project_id": "shop", "config": {"a": 1}}));
    let id = coder["id"].as_str().expect("an id").to_owned();
    let row = format!(
        "SELECT type, json_value(config, '$.agent_type'), json_value(config, '$.a') FROM agents WHERE id = '{id}'"
    );
    eventually("the new agent", || (database.sql(&row) == "custom\tclaude-code\t1").then_some(()));
    let seen = eventually("the agent at the other sidecar", || agent(&second, &id));
    assert_eq!((&seen["type"], &seen["config"]), (&json!("claude-code"), &json!({"a": 1})));

    // Seen at work: the last use is in the database.
    let state = json!({"project": "shop", "agents": [{"name": "coder", "status": "running"}]});
    assert_eq!(first.post("/api/state", &state).status, 200);
    eventually("the last use", || {
        (database.sql(&format!("SELECT last_used_at IS NOT NULL FROM agents WHERE id = '{id}'")) == "1").then_some(())
    });

    // Others change and delete rows.
    database.sql("UPDATE agents SET monitoring_enabled = FALSE WHERE id = 'of-the-platform'");
    database.sql(&format!("DELETE FROM agents WHERE id = '{id}'"));
    for lookout in [&first, &second] {
        eventually("monitoring that another program disabled", || {
            (agent(lookout, "of-the-platform")?["monitoring_enabled"] == json!(false)).then_some(())
        });
        eventually("the silence", || lookout.get("/api/silences").text().contains("vanna-main").then_some(()));
        eventually("a deleted agent", || (agent(lookout, &id)?["status"] == json!("inactive")).then_some(()));
    }
    // It is added again, by its id, only when it registers again.
    assert_eq!(database.sql("SELECT count(*) FROM agents WHERE name = 'coder'"), "0");
    register(&second, &json!({"name": "coder", "type": "claude-code", "project_id": "shop"}));
    let ids = "SELECT id FROM agents WHERE name = 'coder'";
    eventually("the agent again", || (database.sql(ids) == id).then_some(()));
    for lookout in [&first, &second] {
        let page = lookout.get("/metrics");
        assert!(!page.text().contains(PASSWORD) && !lookout.log().contains(PASSWORD));
    }
}

fn outage() {
    let mut database = MariaDb::start();
    let setup = Setup::new(&config(&database));
    database.pause();
    let lookout = setup.start();
    let log = lookout.wait_for_log(&["the shared registry can't be used"]);
    assert!(!log.contains(PASSWORD), "{log}");
    is_up(&lookout, 0.0);
    let local = register(&lookout, &json!({"name": "clerk", "type": "vanna", "config": {"db": "mine"}}));
    assert_eq!((&local["created"], &local["shared"]), (&json!(true), &json!(false)));
    let id = local["id"].as_str().expect("an id").to_owned();
    register(&lookout, &json!({"name": "writer"}));
    let started = lookout.post(&format!("/agents/{id}/trace/start"), &json!({}));
    assert_eq!(started.status, 200, "the local registry goes on");
    lookout.kill9();
    // Meanwhile the platform has made an agent of that name.
    database.resume();
    database.sql(PLATFORM);
    database.sql("INSERT INTO agents(id, name, type, config, external_id) VALUES('theirs', 'clerk', 'autogen', '{\"db\": \"theirs\"}', 'x-1')");
    let lookout = setup.start();
    is_up(&lookout, 1.0);
    let clerk = eventually("the agent under the platform's id", || agent(&lookout, "theirs"));
    assert_eq!(
        (&clerk["config"], &clerk["external_id"], &clerk["type"]),
        (&json!({"db": "mine"}), &json!("x-1"), &json!("vanna"))
    );
    assert_eq!(agent(&lookout, &id).expect("by its former id")["id"], "theirs");
    let rows = "SELECT name, type, json_value(config, '$.db') FROM agents ORDER BY name";
    eventually("what was registered without the database", || {
        (database.sql(rows) == "clerk\tvanna\tmine\nwriter\tcustom\tNULL").then_some(())
    });
    assert_eq!(metric(&lookout, "lookout_registry_refused "), Some(0.0));

    // Away again: one line in the log, however often it is tried.
    database.pause();
    is_up(&lookout, 0.0);
    register(&lookout, &json!({"name": "late", "type": "flowise"}));
    eventually("failures", || metric(&lookout, "lookout_registry_errors_total ").filter(|count| *count >= 2.0));
    database.resume();
    lookout.wait_for_log(&["the shared registry can be used again"]);
    eventually("the late one", || {
        (database.sql("SELECT type FROM agents WHERE name = 'late'") == "flowise").then_some(())
    });
    // Refused connections may be reported in two ways: the connection that ended, and the one that was not made.
    assert!(lookout.log().matches("the shared registry can't be used").count() <= 2, "{}", lookout.log());
}

fn odd_rows() {
    let database = MariaDb::start();
    database.sql("ALTER DATABASE platform CHARACTER SET latin1");
    database.sql(PLATFORM);
    let setup = Setup::new(&config(&database));
    let lookout = setup.start();
    is_up(&lookout, 1.0);
    register(&lookout, &json!({"name": "first", "type": "vanna"}));
    let emoji = register(&lookout, &json!({"name": "\u{1f680} rocket", "type": "vanna"}));
    register(&lookout, &json!({"name": "Caf\u{e9}", "type": "vanna"}));
    eventually("a name of latin1", || {
        (database.sql("SELECT count(*) FROM agents WHERE type = 'vanna'") == "2").then_some(())
    });
    // The table takes these for the same name.
    let other = register(&lookout, &json!({"name": "FIRST", "type": "vanna"}));
    let long = "x".repeat(256);
    let long = register(&lookout, &json!({"name": long, "type": "vanna"}));
    register(&lookout, &json!({"name": "last", "type": "vanna"}));
    eventually("the last one", || {
        (database.sql("SELECT count(*) FROM agents WHERE name = 'last'") == "1").then_some(())
    });
    for (refused, reason) in [(&emoji, "1366"), (&other, "differs by case or spaces alone"), (&long, "1406")] {
        let id = refused["id"].as_str().expect("an id");
        let error = eventually("the reason", || agent(&lookout, id)?["sharing_error"].as_str().map(ToOwned::to_owned));
        assert!(error.contains(reason), "{error}");
    }
    eventually("the number of refused ones", || {
        (metric(&lookout, "lookout_registry_refused ") == Some(3.0)).then_some(())
    });
    assert_eq!(database.sql("SELECT count(*) FROM agents"), "3");
    // A config that is no object, and a project that is none, are the platform's own business.
    database.sql("INSERT INTO agents(id, name, type, project_id, config, status) VALUES('odd', 'odd', 'custom', NULL, '[1]', NULL)");
    let odd = eventually("an odd row", || agent(&lookout, "odd"));
    assert_eq!((&odd["config"], &odd["project"], &odd["status"]), (&json!(null), &json!("default"), &json!("active")));
}

fn over_tls() {
    let mut database = MariaDb::start();
    let authority = database.with_tls();
    database.sql("ALTER USER 'lookout'@'127.0.0.1' REQUIRE SSL");
    let url = database.url();
    let verified = Setup::new(&format!("registry: {{mysql: {{url_file: url, ca_file: \"{authority}\"}}}}"));
    verified.write("url", &format!("{url}\n"));
    let lookout = verified.start();
    is_up(&lookout, 1.0);
    register(&lookout, &json!({"name": "clerk"}));
    eventually("the agent", || (database.sql("SELECT count(*) FROM agents") == "1").then_some(()));
    let created = database.sql("SHOW CREATE TABLE agents");
    assert!(created.contains("utf8mb4_bin"), "{created}");
    for (tls, reason) in [("verify", "TLS failed"), ("off", "error 1045")] {
        let setup = Setup::new(&format!("registry: {{mysql: {{url: \"{url}\", tls: {tls}}}}}"));
        let refused = setup.start();
        let log = refused.wait_for_log(&["the shared registry can't be used", reason]);
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

fn tried() {
    let database = MariaDb::start();
    let check = |config: &str, part: &str| {
        let setup = Setup::new(config);
        let output = setup.command(&["test", "export", "--config", "lookout.yaml"]).output().expect("runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(part) && !text.contains(PASSWORD), "{part} in {text}");
        output.status.success()
    };
    assert!(check(&config(&database), "the table `agents` is missing and is created at the start"));
    database.sql(PLATFORM);
    database.sql("INSERT INTO agents(id, name, type) VALUES ('a', 'stock', 'vanna')");
    assert!(check(&config(&database), "registry.mysql: can be used; the table `agents` has 1 agents"));
    assert!(!check(&config(&database).replace(PASSWORD, "wrong"), "check user and password in registry.mysql.url"));
    database.sql("ALTER TABLE agents DROP COLUMN last_used_at");
    assert!(check(&config(&database), "it has no last_used_at"));
    database.sql("REVOKE ALL ON platform.* FROM 'lookout'@'127.0.0.1'");
    database.sql("GRANT SELECT ON platform.* TO 'lookout'@'127.0.0.1'");
    assert!(!check(&config(&database), "grant the user SELECT, INSERT, UPDATE and CREATE on the database"));
    // The URL in a file is read before a start.
    let setup = Setup::new("registry: {mysql: {url_file: url}}");
    setup.write("url", "postgres://u:S3CRET@h/d");
    let output = setup.command(&["check", "--config", "lookout.yaml"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("registry.mysql.url_file: its text is not the URL of a database") && !text.contains("S3CRET"),
        "{text}"
    );
}
