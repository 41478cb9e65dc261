//! Drops content from requests, by the rules that storage follows: see `profiles::content`.

use crate::otlp::wire::{
    AnyValue, Data, ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, KeyValue,
    Resource, Value,
};
use crate::profiles::content::{ContentFilter, MAX_KEY, MAX_TEXT};
use crate::text::clean;

/// Drops content; remembers which keys hold it.
#[derive(Debug, Default)]
pub(super) struct Stripper(ContentFilter);

impl Stripper {
    pub(super) fn traces(&mut self, request: &mut ExportTraceServiceRequest) {
        for resource in &mut request.resource_spans {
            self.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_spans {
                if let Some(scope) = &mut scope.scope {
                    self.attributes(&mut scope.attributes);
                }
                for span in &mut scope.spans {
                    shorten(&mut span.name);
                    if let Some(status) = &mut span.status {
                        shorten(&mut status.message);
                    }
                    self.attributes(&mut span.attributes);
                    for event in &mut span.events {
                        shorten(&mut event.name);
                        self.attributes(&mut event.attributes);
                    }
                    span.links.iter_mut().for_each(|link| self.attributes(&mut link.attributes));
                }
            }
        }
    }

    pub(super) fn metrics(&mut self, request: &mut ExportMetricsServiceRequest) {
        for resource in &mut request.resource_metrics {
            self.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_metrics {
                if let Some(scope) = &mut scope.scope {
                    self.attributes(&mut scope.attributes);
                }
                for metric in &mut scope.metrics {
                    self.attributes(&mut metric.metadata);
                    self.points(metric.data.as_mut());
                }
            }
        }
    }

    fn points(&mut self, data: Option<&mut Data>) {
        macro_rules! points {
            ($points:expr) => {
                for point in $points {
                    self.attributes(&mut point.attributes);
                    for exemplar in &mut point.exemplars {
                        self.attributes(&mut exemplar.filtered_attributes);
                    }
                }
            };
        }
        match data {
            None => {}
            Some(Data::Gauge(gauge)) => points!(&mut gauge.data_points),
            Some(Data::Sum(sum)) => points!(&mut sum.data_points),
            Some(Data::Histogram(histogram)) => points!(&mut histogram.data_points),
            Some(Data::ExponentialHistogram(histogram)) => points!(&mut histogram.data_points),
            Some(Data::Summary(summary)) => {
                summary.data_points.iter_mut().for_each(|point| self.attributes(&mut point.attributes));
            }
        }
    }

    pub(super) fn logs(&mut self, request: &mut ExportLogsServiceRequest) {
        for resource in &mut request.resource_logs {
            self.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_logs {
                if let Some(scope) = &mut scope.scope {
                    self.attributes(&mut scope.attributes);
                }
                for record in &mut scope.log_records {
                    self.attributes(&mut record.attributes);
                    record.body = record.body.take().filter(is_name);
                }
            }
        }
    }

    fn resource(&mut self, resource: Option<&mut Resource>) {
        if let Some(resource) = resource {
            self.attributes(&mut resource.attributes);
        }
    }

    fn attributes(&mut self, attributes: &mut Vec<KeyValue>) {
        attributes.retain_mut(|attribute| {
            if attribute.key.len() > MAX_KEY {
                return false;
            }
            match attribute.value.as_mut().and_then(|value| value.value.as_mut()) {
                Some(Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_)) | None => true,
                Some(Value::StringValue(text)) => {
                    let is_kept = text.len() <= MAX_TEXT && self.0.may_keep(&attribute.key);
                    if is_kept {
                        shorten(text);
                    }
                    is_kept
                }
                Some(value @ (Value::ArrayValue(_) | Value::KvlistValue(_))) => {
                    self.0.may_keep(&attribute.key) && self.within(value) <= MAX_TEXT
                }
                Some(Value::BytesValue(_) | Value::StringValueStrindex(_)) => false,
            }
        });
    }

    /// Drops what is content within a list or a map; returns about how long the rest is.
    fn within(&mut self, value: &mut Value) -> usize {
        let inner = |value: &mut Option<AnyValue>, stripper: &mut Self| match value {
            Some(AnyValue { value: Some(value) }) => stripper.within(value),
            _ => 0,
        };
        match value {
            Value::StringValue(text) => {
                let length = text.len();
                shorten(text);
                length
            }
            Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_) => 8,
            Value::ArrayValue(list) => {
                let mut length = 0;
                for item in &mut list.values {
                    length += 2 + item.value.as_mut().map_or(0, |value| self.within(value));
                }
                length
            }
            Value::KvlistValue(map) => {
                self.attributes(&mut map.values);
                let mut length = 0;
                for pair in &mut map.values {
                    length += 6 + pair.key.len() + inner(&mut pair.value, self);
                }
                length
            }
            Value::BytesValue(_) | Value::StringValueStrindex(_) => usize::MAX / 1024,
        }
    }
}

