//! Encodes requests in parts that targets take, as many refuse bodies over 4 MiB, and splits parts that one still refuses.

use prost::Message;

use crate::otlp::Signal;
use crate::otlp::wire::{
    Data, ExponentialHistogram, ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest,
    Gauge, Histogram, Metric, Sum, Summary, point_count,
};

/// Most bytes of an encoded part, unless a single item is larger.
pub(super) const MAX_PART: usize = 1 << 20;
/// Allowed for tags and lengths of a part.
const OVERHEAD: usize = 16;

/// A request that can be encoded in parts.
pub(super) trait Splittable: Message + Default {
    /// Removes the first items, as many as fit into `limit` bytes but at least one, with their scopes and resources.
    fn take_head(&mut self, limit: usize) -> Self;

    /// Removes what has no items, such as metrics without data points, so that a part never consists of them alone.
    fn drop_empty(&mut self);

    /// How many items there are: spans, log records, data points.
    fn items(&self) -> u64;

    /// Calls `each` with encoded parts and the number of items in each.
    fn encode_parts(mut self, mut each: impl FnMut(Vec<u8>, u64)) {
        self.drop_empty();
        while self.encoded_len() > MAX_PART {
            let head = self.take_head(MAX_PART);
            let items = head.items();
            if items == 0 {
                break;
            }
            each(head.encode_to_vec(), items);
        }
        let items = self.items();
        if items > 0 {
            each(self.encode_to_vec(), items);
        }
    }
}

/// The first part of an encoded request, and the rest.
#[derive(Debug, PartialEq)]
pub(super) struct SplitBody {
    pub(super) head: Vec<u8>,
    pub(super) head_items: u64,
    pub(super) rest: Vec<u8>,
    pub(super) rest_items: u64,
}

/// Splits an encoded request after as many items as fit into `limit` bytes; `None` if it has just one, or none can be read.
pub(super) fn split(signal: Signal, body: &[u8], limit: usize) -> Option<SplitBody> {
    fn of<R: Splittable>(body: &[u8], limit: usize) -> Option<SplitBody> {
        let mut rest = R::decode(body).ok()?;
        rest.drop_empty();
        let head = rest.take_head(limit);
        let (head_items, rest_items) = (head.items(), rest.items());
        let is_split = head_items > 0 && rest_items > 0;
        is_split.then(|| SplitBody { head: head.encode_to_vec(), head_items, rest: rest.encode_to_vec(), rest_items })
    }
    match signal {
        Signal::Traces => of::<ExportTraceServiceRequest>(body, limit),
        Signal::Metrics => of::<ExportMetricsServiceRequest>(body, limit),
        Signal::Logs => of::<ExportLogsServiceRequest>(body, limit),
    }
}

/// Splits the items of scopes of resources over as many requests as are needed.
macro_rules! splittable {
    ($request:ident { $resources:ident { $scopes:ident { $items:ident: $count:path, $split:path } } }) => {
        impl Splittable for $request {
            fn items(&self) -> u64 {
                let scopes = self.$resources.iter().flat_map(|it| &it.$scopes);
                scopes.flat_map(|it| &it.$items).map($count).sum()
            }

            fn drop_empty(&mut self) {
                for scope in self.$resources.iter_mut().flat_map(|it| &mut it.$scopes) {
                    scope.$items.retain(|item| $count(item) > 0);
                }
            }

            fn take_head(&mut self, limit: usize) -> Self {
                let (mut head, mut size, mut is_full) = (Self::default(), 0, false);
                let mut has_items = false;
                let mut resources_done = 0;
                for resource in &mut self.$resources {
                    let scopes = std::mem::take(&mut resource.$scopes);
                    let mut of_resource = resource.clone();
                    resource.$scopes = scopes;
                    size += of_resource.encoded_len() + OVERHEAD;
                    let mut scopes_done = 0;
                    for scope in &mut resource.$scopes {
                        let mut items = std::mem::take(&mut scope.$items);
                        let mut of_scope = scope.clone();
                        size += of_scope.encoded_len() + OVERHEAD;
                        let mut fitting = 0;
                        for item in &mut items {
                            let length = item.encoded_len() + OVERHEAD;
                            if size + length > limit {
                                is_full = true;
                                if has_items {
                                    break;
                                }
                                // At least one item, or the first part of one that has several.
                                has_items = true;
                                match $split(item, limit.saturating_sub(size)) {
                                    Some(first) => of_scope.$items.push(first),
                                    None => fitting += 1,
                                }
                                break;
                            }
                            has_items |= $count(item) > 0;
                            size += length;
                            fitting += 1;
                        }
                        scope.$items = items.split_off(fitting);
                        items.append(&mut of_scope.$items);
                        of_scope.$items = items;
                        if !of_scope.$items.is_empty() {
                            of_resource.$scopes.push(of_scope);
                        }
                        if is_full && !scope.$items.is_empty() {
                            break;
                        }
                        scopes_done += 1;
                        if is_full {
                            break;
                        }
                    }
                    resource.$scopes.drain(..scopes_done);
                    if !of_resource.$scopes.is_empty() {
                        head.$resources.push(of_resource);
                    }
                    if is_full && !resource.$scopes.is_empty() {
                        break;
                    }
                    resources_done += 1;
                    if is_full {
                        break;
                    }
                }
                self.$resources.drain(..resources_done);
                head
            }
        }
    };
}

