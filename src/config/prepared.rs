//! A configuration with all files that it names loaded, so that what `check` accepts can be started and reloaded.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use serde_json::Value;

use super::{Config, ConfigError};
use crate::http_client;
use crate::model::Problem;
use crate::notify::Receiver;
use crate::otlp::config::{DEFAULT_GRPC, DEFAULT_HTTP};
use crate::rules::compile::RuleSet;
use crate::secret::SecretSource;

/// A configuration with its files loaded.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// The receivers.
    pub receivers: Vec<Receiver>,
    /// The rules, including the built-in ones.
    pub rules: RuleSet,
    /// The certificate of the listeners with its key.
    pub certificate: Option<Arc<CertifiedKey>>,
}

impl Config {
    /// Loads every file that the configuration names and checks what a start needs. The error contains all problems. Blocks on
    /// disk I/O.
    pub fn prepare(self) -> Result<Prepared, ConfigError> {
        let mut problems = Vec::new();
        let receivers = Receiver::build(&self.receivers).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            Vec::new()
        });
        let certificate = self.tls.load().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        files(&serde_json::to_value(&self).unwrap_or_default(), String::new(), &mut problems);
        problems.extend(self.export.file_problems());
        problems.extend(self.registry.file_problems());
        listeners(&self, &mut problems);
        for (key, path) in [("store.path", &self.store.path), ("record.path", &self.record.path)] {
            if let Some(Err(message)) = path.as_deref().map(writable) {
                problems.push(Problem::new(key, message));
            }
        }
        let rules = self.rule_set().map_err(|error| problems.extend(error.problems));
        match rules {
            Ok(rules) if problems.is_empty() => {
                Ok(Prepared { config: self, receivers, rules, certificate: certificate.map(Arc::new) })
            }
            _ => Err(ConfigError { problems }),
        }
    }
}

/// Reads the files of all keys below `value` whose names end in `_file`.
fn files(value: &Value, key: String, problems: &mut Vec<Problem>) {
    let inner = |name: &dyn std::fmt::Display| match key.as_str() {
        "" => name.to_string(),
        key => format!("{key}.{name}"),
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| files(value, inner(name), problems)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| files(value, format!("{key}[{at}]"), problems))
        }
        Value::String(path) => {
            let path = PathBuf::from(path);
            let wrong = match key.rsplit('.').next().unwrap_or_default() {
                // Those of receivers and listeners are read elsewhere.
                "cert_file" | "key_file" => None,
                "ca_file" if !["sources", "flows", "export"].iter().any(|section| key.starts_with(section)) => None,
                "ca_file" => http_client::certificates(&path).err().map(|error| error.to_string()),
                name if name.ends_with("_file") => {
                    SecretSource::File(path).read_blocking().err().map(|error| error.in_full())
                }
                _ => None,
            };
            if let Some(message) = wrong {
                problems.push(Problem::new(key, message));
            }
        }
        _ => {}
    }
}

/// Checks that each listener can bind its address. An address in use is ignored: it may be our own, and a start reports it.
fn listeners(config: &Config, problems: &mut Vec<Problem>) {
    let mut listeners = vec![("listen", config.listen.0)];
    // A default address that is in use is skipped with a warning at startup.
    listeners.extend(config.otlp.http.filter(|at| *at != DEFAULT_HTTP).map(|at| ("otlp.http", at)));
    listeners.extend(config.otlp.grpc.filter(|at| *at != DEFAULT_GRPC).map(|at| ("otlp.grpc", at)));
    for (place, (key, address)) in listeners.iter().enumerate() {
        if let Some((other, _)) = listeners.iter().take(place).find(|(_, other)| overlap(*address, *other)) {
            let message = format!("duplicate address {address}: `{other}` has it too; use different ports");
            problems.push(Problem::new(*key, message));
        }
        if let Err(error) = TcpListener::bind(address)
            && error.kind() != std::io::ErrorKind::AddrInUse
        {
            let message =
                format!("cannot listen on {address}: {error}; use an address of this machine and a permitted port");
            problems.push(Problem::new(*key, message));
        }
    }
}

/// Whether two addresses conflict.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_wild = |it: SocketAddr| it.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || is_wild(one) || is_wild(other))
}

