//! Encodes requests in parts that targets take: many refuse bodies over 4 MiB.

use prost::Message;

use crate::otlp::wire::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Metric, ResourceLogs,
    ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, point_count,
};

/// Most bytes of an encoded part, unless a single item is larger.
pub(super) const MAX_PART: usize = 1 << 20;
/// Allowed for tags and lengths of a part.
const OVERHEAD: usize = 16;

/// A request that can be encoded in parts.
pub(super) trait Splittable: Message + Sized {
    /// Calls `each` with encoded parts and the number of items in each.
    fn encode_parts(self, each: impl FnMut(Vec<u8>, u64));
}

/// Splits the items of scopes of resources over as many requests as are needed.
macro_rules! batch {
    ($request:ident { $resources:ident: $resource:ident { $scopes:ident: $scope:ident { $items:ident: $count:path } } }) => {
        impl Splittable for $request {
            fn encode_parts(self, mut each: impl FnMut(Vec<u8>, u64)) {
                let sum = |request: &Self| -> u64 {
                    let scopes = request.$resources.iter().flat_map(|it| &it.$scopes);
                    scopes.flat_map(|it| &it.$items).map($count).sum()
                };
                if self.encoded_len() <= MAX_PART {
                    let items = sum(&self);
                    if items > 0 {
                        each(self.encode_to_vec(), items);
                    }
                    return;
                }
                let (mut part, mut size) = (Self::default(), 0);
                for resource in self.$resources {
                    let $resource { resource: about, $scopes: scopes, schema_url } = resource;
                    let head = $resource { resource: about, $scopes: Vec::new(), schema_url };
                    part.$resources.push(head.clone());
                    size += head.encoded_len() + OVERHEAD;
                    for scope in scopes {
                        let $scope { scope: about, $items: items, schema_url } = scope;
                        let inner = $scope { scope: about, $items: Vec::new(), schema_url };
                        let heads = head.encoded_len() + inner.encoded_len() + OVERHEAD;
                        if let Some(resource) = part.$resources.last_mut() {
                            resource.$scopes.push(inner.clone());
                            size += inner.encoded_len() + OVERHEAD;
                        }
                        for item in items {
                            let length = item.encoded_len() + OVERHEAD;
                            if size + length > MAX_PART && sum(&part) > 0 {
                                let full = std::mem::take(&mut part);
                                let items = sum(&full);
                                each(full.encode_to_vec(), items);
                                let mut resource = head.clone();
                                resource.$scopes.push(inner.clone());
                                part.$resources.push(resource);
                                size = heads;
                            }
                            size += length;
                            let scope = part.$resources.last_mut().and_then(|it| it.$scopes.last_mut());
                            if let Some(scope) = scope {
                                scope.$items.push(item);
                            }
                        }
                    }
                }
                let items = sum(&part);
                if items > 0 {
                    each(part.encode_to_vec(), items);
                }
            }
        }
    };
}

const fn one<T>(_: &T) -> u64 {
    1
}

fn points(metric: &Metric) -> u64 {
    point_count(metric) as u64
}

batch!(ExportTraceServiceRequest { resource_spans: ResourceSpans { scope_spans: ScopeSpans { spans: one } } });
batch!(ExportLogsServiceRequest { resource_logs: ResourceLogs { scope_logs: ScopeLogs { log_records: one } } });
batch!(ExportMetricsServiceRequest {
    resource_metrics: ResourceMetrics { scope_metrics: ScopeMetrics { metrics: points } }
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{Span, string_attribute};

    fn request(spans: usize, bytes: usize) -> ExportTraceServiceRequest {
        let span = |id: usize| Span {
            span_id: (id as u64 + 1).to_be_bytes().to_vec(),
            attributes: vec![string_attribute("a", &"x".repeat(bytes))],
            ..Span::default()
        };
        let spans = (0..spans).map(span).collect();
        let scope_spans = vec![ScopeSpans { spans, schema_url: "s".to_owned(), ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { scope_spans, schema_url: "r".to_owned(), ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    #[test]
    fn large_requests_are_split_without_loss() {
        for (spans, bytes) in [(0, 0), (1, 10), (5_000, 1_000), (3, 3 << 20)] {
            let (mut parts, mut ids) = (0, Vec::new());
            request(spans, bytes).encode_parts(|body, items| {
                parts += 1;
                assert!(body.len() <= MAX_PART || items == 1, "{} bytes of {items}", body.len());
                let part = ExportTraceServiceRequest::decode(&*body).expect("a request");
                for resource in &part.resource_spans {
                    assert_eq!((&*resource.schema_url, &*resource.scope_spans[0].schema_url), ("r", "s"));
                    ids.extend(resource.scope_spans[0].spans.iter().map(|span| span.span_id.clone()));
                }
                assert_eq!(part.resource_spans[0].scope_spans[0].spans.len() as u64, items);
            });
            let expected: Vec<Vec<u8>> = (1..=spans as u64).map(|id| id.to_be_bytes().to_vec()).collect();
            assert_eq!(ids, expected);
            assert!(parts <= 8, "{parts}");
        }
    }
}