/// Cuts a text that is no content, with keys and passwords masked.
fn shorten(text: &mut String) {
    if let std::borrow::Cow::Owned(cleaned) = clean(text, MAX_TEXT) {
        *text = cleaned;
    } else if text.len() > MAX_TEXT {
        *text = clean(text, MAX_TEXT).into_owned();
    }
}

/// Whether the body of a log record is the name of an event rather than a text: events of agents have one or the other.
fn is_name(body: &AnyValue) -> bool {
    match &body.value {
        Some(Value::StringValue(text)) => {
            text.len() <= MAX_TEXT
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':'))
        }
        Some(Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{
        ArrayValue, KeyValueList, LogRecord, ResourceLogs, ResourceSpans, ScopeLogs, ScopeSpans, Span, attribute, span,
        string_attribute,
    };

    fn list(texts: &[&str]) -> Value {
        let values = texts.iter().map(|text| AnyValue { value: Some(Value::StringValue((*text).to_owned())) });
        Value::ArrayValue(ArrayValue { values: values.collect() })
    }

    #[test]
    fn what_storage_drops_does_not_leave() {
        let nested = Value::KvlistValue(KeyValueList {
            values: vec![string_attribute("prompt", "SECRET"), string_attribute("state", "done")],
        });
        let attributes = vec![
            string_attribute("gen_ai.request.model", "gpt"),
            string_attribute("gen_ai.input.messages", "SECRET"),
            string_attribute("user_prompt", "SECRET"),
            string_attribute("note", &"SECRET".repeat(50)),
            attribute("gen_ai.usage.input_tokens", Value::IntValue(7)),
            attribute("tags", list(&["a", "b"])),
            attribute("tags.long", list(&["SECRET"; 40])),
            attribute("inputs", list(&["SECRET"])),
            attribute("labels", nested),
            attribute("blob", Value::BytesValue(b"SECRET".to_vec())),
            string_attribute("label", "sk-ant-api03-SECRETSECRETSECRETSECRETSECRETSECRET"),
        ];
        let event = span::Event {
            name: "exception".to_owned(),
            attributes: vec![string_attribute("exception.message", "SECRET"), string_attribute("exception.type", "E")],
            ..span::Event::default()
        };
        let sent = Span { name: "chat".to_owned(), attributes, events: vec![event], ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![sent], ..ScopeSpans::default() }];
        let resource =
            Resource { attributes: vec![string_attribute("process.command_args", "SECRET")], ..Resource::default() };
        let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
        let mut request = ExportTraceServiceRequest { resource_spans };
        Stripper::default().traces(&mut request);
        assert!(!format!("{request:?}").contains("SECRET"), "{request:#?}");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        let keys: Vec<&str> = span.attributes.iter().map(|attribute| &*attribute.key).collect();
        assert_eq!(keys, ["gen_ai.request.model", "gen_ai.usage.input_tokens", "tags", "labels", "label"]);
        assert_eq!(span.events[0].attributes.len(), 1);
    }

    #[test]
    fn bodies_of_logs_stay_only_if_they_are_names_of_events() {
        for (body, is_kept) in [("claude_code.user_prompt", true), ("please fix my code", false), ("done", true)] {
            let body = Some(AnyValue { value: Some(Value::StringValue(body.to_owned())) });
            let log_records = vec![LogRecord { body, ..LogRecord::default() }];
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
            let mut request = ExportLogsServiceRequest { resource_logs };
            Stripper::default().logs(&mut request);
            assert_eq!(request.resource_logs[0].scope_logs[0].log_records[0].body.is_some(), is_kept);
        }
    }
}
