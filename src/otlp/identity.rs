//! The identity of a stream, which is a keyed hash of all its attributes, and the labels of its series.
//!
//! Attributes that are dropped from the labels still belong to the identity: two sessions that feed one series each have
//! their own start time and last point.

use std::hash::{BuildHasher as _, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::config::DropPatterns;
use super::naming;
use super::wire::{self, InstrumentationScope, KeyValue, Resource, Value};
use crate::model::labels::escape;
use crate::text::clean;
use crate::text::home::without_home;

/// The attributes that identify a service instance, by OpenTelemetry's semantic conventions.
const INSTANCE: [&str; 3] = ["service.instance.id", "service.name", "service.namespace"];

/// Hashes identities. Its key is random and goes into every step, so that no sender can construct a collision.
#[derive(Clone, Debug)]
pub(super) struct StreamHasher {
    state: SeedableRandomState,
}

impl StreamHasher {
    pub(super) fn new(key: u64) -> Self {
        Self { state: SeedableRandomState::with_seed(key, SharedSeed::global_random()) }
    }

    /// The hash of attributes, whatever their order.
    pub(super) fn attributes(&self, attributes: &[KeyValue]) -> u64 {
        attributes.iter().fold(0_u64, |sum, attribute| sum.wrapping_add(self.attribute(attribute)))
    }

    /// The hash of the service instance that a resource names. Unlike process and container, it survives a restart.
    pub(super) fn instance(&self, resource: &[KeyValue]) -> Option<u64> {
        let identifying = resource.iter().filter(|it| INSTANCE.contains(&it.key.as_str()));
        let has_id = resource.iter().any(|it| it.key == INSTANCE[0] && wire::value(it).is_some());
        has_id.then(|| identifying.fold(0_u64, |sum, it| sum.wrapping_add(self.attribute(it))))
    }

    fn attribute(&self, attribute: &KeyValue) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(attribute.key.as_bytes());
        hasher.write_usize(attribute.key.len());
        write_value(&mut hasher, wire::value(attribute));
        // The hashes are summed up, so that each must be mixed well.
        mix(hasher.finish())
    }

    /// The hash of parts in their order.
    pub(super) fn of(&self, parts: &[&str], numbers: &[u64]) -> u64 {
        let mut hasher = self.state.build_hasher();
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write_usize(part.len());
        }
        numbers.iter().for_each(|number| hasher.write_u64(*number));
        mix(hasher.finish())
    }
}

/// Mixes the bits of a hash.
pub(super) const fn mix(mut hash: u64) -> u64 {
    // The finaliser of SplitMix64.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn write_value(hasher: &mut impl Hasher, value: Option<&Value>) {
    match value {
        // Indices into string tables occur in OTLP's profiles only.
        None | Some(Value::StringValueStrindex(_)) => hasher.write_u8(0),
        Some(Value::StringValue(text)) => {
            hasher.write_u8(1);
            hasher.write(text.as_bytes());
        }
        Some(Value::BoolValue(flag)) => hasher.write_u8(if *flag { 3 } else { 2 }),
        Some(Value::IntValue(number)) => {
            hasher.write_u8(4);
            hasher.write_u64(number.cast_unsigned());
        }
        Some(Value::DoubleValue(number)) => {
            hasher.write_u8(5);
            hasher.write_u64(number.to_bits());
        }
        Some(Value::BytesValue(bytes)) => {
            hasher.write_u8(6);
            hasher.write(bytes);
        }
        Some(Value::ArrayValue(array)) => {
            hasher.write_u8(7);
            hasher.write_usize(array.values.len());
            array.values.iter().for_each(|value| write_value(hasher, value.value.as_ref()));
        }
        Some(Value::KvlistValue(list)) => {
            hasher.write_u8(8);
            hasher.write_usize(list.values.len());
            for pair in &list.values {
                hasher.write(pair.key.as_bytes());
                hasher.write_usize(pair.key.len());
                write_value(hasher, wire::value(pair));
            }
        }
    }
}

/// Which attributes become labels, and the limits of labels.
#[derive(Clone, Debug)]
pub(super) struct LabelRules {
    pub(super) dropped: DropPatterns,
    pub(super) max_labels: usize,
    pub(super) max_length: usize,
}

/// A series has more labels than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyLabels;

/// A label's name, the attribute that it comes from, and its value.
pub(super) type LabelSource = (String, String, String);

impl LabelRules {
    /// The labels that all series of a resource and scope share. Computed once for all of their points, since cleaning a
    /// long value takes time.
    pub(super) fn scope_labels(&self, resource: &Resource, scope: &InstrumentationScope) -> Vec<LabelSource> {
        let mut labels = target(resource);
        for (name, value) in [("otel_scope_name", &scope.name), ("otel_scope_version", &scope.version)] {
            if !value.is_empty() {
                labels.push((name.to_owned(), String::new(), value.clone()));
            }
        }
        for (_, _, value) in &mut labels {
            *value = clean(&without_home(value), self.max_length).into_owned();
        }
        labels
    }