const fn one<T>(_: &T) -> u64 {
    1
}

const fn indivisible<T>(_: &mut T, _: usize) -> Option<T> {
    None
}

fn points(metric: &Metric) -> u64 {
    point_count(metric) as u64
}

/// Removes the first data points of a metric, as many as fit but at least one; `None` if it has just one.
fn first_points(metric: &mut Metric, limit: usize) -> Option<Metric> {
    fn cut<P: Message>(points: &mut Vec<P>, limit: usize) -> Vec<P> {
        let mut size = 0;
        let fitting = points.iter().take_while(|point| {
            size += point.encoded_len() + OVERHEAD;
            size <= limit
        });
        let fitting = fitting.count().max(1);
        let rest = points.split_off(fitting);
        std::mem::replace(points, rest)
    }
    if point_count(metric) < 2 {
        return None;
    }
    let data = match metric.data.as_mut()? {
        Data::Gauge(it) => Data::Gauge(Gauge { data_points: cut(&mut it.data_points, limit) }),
        Data::Sum(it) => Data::Sum(Sum { data_points: cut(&mut it.data_points, limit), ..*it }),
        Data::Histogram(it) => Data::Histogram(Histogram { data_points: cut(&mut it.data_points, limit), ..*it }),
        Data::ExponentialHistogram(it) => {
            Data::ExponentialHistogram(ExponentialHistogram { data_points: cut(&mut it.data_points, limit), ..*it })
        }
        Data::Summary(it) => Data::Summary(Summary { data_points: cut(&mut it.data_points, limit) }),
    };
    let left = metric.data.take();
    let first = Metric { data: Some(data), ..metric.clone() };
    metric.data = left;
    Some(first)
}

splittable!(ExportTraceServiceRequest { resource_spans { scope_spans { spans: one, indivisible } } });
splittable!(ExportLogsServiceRequest { resource_logs { scope_logs { log_records: one, indivisible } } });
splittable!(ExportMetricsServiceRequest { resource_metrics { scope_metrics { metrics: points, first_points } } });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{
        NumberDataPoint, ResourceMetrics, ResourceSpans, ScopeMetrics, ScopeSpans, Span, string_attribute,
    };

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

    #[test]
    fn an_encoded_request_is_split_without_loss() {
        for (spans, bytes, limit) in [(5, 100, 1), (5, 100, 330), (100, 100, 2_000), (2, 5_000, 600)] {
            let (mut body, mut parts, mut found) = (request(spans, bytes).encode_to_vec(), 0, 0);
            while let Some(split) = split(Signal::Traces, &body, limit) {
                assert!(
                    split.head.len() <= limit || split.head_items == 1,
                    "{} of {}",
                    split.head.len(),
                    split.head_items
                );
                assert_eq!(
                    ExportTraceServiceRequest::decode(&*split.head).expect("a request").items(),
                    split.head_items
                );
                assert_eq!(
                    ExportTraceServiceRequest::decode(&*split.rest).expect("a request").items(),
                    split.rest_items
                );
                found += split.head_items;
                parts += 1;
                body = split.rest;
            }
            found += ExportTraceServiceRequest::decode(&*body).expect("a request").items();
            assert_eq!(found, spans as u64, "{parts} parts of {limit}");
            assert!(parts > 0);
        }
        assert_eq!(split(Signal::Traces, &request(1, 10).encode_to_vec(), 1), None, "one item is not split");
        assert_eq!(split(Signal::Logs, b"\xff", 1), None);
    }

    #[test]
    fn data_points_of_one_metric_are_split() {
        let points = |count: u64| (0..count).map(|at| NumberDataPoint { time_unix_nano: at + 1, ..Default::default() });
        let kinds = [
            Data::Gauge(Gauge { data_points: points(9).collect() }),
            Data::Sum(Sum { data_points: points(9).collect(), aggregation_temporality: 2, is_monotonic: true }),
        ];
        for data in kinds {
            let metric = Metric { name: "tokens".to_owned(), data: Some(data.clone()), ..Metric::default() };
            let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
            let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
            let mut request = ExportMetricsServiceRequest { resource_metrics: vec![resource] };
            let head = request.take_head(120);
            assert_eq!(head.items() + request.items(), 9);
            assert!(head.items() > 1 && request.items() > 1, "{}", head.items());
            for part in [head, request] {
                let metric = &part.resource_metrics[0].scope_metrics[0].metrics[0];
                assert_eq!(metric.name, "tokens");
                let is_like =
                    std::mem::discriminant(metric.data.as_ref().expect("points")) == std::mem::discriminant(&data);
                assert!(is_like);
                if let Some(Data::Sum(sum)) = &metric.data {
                    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                }
            }
        }
    }
}
