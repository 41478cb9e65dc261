//! The schema of OTLP's messages: the fields of each by number, with their JSON names and types.
//!
//! It is built from the descriptors that `opentelemetry-proto` ships with its structs, so that both agree. It serves to
//! convert JSON to protobuf, to estimate memory, and to repair strings.

use std::mem::size_of;
use std::sync::LazyLock;

use opentelemetry_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::wire::{
    AnyValue, EntityRef, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, KeyValue, LogRecord, Metric,
    NumberDataPoint, ResourceLogs, ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, Span,
    SummaryDataPoint, ValueAtQuantile, span,
};
use crate::model::InputKind;

/// All field numbers are less than this.
pub(super) const FIELDS: usize = 20;

/// The message of an attribute's value, which some senders write as a bare value.
pub(super) const ANY_VALUE: &str = "AnyValue";

/// Fields that are not read, by their JSON names, so that an invalid value in one of them is not reported.
pub(super) const IGNORED_FIELDS: [&str; 13] = [
    "droppedAttributesCount",
    "droppedEventsCount",
    "droppedLinksCount",
    "entityRefs",
    "exemplars",
    "keyStrindex",
    "max",
    "metadata",
    "min",
    "schemaUrl",
    "severityText",
    "stringValueStrindex",
    "traceState",
];

/// A signal of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Data points.
    Metrics,
    /// Spans.
    Traces,
    /// Log records and events.
    Logs,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Traces, Self::Logs];

    /// Its name in paths, labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

impl From<Signal> for InputKind {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Metrics => Self::Metrics,
            Signal::Traces => Self::Traces,
            Signal::Logs => Self::Logs,
        }
    }
}

/// A message type.
#[derive(Debug, Default)]
pub(super) struct SchemaMessage {
    pub(super) name: String,
    /// Bytes that one takes in a list, without what its fields point to.
    pub(super) size: usize,
    /// The fields, by number.
    fields: Vec<Option<SchemaField>>,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct SchemaField {
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) name: String,
    pub(super) kind: FieldKind,
    pub(super) is_list: bool,
    /// Whether it is read.
    pub(super) is_read: bool,
}

/// The type of a field, or of the elements of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Message(MessageId),
    Text,
    /// Bytes, which JSON writes in hex.
    Hex,
    /// Bytes, which JSON writes in base64.
    Bytes,
    Bool,
    /// An enum: its number, or in JSON its name too.
    Enum(EnumId),
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
}

/// The position of a message in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId(usize);

/// The position of an enum in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EnumId(usize);

impl SchemaMessage {
    /// The field of that number.
    pub(super) fn field(&self, number: u64) -> Option<&SchemaField> {
        self.fields.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// All fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = &SchemaField> {
        self.fields.iter().flatten()
    }
}

impl MessageId {
    /// The message.
    pub(super) fn message(self) -> &'static SchemaMessage {
        static NONE: SchemaMessage = SchemaMessage { name: String::new(), size: 0, fields: Vec::new() };
        SCHEMA.messages.get(self.0).unwrap_or(&NONE)
    }
}

impl EnumId {
    /// The number of the value of that name.
    pub(super) fn number(self, word: &str) -> Option<u32> {
        let values = &SCHEMA.enums.get(self.0)?.value;
        u32::try_from(values.iter().find(|value| value.name() == word)?.number()).ok()
    }
}

/// The request message of a signal.
pub(super) fn request(signal: Signal) -> &'static SchemaMessage {
    let [metrics, traces, logs] = SCHEMA.requests;
    match signal {
        Signal::Metrics => metrics.message(),
        Signal::Traces => traces.message(),
        Signal::Logs => logs.message(),
    }
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the descriptors are part of the program, and tests read them")]
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    Schema::of(&set)
});

/// All messages and enums of OTLP.
#[derive(Debug)]
struct Schema {
    requests: [MessageId; Signal::ALL.len()],
    messages: Vec<SchemaMessage>,
    enums: Vec<EnumDescriptorProto>,
}

impl Schema {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut declared = Descriptors::default();
        for file in &set.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| declared.add(&package, message));
            file.enum_type.iter().for_each(|it| declared.enums.push((format!("{package}.{}", it.name()), it)));
        }
        let request = |(package, name): (&str, &str)| {
            MessageId(
                declared.message(&format!(".opentelemetry.proto.collector.{package}.v1.Export{name}ServiceRequest")),
            )
        };
        Self {
            requests: [("metrics", "Metrics"), ("trace", "Trace"), ("logs", "Logs")].map(request),
            messages: declared.messages.iter().map(|(_, message)| declared.read(message)).collect(),
            enums: declared.enums.iter().map(|(_, it)| (*it).clone()).collect(),
        }
    }
}