    /// The labels of a series, `instance="…",job="…"`, sorted by name and escaped: those of its scope, and the attributes
    /// of a point.
    pub(super) fn series(&self, scope_labels: &[LabelSource], point: &[KeyValue]) -> Result<String, TooManyLabels> {
        let mut labels = scope_labels.to_vec();
        self.add(&mut labels, point.iter());
        self.write(labels)
    }

    /// The labels of `target_info`; `None` when the resource has no attributes beyond those of all its series.
    pub(super) fn target(&self, resource: &Resource) -> Result<Option<String>, TooManyLabels> {
        let mut labels = target(resource);
        let known = labels.len();
        let identifying = ["service.name", "service.namespace", "service.instance.id"];
        self.add(&mut labels, resource.attributes.iter().filter(|it| !identifying.contains(&it.key.as_str())));
        if labels.len() == known { Ok(None) } else { self.write(labels).map(Some) }
    }

    fn add<'a>(&self, labels: &mut Vec<LabelSource>, attributes: impl Iterator<Item = &'a KeyValue>) {
        for attribute in attributes.filter(|attribute| !self.dropped.matches(&attribute.key)) {
            let value = text(wire::value(attribute));
            // A route is a pattern, not a path on a machine.
            let value = if attribute.key == "http.route" { value } else { without_home(&value).into_owned() };
            // To Prometheus, an empty label is an absent one.
            if !value.is_empty() {
                labels.push((naming::label(&attribute.key), attribute.key.clone(), value));
            }
        }
    }

    fn write(&self, mut labels: Vec<LabelSource>) -> Result<String, TooManyLabels> {
        labels.sort_unstable();
        let mut out = String::new();
        let mut count = 0;
        for same in labels.chunk_by(|a, b| a.0 == b.0) {
            count += 1;
            let values: Vec<&str> = same.iter().map(|(_, _, value)| value.as_str()).collect();
            let joined = values.join(";");
            let name = same.first().map_or("", |(name, _, _)| name);
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(name);
            out.push_str("=\"");
            escape(&clean(&joined, self.max_length), &mut out);
            out.push('"');
        }
        if count > self.max_labels { Err(TooManyLabels) } else { Ok(out) }
    }
}

/// The labels `job` and `instance`.
fn target(resource: &Resource) -> Vec<LabelSource> {
    let find = |key: &str| {
        let found = resource.attributes.iter().find(|attribute| attribute.key == key);
        found.map(|attribute| text(wire::value(attribute))).filter(|value| !value.is_empty())
    };
    let service = find("service.name").map(|service| match find("service.namespace") {
        Some(namespace) => format!("{namespace}/{service}"),
        None => service,
    });
    let mut labels = Vec::with_capacity(8);
    for (name, value) in [("job", service), ("instance", find("service.instance.id"))] {
        labels.extend(value.map(|value| (name.to_owned(), String::new(), value)));
    }
    labels
}

/// A value as a label value: arrays and maps as JSON.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::StringValueStrindex(_)) => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(other) => match json(other) {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        },
    }
}

