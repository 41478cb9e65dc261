//! A MariaDB server of the test's own, in a folder, on a port that stays the same across restarts.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::agents::free;
use crate::counterparts::run;
use crate::program::eventually;

/// The password of the user `lookout`, which must not appear anywhere.
pub(crate) const PASSWORD: &str = "S3CRET-of-the-database";

/// The table as the platform creates it.
pub(crate) const PLATFORM: &str = "CREATE TABLE agents (
    id VARCHAR(36) PRIMARY KEY, name VARCHAR(255) NOT NULL,
    type ENUM('vanna','langflow','flowise','autogen','custom') NOT NULL,
    project_id VARCHAR(255) DEFAULT 'default-project', external_id VARCHAR(255), config JSON,
    monitoring_enabled BOOLEAN DEFAULT TRUE, status ENUM('active','inactive') DEFAULT 'active',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, last_used_at TIMESTAMP,
    UNIQUE KEY by_name (name, project_id), INDEX by_external (external_id))";

/// A server. Dropping it stops it.
pub(crate) struct MariaDb {
    dir: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl MariaDb {
    /// A server with an empty database `platform` in Debian's character set, utf8mb4.
    pub(crate) fn start() -> Self {
        let mut server = Self::stopped();
        server.resume();
        server.sql("CREATE DATABASE platform CHARACTER SET utf8mb4");
        server.sql(&format!("CREATE USER 'lookout'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"));
        server.sql("GRANT ALL ON platform.* TO 'lookout'@'127.0.0.1'");
        server
    }

    fn stopped() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let data = format!("--datadir={}", dir.path().join("data").display());
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
        run(install.args(user()));
        Self { dir, address: free(), child: None }
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", &format!("--datadir={}", path("data"))]).args(user());
        command.arg(format!("--socket={}", path("socket")));
        command.args([&format!("--port={}", self.address.port()), "--bind-address=127.0.0.1", "--skip-log-bin"]);
        if Path::new(&path("server.pem")).exists() {
            command.args([&format!("--ssl-cert={}", path("server.pem")), &format!("--ssl-key={}", path("server.key"))]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("mariadbd"));
        eventually("MariaDB", || TcpStream::connect(self.address).ok());
    }

    /// Stops it; what is committed stays.
    pub(crate) fn pause(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a server to stop");
            child.wait().expect("its end");
        }
    }

    /// Makes it offer TLS with a certificate of an authority, whose file it returns.
    pub(crate) fn with_tls(&mut self) -> String {
        self.pause();
        let shell = |line: &str| run(Command::new("sh").args(["-c", line]).current_dir(self.dir.path()));
        shell(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
             -keyout ca.key -out ca.pem 2>&1 && \
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=database -keyout server.key \
             -out server.csr 2>&1 && \
             printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > server.ext && \
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
             -out server.pem 2>&1",
        );
        self.resume();
        self.dir.path().join("ca.pem").display().to_string()
    }

    /// Its URL for lookout.
    pub(crate) fn url(&self) -> String {
        format!("mysql://lookout:{PASSWORD}@{}/platform", self.address)
    }

    /// What the client prints for a statement: a line for each row, with tabs.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let socket = format!("--socket={}", self.dir.path().join("socket").display());
        let database = if statement.starts_with("CREATE DATABASE") { "mysql" } else { "platform" };
        let database = if statement.contains("USER") || statement.starts_with("GRANT") { "mysql" } else { database };
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", &socket, "-uroot", "--default-character-set=utf8mb4", "-N", "-B", database]);
        run(client.args(["-e", statement])).trim_end().to_owned()
    }
}

/// The server runs as root only if it is asked to.
fn user() -> &'static [&'static str] {
    if is_root() { &["--user=root"] } else { &[] }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.pause();
    }
}
