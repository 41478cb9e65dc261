//! A real mail server, in Python, with a certificate of its own authority for `localhost`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::counterparts;
use crate::program::eventually;
use crate::tidy;

/// The password of the user `lookout`.
pub(crate) const PASSWORD: &str = "päss word";

/// An accepted mail.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Envelope sender.
    pub(crate) from: String,
    /// Envelope recipients.
    pub(crate) to: Vec<String>,
    /// Whether it arrived over TLS.
    pub(crate) tls: bool,
    /// Headers and body as Python's own parser reads them: see [`parse`].
    pub(crate) parsed: Value,
    /// The bytes as received.
    pub(crate) raw: String,
}

impl Mail {
    /// A header, decoded; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.parsed["headers"][name.to_lowercase()].as_str().unwrap_or_default()
    }

    /// The decoded part of this media type.
    pub(crate) fn part(&self, kind: &str) -> &str {
        self.parsed["parts"][kind].as_str().unwrap_or_default()
    }
}

/// The server; dropping it ends it.
pub(crate) struct Smtp {
    dir: TempDir,
    server: Child,
    /// Its port on `localhost`.
    pub(crate) port: u16,
}

impl Smtp {
    /// A server with these options of `smtpd.py`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder for mail");
        certify(dir.path());
        let script = tidy::root().join("tests/it/doubles/smtpd.py");
        let file = |name: &str| dir.path().join(name);
        std::fs::create_dir(file("mail")).expect("a folder");
        let mut server = Command::new("python3")
            .arg(script)
            .args([file("mail"), file("cert.pem"), file("key.pem")])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It logs clients that disconnect, which some tests do.
            .stderr(std::fs::File::create(file("log")).expect("a file"))
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        let port = line.trim().parse().unwrap_or_else(|_| {
            let log = std::fs::read_to_string(file("log")).unwrap_or_default();
            panic!("the mail server did not start: {log}")
        });
        Self { dir, server, port }
    }

    /// The file of its CA certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The mails accepted so far, in order.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("mail"))
            .expect("its folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    /// Waits until it accepted `count` mails, and returns all.
    pub(crate) fn wait(&self, count: usize) -> Vec<Mail> {
        eventually(&format!("{count} mails"), || {
            let entries = std::fs::read_dir(self.dir.path().join("mail")).ok()?;
            let whole = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
            (entries.flatten().filter(|entry| whole(&entry.path())).count() >= count).then_some(())
        });
        self.mails()
    }

    /// The attempted logins: mechanism, whether over TLS, whether accepted.
    pub(crate) fn logins(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("mail/logins")).unwrap_or_default()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn read(path: &Path) -> Mail {
    let mail: Value = serde_json::from_slice(&std::fs::read(path).expect("a mail")).expect("JSON");
    let raw = mail["raw"].as_str().expect("text").to_owned();
    Mail {
        from: mail["from"].as_str().unwrap_or_default().to_owned(),
        to: mail["to"].as_array().expect("a list").iter().filter_map(|to| Some(to.as_str()?.to_owned())).collect(),
        tls: mail["tls"] == Value::Bool(true),
        parsed: parse(path),
        raw,
    }
}

/// Headers by lower-case name and parts by media type, as the standard library of Python decodes them.
fn parse(path: &Path) -> Value {
    const SCRIPT: &str = "
import email, email.policy, json, sys
mail = email.message_from_string(json.load(open(sys.argv[1]))['raw'], policy=email.policy.default)
parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
kind = {'multipart': mail.get_content_type(), 'defects': str([str(defect) for defect in mail.defects])}
print(json.dumps({'headers': {name.lower(): str(value) for name, value in mail.items()}, 'parts': parts | kind}))";
    let text = counterparts::run(Command::new("python3").args(["-c", SCRIPT]).arg(path));
    serde_json::from_str(&text).expect("JSON")
}

/// A CA, and its certificate for `localhost`.
pub(crate) fn certify(dir: &Path) {
    let openssl = |arguments: &[&str]| counterparts::run(Command::new("openssl").args(arguments).current_dir(dir));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&authority[..], &curve].concat());
    openssl(&[&["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.csr"], &curve[..]].concat());
    std::fs::write(dir.join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").expect("a file");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "cert.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "cert.pem",
    ]);
}