fn json(value: &Value) -> serde_json::Value {
    let any = |value: Option<&Value>| value.map_or(serde_json::Value::Null, json);
    match value {
        Value::StringValue(text) => text.clone().into(),
        Value::BoolValue(flag) => (*flag).into(),
        Value::IntValue(number) => (*number).into(),
        Value::StringValueStrindex(_) => serde_json::Value::Null,
        // JSON has no NaN and no infinity.
        Value::DoubleValue(number) if !number.is_finite() => number.to_string().into(),
        Value::DoubleValue(number) => (*number).into(),
        Value::BytesValue(bytes) => base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes).into(),
        Value::ArrayValue(array) => array.values.iter().map(|value| any(value.value.as_ref())).collect(),
        Value::KvlistValue(list) => {
            let pairs = list.values.iter().map(|pair| (pair.key.clone(), any(wire::value(pair))));
            serde_json::Value::Object(pairs.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::config::OtlpConfig;
    use crate::otlp::wire::{AnyValue, ArrayValue, KeyValueList, attribute, string_attribute};

    fn rules() -> LabelRules {
        let config = OtlpConfig::default();
        LabelRules { dropped: DropPatterns::new(&config.drop_attributes), max_labels: 5, max_length: 10 }
    }

    #[test]
    fn labels_are_sorted_joined_escaped_and_cut() {
        let resource = Resource {
            attributes: vec![
                string_attribute("service.name", "shop"),
                string_attribute("service.namespace", "eu"),
                string_attribute("service.instance.id", "i-1"),
                string_attribute("host.name", "box"),
            ],
            ..Resource::default()
        };
        let scope = InstrumentationScope { name: "lib".to_owned(), ..InstrumentationScope::default() };
        let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue { value: None }] };
        let point = [
            string_attribute("b c", "1"),
            string_attribute("b.c", "\"2\"\n"),
            attribute("a", Value::ArrayValue(list)),
            string_attribute("session.id", "s"),
            string_attribute("empty", ""),
        ];
        assert_eq!(
            rules().series(&rules().scope_labels(&resource, &scope), &point).expect("few"),
            r#"a="[1,null]",b_c="1;\"2\"",instance="i-1",job="eu/shop",otel_scope_name="lib""#
        );
        assert_eq!(
            rules().target(&resource).expect("few").expect("a host"),
            r#"host_name="box",instance="i-1",job="eu/shop""#
        );
        let long = [string_attribute("long", "0123456789abcdef")];
        assert_eq!(rules().series(&[], &long).expect("few"), r#"long="0123456789""#);
        let many: Vec<KeyValue> = (0..6).map(|number| string_attribute(&format!("k{number}"), "v")).collect();
        assert_eq!(rules().series(&[], &many), Err(TooManyLabels));
    }

    #[test]
    fn values_are_written_as_json() {
        let list = KeyValueList {
            values: vec![attribute("k", Value::DoubleValue(f64::NAN)), attribute("l", Value::BytesValue(vec![1]))],
        };
        assert_eq!(text(Some(&Value::KvlistValue(list))), r#"{"k":"NaN","l":"AQ=="}"#);
        for (value, expected) in [
            (Value::BoolValue(true), "true"),
            (Value::IntValue(-7), "-7"),
            (Value::DoubleValue(0.5), "0.5"),
            (Value::DoubleValue(f64::INFINITY), "inf"),
        ] {
            assert_eq!(text(Some(&value)), expected);
        }
    }

    #[test]
    fn identity_depends_on_values_and_not_on_order() {
        let hash = StreamHasher::new(7);
        let [a, b, c] = [string_attribute("a", "1"), string_attribute("b", "2"), attribute("b", Value::IntValue(2))];
        assert_eq!(hash.attributes(&[a.clone(), b.clone()]), hash.attributes(&[b.clone(), a.clone()]));
        assert_ne!(hash.attributes(&[a.clone(), b.clone()]), hash.attributes(&[a.clone(), c]));
        assert_ne!(hash.attributes(std::slice::from_ref(&a)), hash.attributes(&[a.clone(), a.clone()]));
        assert_ne!(hash.of(&["ab", "c"], &[]), hash.of(&["a", "bc"], &[]));
        assert_ne!(StreamHasher::new(7).attributes(std::slice::from_ref(&b)), StreamHasher::new(8).attributes(&[b]));
    }

    #[test]
    fn constructed_values_do_not_collide_under_any_key() {
        // foldhash multiplies with public constants; a value that cancels one out makes the product zero.
        for known in [0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e_0370_7344] {
            let made = |rest: u64| {
                let bytes = [known.to_le_bytes(), rest.to_le_bytes()].concat();
                [attribute("k", Value::BytesValue(bytes))]
            };
            for key in 0..4 {
                let streams: std::collections::HashSet<u64> =
                    (0..64).map(|rest| StreamHasher::new(key).attributes(&made(rest))).collect();
                assert_eq!(streams.len(), 64, "{known:x}");
            }
        }
    }

    #[test]
    fn no_label_names_a_home_directory() {
        let rules = LabelRules { max_length: 256, ..rules() };
        let resource = Resource {
            attributes: vec![string_attribute("service.instance.id", concat!("/home", "/dev/x"))],
            ..Resource::default()
        };
        let scope_labels = rules.scope_labels(
            &resource,
            &InstrumentationScope { name: concat!("/Users", "/dev/lib").to_owned(), ..Default::default() },
        );
        let point = [
            string_attribute("pool.name", concat!("sqlite://:/", "/home", "/dev/l.db")),
            string_attribute("code.filepath", r"C:\Users\dev\x.py"),
        ];
        let labels = rules.series(&scope_labels, &point).expect("few");
        assert!(!labels.contains("dev"), "{labels}");
        assert!(labels.contains(r#"pool_name="sqlite://:/~/l.db""#), "{labels}");
        let target = Resource {
            attributes: vec![string_attribute("process.working_directory", concat!("/home", "/dev/x"))],
            ..Resource::default()
        };
        assert_eq!(rules.target(&target).expect("few").as_deref(), Some(r#"process_working_directory="~/x""#));
    }
}