/// Checks that a file exists at `path` or can be created there.
fn writable(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    if !folder.is_dir() {
        return Err(format!("{shown}: directory does not exist; create it, or use a file in an existing directory"));
    }
    if path.is_dir() {
        return Err(format!("{shown} is a directory; use a file in it"));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    // An existing file may be read-only; see the store.
    if !path.exists() && rustix::fs::access(folder, access).is_err() {
        return Err(format!("{shown}: directory is not writable; make it writable for the user that runs lookout"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Environment};

    fn problems(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        write("empty", "");
        write("text", "no certificate");
        let text = text.replace("DIR", &dir.path().display().to_string());
        write("lookout.yaml", &format!("listen: 127.0.0.1:0\notlp: {{http: null, grpc: null}}\n{text}"));
        let source = ConfigSource { file: Some(dir.path().join("lookout.yaml")), env: Environment::default() };
        let prepared = source.load().and_then(Config::prepare);
        prepared.err().map_or_else(Vec::new, |error| error.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn problems_of_a_start_are_found_beforehand() {
        for (text, problem) in [
            ("store: {path: DIR/lookout.db}", ""),
            ("store: {path: null}", ""),
            ("store: {path: DIR/none/lookout.db}", "store.path: DIR/none/lookout.db: directory does not exist"),
            ("store: {path: DIR}", "store.path: DIR is a directory"),
            ("record: {path: DIR/none/r}", "record.path: DIR/none/r: directory does not exist"),
            (
                "auth: {tokens: [{name: a, role: admin, token_file: DIR/none}]}",
                "auth.tokens[0].token_file: read secret file DIR/none: No such file",
            ),
            (
                "auth: {tokens: [{name: a, role: admin, token_file: DIR/empty}]}",
                "auth.tokens[0].token_file: read secret file DIR/empty: the file is empty",
            ),
            (
                "heartbeat: {url_file: DIR}",
                "heartbeat.url_file: read secret file DIR: not a regular file but a directory",
            ),
            (
                "receivers: [{name: a, slack: {webhook_url_file: DIR/none}}]",
                "receivers[0].slack.webhook_url_file: read secret file",
            ),
            (
                "sources: [{name: a, kind: orchestrator-cc, url: 'http://h', bearer_token_file: DIR/none}]",
                "sources[0].bearer_token_file: ",
            ),
            (
                "sources: [{name: a, kind: orchestrator-cc, url: 'http://h', ca_file: DIR/text}]",
                "sources[0].ca_file: read CA file DIR/text: no PEM certificate",
            ),
            ("tls: {cert_file: DIR/none, key_file: DIR/none}", "tls.cert_file: read DIR/none: No such file"),
            ("tls: {cert_file: DIR/text, key_file: DIR/text}", "tls.cert_file: no certificate in DIR/text"),
        ] {
            let text = if text.contains("store") { text.to_owned() } else { format!("store: {{path: null}}\n{text}") };
            let found = problems(&text);
            let parts: Vec<&str> = problem.split("DIR").collect();
            let is_named = |line: &String| parts.iter().all(|part| line.contains(part));
            assert!(found.len() == usize::from(!problem.is_empty()) && found.iter().all(is_named), "{text}: {found:?}");
        }
    }

    #[test]
    fn listener_addresses_are_unique_and_local() {
        for (config, problem) in [
            ("listen: 127.0.0.1:39797\notlp: {http: 127.0.0.1:39798, grpc: null}", ""),
            (
                "listen: 127.0.0.1:39797\notlp: {http: 127.0.0.1:39797, grpc: null}",
                "otlp.http: duplicate address 127.0.0.1:39797: `listen`",
            ),
            (
                "listen: 127.0.0.1:39797\notlp: {http: null, grpc: 0.0.0.0:39797}",
                "otlp.grpc: duplicate address 0.0.0.0:39797: `listen`",
            ),
            ("listen: 192.0.2.1:39797\notlp: {http: null, grpc: null}", "listen: cannot listen on 192.0.2.1:39797"),
        ] {
            let config: Config = {
                let dir = tempfile::tempdir().expect("a folder");
                let path = dir.path().join("lookout.yaml");
                std::fs::write(&path, config).expect("a file");
                ConfigSource { file: Some(path), env: Environment::default() }.load().expect("it can be read")
            };
            let mut found = Vec::new();
            listeners(&config, &mut found);
            assert!(found.len() == usize::from(!problem.is_empty()), "{found:?}");
            assert!(found.iter().all(|line| line.to_string().starts_with(problem)), "{found:?}");
        }
    }
}
