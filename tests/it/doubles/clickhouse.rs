//! ClickHouse's engine behind its HTTP interface, in a folder, on a port that stays the same across restarts.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::agents::free;
use crate::counterparts::python;
use crate::http;
use crate::program::within;

/// The password of the user, which must not appear anywhere.
pub(crate) const PASSWORD: &str = "S3CRET-of-clickhouse";

/// A server. Dropping it stops it.
pub(crate) struct ClickHouseServer {
    dir: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl ClickHouseServer {
    pub(crate) fn start() -> Self {
        let mut server = Self { dir: tempfile::tempdir().expect("a folder"), address: free(), child: None };
        server.resume();
        server
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/doubles/chdb_http.py");
        let mut command = Command::new(python().join("python3"));
        command.args([script, &self.address.port().to_string()]).arg(self.dir.path().join("data"));
        command.env("PASSWORD", PASSWORD).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("chdb"));
        within(Duration::from_secs(120), "chdb", || http::request(self.address, "GET", "/ping", &[], b"").ok());
    }

    /// Stops it; what was inserted stays.
    pub(crate) fn pause(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Killed, it would leave a lock of its folder.
            drop(Command::new("sh").args(["-c", &format!("kill -s TERM {}", child.id())]).status());
            child.wait().expect("its end");
        }
    }

    /// The section `export` for it.
    pub(crate) fn export(&self) -> String {
        format!("export: {{clickhouse: {{url: \"http://{}\", database: otel, password: {PASSWORD}}}}}", self.address)
    }

    /// The rows of a statement, with tabs.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let headers = [("x-clickhouse-key", PASSWORD)];
        let answer = http::request(self.address, "POST", "/", &headers, statement.as_bytes()).expect("an answer");
        answer.text().trim_end().to_owned()
    }
}

impl Drop for ClickHouseServer {
    fn drop(&mut self) {
        self.pause();
    }
}
