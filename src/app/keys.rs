//! When a changed key of the configuration takes effect: on a reload or after a restart.

use serde_json::Value;

use crate::config::Config;

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadEffect {
    /// On a reload.
    Reload,
    /// After a restart.
    Restart,
    /// In commands that load the configuration themselves.
    Command,
}

/// All keys, or their section if all its keys are alike.
const KEYS: [(&str, ReloadEffect); 49] = [
    ("environment", ReloadEffect::Reload),
    ("listen", ReloadEffect::Restart),
    ("allowed_hosts", ReloadEffect::Reload),
    ("auth", ReloadEffect::Reload),
    ("tls.cert_file", ReloadEffect::Reload),
    ("tls.key_file", ReloadEffect::Reload),
    ("limits.body", ReloadEffect::Restart),
    ("limits.connections", ReloadEffect::Restart),
    ("limits.streams", ReloadEffect::Restart),
    ("limits.series", ReloadEffect::Reload),
    ("limits.header_timeout", ReloadEffect::Restart),
    ("limits.body_timeout", ReloadEffect::Restart),
    ("log.format", ReloadEffect::Restart),
    ("log.level", ReloadEffect::Reload),
    ("store.path", ReloadEffect::Restart),
    ("store.retention", ReloadEffect::Reload),
    ("store.max_size", ReloadEffect::Reload),
    ("runs.retention", ReloadEffect::Reload),
    ("runs.max_size", ReloadEffect::Reload),
    ("runs.sample", ReloadEffect::Reload),
    ("runs.capture", ReloadEffect::Reload),
    ("runs.timeout", ReloadEffect::Reload),
    ("runs.read_from", ReloadEffect::Restart),
    ("registry", ReloadEffect::Restart),
    ("record.path", ReloadEffect::Restart),
    ("record.max_size", ReloadEffect::Restart),
    ("sources", ReloadEffect::Reload),
    ("flows", ReloadEffect::Reload),
    ("otlp.http", ReloadEffect::Restart),
    ("otlp.grpc", ReloadEffect::Restart),
    ("otlp.max_series", ReloadEffect::Reload),
    ("otlp.max_series_per_metric", ReloadEffect::Reload),
    ("otlp.max_labels", ReloadEffect::Reload),
    ("otlp.max_label_length", ReloadEffect::Reload),
    ("otlp.forget_after", ReloadEffect::Reload),
    ("otlp.drop_attributes", ReloadEffect::Reload),
    ("otlp.agents", ReloadEffect::Reload),
    ("otlp.prices", ReloadEffect::Reload),
    ("export", ReloadEffect::Reload),
    ("pipe", ReloadEffect::Command),
    ("agents", ReloadEffect::Reload),
    ("expected", ReloadEffect::Reload),
    ("budgets", ReloadEffect::Reload),
    ("rules", ReloadEffect::Reload),
    ("incidents", ReloadEffect::Reload),
    ("digest", ReloadEffect::Reload),
    ("heartbeat", ReloadEffect::Reload),
    ("external_url", ReloadEffect::Reload),
    ("receivers", ReloadEffect::Reload),
];

/// The keys that were changed since startup and need a restart.
pub(super) fn restart_needed(started: &Config, now: &Config) -> Vec<&'static str> {
    let mut keys = changed(&tree(started), &tree(now));
    // A new certificate takes effect on a reload; switching TLS on or off needs a restart.
    if started.tls.cert_file.is_some() != now.tls.cert_file.is_some() {
        keys.push("tls");
    }
    keys
}

fn changed(before: &Value, after: &Value) -> Vec<&'static str> {
    let is_named =
        |(key, effect): &(&str, ReloadEffect)| *effect == ReloadEffect::Restart && at(before, key) != at(after, key);
    KEYS.into_iter().filter(is_named).map(|(key, _)| key).collect()
}

fn tree(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// The value at a dotted key.
fn at<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_listed() {
        let tree = tree(&Config::default());
        for (section, value) in tree.as_object().expect("sections") {
            if KEYS.iter().any(|(key, _)| key == section) {
                continue;
            }
            for name in value.as_object().expect("a section that is listed key by key").keys() {
                let key = format!("{section}.{name}");
                assert!(KEYS.iter().any(|(known, _)| *known == key), "add {key} to KEYS");
            }
        }
        for (key, _) in KEYS {
            assert!(at(&tree, key).is_some(), "{key} is not a key any more");
        }
    }

    #[test]
    fn a_changed_key_that_needs_a_restart_is_reported() {
        let started = tree(&Config::default());
        assert_eq!(changed(&started, &started), [""; 0]);
        for (key, effect) in KEYS {
            let mut now = started.clone();
            let value = key.split('.').try_fold(&mut now, |value, name| value.get_mut(name));
            *value.expect("a key") = Value::from("changed");
            let expected = if effect == ReloadEffect::Restart { vec![key] } else { Vec::new() };
            assert_eq!(changed(&started, &now), expected);
        }
    }

    #[test]
    fn switching_tls_on_or_off_needs_a_restart() {
        let plain = Config::default();
        let mut encrypted = Config::default();
        encrypted.tls.cert_file = Some("a.pem".into());
        encrypted.tls.key_file = Some("a.key".into());
        assert_eq!(restart_needed(&plain, &encrypted), ["tls"]);
        assert_eq!(restart_needed(&encrypted, &plain), ["tls"]);
        let mut other = encrypted.clone();
        other.tls.cert_file = Some("b.pem".into());
        assert_eq!(restart_needed(&encrypted, &other), [""; 0], "a new certificate takes effect on a reload");
    }
}
