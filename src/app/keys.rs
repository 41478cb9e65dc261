//! What a reload does with each key of the configuration: most take effect at once, some at the next start.

use serde_json::Value;

use crate::config::Config;

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// At once.
    Reload,
    /// At the next start.
    Restart,
    /// In commands that read the configuration themselves.
    Command,
}

/// Every key, or the section that holds it. A section whose keys differ is listed key by key.
const KEYS: [(&str, Effect); 39] = [
    ("environment", Effect::Reload),
    ("listen", Effect::Restart),
    ("allowed_hosts", Effect::Reload),
    ("auth", Effect::Reload),
    ("tls.cert_file", Effect::Reload),
    ("tls.key_file", Effect::Reload),
    ("limits.body", Effect::Restart),
    ("limits.connections", Effect::Restart),
    ("limits.series", Effect::Reload),
    ("limits.header_timeout", Effect::Restart),
    ("limits.body_timeout", Effect::Restart),
    ("log.format", Effect::Restart),
    ("log.level", Effect::Reload),
    ("store.path", Effect::Restart),
    ("store.retention", Effect::Reload),
    ("store.max_size", Effect::Reload),
    ("record.path", Effect::Restart),
    ("record.max_size", Effect::Restart),
    ("sources", Effect::Reload),
    ("otlp.http", Effect::Restart),
    ("otlp.grpc", Effect::Restart),
    ("otlp.max_series", Effect::Reload),
    ("otlp.max_series_per_metric", Effect::Reload),
    ("otlp.max_labels", Effect::Reload),
    ("otlp.max_label_length", Effect::Reload),
    ("otlp.forget_after", Effect::Reload),
    ("otlp.drop_attributes", Effect::Reload),
    ("otlp.agents", Effect::Reload),
    ("otlp.prices", Effect::Reload),
    ("pipe", Effect::Command),
    ("agents", Effect::Reload),
    ("expected", Effect::Reload),
    ("budgets", Effect::Reload),
    ("rules", Effect::Reload),
    ("incidents", Effect::Reload),
    ("digest", Effect::Reload),
    ("heartbeat", Effect::Reload),
    ("external_url", Effect::Reload),
    ("receivers", Effect::Reload),
];

/// The keys that differ from those the program `started` with and take effect at the next start only.
pub(super) fn restart_needed(started: &Config, now: &Config) -> Vec<&'static str> {
    let mut keys = changed(&tree(started), &tree(now));
    // Another certificate takes effect at once; a listener that spoke plainly goes on so until the next start.
    if started.tls.cert_file.is_some() != now.tls.cert_file.is_some() {
        keys.push("tls");
    }
    keys
}

fn changed(before: &Value, after: &Value) -> Vec<&'static str> {
    let is_named = |(key, effect): &(&str, Effect)| *effect == Effect::Restart && at(before, key) != at(after, key);
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
    fn every_key_is_known_to_take_effect_or_to_need_a_restart() {
        let tree = tree(&Config::default());
        for (section, value) in tree.as_object().expect("sections") {
            if KEYS.iter().any(|(key, _)| key == section) {
                continue;
            }
            for name in value.as_object().expect("a section that is listed key by key").keys() {
                let key = format!("{section}.{name}");
                assert!(KEYS.iter().any(|(known, _)| *known == key), "say in KEYS when {key} takes effect");
            }
        }
        for (key, _) in KEYS {
            assert!(at(&tree, key).is_some(), "{key} is no key any more");
        }
    }

    #[test]
    fn each_key_that_needs_a_restart_is_named_when_it_changes() {
        let started = tree(&Config::default());
        assert_eq!(changed(&started, &started), [""; 0]);
        for (key, effect) in KEYS {
            let mut now = started.clone();
            let place = key.split('.').try_fold(&mut now, |value, name| value.get_mut(name));
            *place.expect("a key") = Value::from("changed");
            let expected = if effect == Effect::Restart { vec![key] } else { Vec::new() };
            assert_eq!(changed(&started, &now), expected);
        }
    }

    #[test]
    fn tls_begins_and_ends_with_a_restart_only() {
        let plain = Config::default();
        let mut encrypted = Config::default();
        encrypted.tls.cert_file = Some("a.pem".into());
        encrypted.tls.key_file = Some("a.key".into());
        assert_eq!(restart_needed(&plain, &encrypted), ["tls"]);
        assert_eq!(restart_needed(&encrypted, &plain), ["tls"]);
        let mut other = encrypted.clone();
        other.tls.cert_file = Some("b.pem".into());
        assert_eq!(restart_needed(&encrypted, &other), [""; 0], "another certificate takes effect at once");
    }
}