/// The descriptors, by full name.
#[derive(Default)]
struct Descriptors<'a> {
    messages: Vec<(String, &'a DescriptorProto)>,
    enums: Vec<(String, &'a EnumDescriptorProto)>,
}

impl<'a> Descriptors<'a> {
    fn add(&mut self, around: &str, message: &'a DescriptorProto) {
        let name = format!("{around}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
        message.enum_type.iter().for_each(|it| self.enums.push((format!("{name}.{}", it.name()), it)));
        self.messages.push((name, message));
    }

    /// The position of the message of that name; past the end when there is none.
    fn message(&self, name: &str) -> usize {
        self.messages.iter().position(|(known, _)| known == name).unwrap_or(usize::MAX)
    }

    fn read(&self, message: &DescriptorProto) -> SchemaMessage {
        let mut fields: Vec<Option<SchemaField>> = Vec::new();
        for field in message.field.iter().filter_map(|field| self.field(field)) {
            let place = field.number as usize;
            fields.resize_with(fields.len().max(place + 1), || None);
            if let Some(free) = fields.get_mut(place) {
                *free = Some(field);
            }
        }
        SchemaMessage { name: message.name().to_owned(), size: size(message.name()), fields }
    }

    fn field(&self, field: &FieldDescriptorProto) -> Option<SchemaField> {
        let name = field.json_name();
        let kind = match field.r#type() {
            Type::Message => FieldKind::Message(MessageId(self.message(field.type_name()))),
            Type::Enum => FieldKind::Enum(EnumId(self.enums.iter().position(|(it, _)| it == field.type_name())?)),
            Type::String => FieldKind::Text,
            Type::Bytes if name.ends_with("Id") => FieldKind::Hex,
            Type::Bytes => FieldKind::Bytes,
            Type::Bool => FieldKind::Bool,
            Type::Int32 => FieldKind::Int32,
            Type::Int64 => FieldKind::Int64,
            Type::Uint32 => FieldKind::Uint32,
            Type::Uint64 => FieldKind::Uint64,
            Type::Sint32 => FieldKind::Sint32,
            Type::Fixed32 => FieldKind::Fixed32,
            Type::Fixed64 => FieldKind::Fixed64,
            Type::Sfixed64 => FieldKind::Sfixed64,
            Type::Double => FieldKind::Double,
            // OTLP uses none of these.
            Type::Float | Type::Group | Type::Sfixed32 | Type::Sint64 => return None,
        };
        Some(SchemaField {
            number: u32::try_from(field.number()).ok().filter(|number| (*number as usize) < FIELDS)?,
            name: name.to_owned(),
            kind,
            is_list: field.label() == Label::Repeated,
            is_read: !IGNORED_FIELDS.contains(&name),
        })
    }
}

/// Bytes that a message takes in a list. Messages in no list are part of another, and have none.
fn size(name: &str) -> usize {
    match name {
        ANY_VALUE => size_of::<AnyValue>(),
        "EntityRef" => size_of::<EntityRef>(),
        "Event" => size_of::<span::Event>(),
        "Exemplar" => size_of::<Exemplar>(),
        "ExponentialHistogramDataPoint" => size_of::<ExponentialHistogramDataPoint>(),
        "HistogramDataPoint" => size_of::<HistogramDataPoint>(),
        "KeyValue" => size_of::<KeyValue>(),
        "Link" => size_of::<span::Link>(),
        "LogRecord" => size_of::<LogRecord>(),
        "Metric" => size_of::<Metric>(),
        "NumberDataPoint" => size_of::<NumberDataPoint>(),
        "ResourceLogs" => size_of::<ResourceLogs>(),
        "ResourceMetrics" => size_of::<ResourceMetrics>(),
        "ResourceSpans" => size_of::<ResourceSpans>(),
        "ScopeLogs" => size_of::<ScopeLogs>(),
        "ScopeMetrics" => size_of::<ScopeMetrics>(),
        "ScopeSpans" => size_of::<ScopeSpans>(),
        "Span" => size_of::<Span>(),
        "SummaryDataPoint" => size_of::<SummaryDataPoint>(),
        "ValueAtQuantile" => size_of::<ValueAtQuantile>(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::json::to_protobuf;
    use super::super::wire::{ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest};
    use super::*;

    /// A message with all fields that are read; attribute values use the field number `any`.
    fn whole(message: &'static SchemaMessage, any: u32) -> Value {
        let is_any = message.name == ANY_VALUE;
        let is_given = |field: &&SchemaField| field.is_read && (!is_any || field.number == any);
        let fields = message.fields().filter(is_given).map(|field| {
            let value = match field.kind {
                // Nested values are strings.
                FieldKind::Message(id) => {
                    whole(id.message(), if is_any || message.name == "ArrayValue" { 1 } else { any })
                }
                FieldKind::Text => json!("text"),
                FieldKind::Hex => json!("0a0b"),
                FieldKind::Bytes => json!("AQI="),
                FieldKind::Bool => json!(true),
                FieldKind::Enum(words) => json!(SCHEMA.enums[words.0].value.last().expect("words").name()),
                FieldKind::Int32 | FieldKind::Int64 | FieldKind::Sint32 | FieldKind::Sfixed64 => json!("-5"),
                FieldKind::Uint32 | FieldKind::Uint64 | FieldKind::Fixed32 | FieldKind::Fixed64 => json!(7),
                FieldKind::Double => json!(0.5),
            };
            (field.name.clone(), if field.is_list { json!([value]) } else { value })
        });
        Value::Object(fields.collect::<Map<_, _>>())
    }

    #[test]
    fn the_structs_have_all_fields_of_the_schema() {
        for any in 1..=7 {
            for signal in Signal::ALL {
                let mut body = whole(request(signal), any);
                // Of a `oneof` only the last member is kept: a metric has one type of data, a point one type of number.
                if signal == Signal::Metrics {
                    let metrics = body.pointer_mut("/resourceMetrics/0/scopeMetrics/0/metrics").expect("metrics");
                    let all = metrics[0].as_object().expect("a metric").clone();
                    let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
                    let only = kinds.map(|kind| {
                        let mut metric = all.clone();
                        metric.retain(|name, _| name == kind || !kinds.contains(&name.as_str()));
                        if let Some(point) = metric[kind].pointer_mut("/dataPoints/0") {
                            point.as_object_mut().expect("a point").remove("asInt");
                        }
                        Value::Object(metric)
                    });
                    *metrics = Value::from(only.to_vec());
                }
                let body = body.to_string();
                let (bytes, unread) = to_protobuf(body.as_bytes(), request(signal), 100_000).expect("protobuf");
                let read = match signal {
                    Signal::Metrics => ExportMetricsServiceRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                    Signal::Traces => ExportTraceServiceRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                    Signal::Logs => ExportLogsServiceRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                };
                assert_eq!(
                    (read.expect("OTLP").len(), unread),
                    (bytes.len(), 0),
                    "{signal:?} with values of kind {any}: {body}"
                );
            }
        }
    }

    /// All messages of a request, and those that occur in lists.
    fn reached(
        message: &'static SchemaMessage,
        all: &mut Vec<&'static SchemaMessage>,
        in_lists: &mut Vec<&'static SchemaMessage>,
    ) {
        if all.iter().any(|known| std::ptr::eq(*known, message)) {
            return;
        }
        all.push(message);
        for field in message.fields() {
            if let FieldKind::Message(id) = field.kind {
                in_lists.extend(field.is_list.then(|| id.message()));
                reached(id.message(), all, in_lists);
            }
        }
    }

    #[test]
    fn the_schema_has_all_messages_and_fields() {
        let (mut all, mut in_lists) = (Vec::new(), Vec::new());
        Signal::ALL.into_iter().for_each(|signal| reached(request(signal), &mut all, &mut in_lists));
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
        let mut declared = Descriptors::default();
        set.file.iter().for_each(|file| file.message_type.iter().for_each(|it| declared.add("", it)));
        for message in &all {
            let described = declared.messages.iter().filter(|(_, it)| it.name() == message.name);
            let counts: Vec<usize> = described.map(|(_, it)| it.field.len()).collect();
            assert!(counts.contains(&message.fields().count()), "{message:?}");
        }
        assert_eq!(all.iter().filter(|it| it.name.starts_with("Export")).count(), 3);
        for message in in_lists {
            assert!(message.size > 0, "{} is in a list and has no size", message.name);
        }
        for name in IGNORED_FIELDS {
            assert!(all.iter().any(|it| it.fields().any(|field| field.name == name)), "{name}");
        }
    }

    #[test]
    fn conversion_to_protobuf_is_bounded() {
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"explicitBounds":[{}0]}}]}}}}]}}]}}]}}"#,
            "0,".repeat(1_000)
        );
        let size = to_protobuf(body.as_bytes(), request(Signal::Metrics), 100_000).expect("protobuf").0.len();
        assert!(size > 8_000);
        let result = to_protobuf(body.as_bytes(), request(Signal::Metrics), size - 1);
        assert!(matches!(result, Err(super::super::json::JsonError::TooLarge)), "{result:?}");
    }
}
