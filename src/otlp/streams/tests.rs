//! Streams and series with simple times: what counts, what is exposed, what is rejected.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::otlp::wire::{
    Buckets, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, KeyValue,
    Number, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, string_attribute,
};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
const NOW: Time = Time::from_millis(1_000_000);
/// A second, in the nanoseconds of points; `NOW` is the thousandth.
const S: u64 = 1_000_000_000;

fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, text)| string_attribute(key, text)).collect()
}

fn number(attributes: &[(&str, &str)], start: u64, time: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: pairs(attributes),
        start_time_unix_nano: start * S,
        time_unix_nano: time * S,
        value: Some(Number::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn named(name: &str) -> Metric {
    Metric { name: name.to_owned(), ..Metric::default() }
}

fn sum(name: &str, temporality: i32, is_monotonic: bool, points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum { data_points: points, aggregation_temporality: temporality, is_monotonic };
    Metric { data: Some(Data::Sum(sum)), ..named(name) }
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    Metric { data: Some(Data::Gauge(Gauge { data_points: points })), ..named(name) }
}

fn histogram(temporality: i32, point: HistogramDataPoint) -> Metric {
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: temporality };
    Metric { data: Some(Data::Histogram(histogram)), ..named("h") }
}

fn observed(start: u64, time: u64, counts: &[u64], bounds: &[f64], sum: f64) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: start * S,
        time_unix_nano: time * S,
        count: counts.iter().sum(),
        sum: Some(sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: None, metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource: None, scope_metrics, ..ResourceMetrics::default() }],
    }
}

fn table() -> StreamTable {
    StreamTable::new(42, &OtlpConfig::default())
}

fn apply(table: &mut StreamTable, metric: Metric) -> Vec<(RejectReason, u64)> {
    table.apply(NOW, &request(vec![metric])).rejected().collect()
}

/// All series, as `name{labels} value`.
fn shown(table: &mut StreamTable) -> String {
    let mut out = String::new();
    for family in &table.snapshot(NOW).families {
        for series in family.order.iter().filter_map(|slot| family.series.get(*slot)) {
            let value = match &series.value {
                MetricValue::Number(value) => value.to_string(),
                MetricValue::Histogram(it) => format!("{:?} sum {}", it.cumulative().collect::<Vec<_>>(), it.sum),
                MetricValue::Exponential(it) => format!("{:?} sum {}", it.cumulative(), it.sum()),
                MetricValue::Summary(it) => format!("{:?} sum {} count {}", it.values, it.sum, it.count),
            };
            writeln!(out, "{}{{{}}} {value}", family.name, series.labels).expect("a string");
        }
    }
    out
}

#[test]
fn deltas_add_up_and_duplicates_count_once() {
    let mut table = table();
    let point = |start, time, value| sum("c", DELTA, true, vec![number(&[], start, time, value)]);
    assert_eq!(apply(&mut table, point(10, 20, 5.0)), []);
    assert_eq!(apply(&mut table, point(20, 30, 2.5)), []);
    assert_eq!(apply(&mut table, point(20, 30, 2.5)), [(RejectReason::Duplicate, 1)], "sent again");
    assert_eq!(apply(&mut table, point(25, 40, 9.0)), [(RejectReason::Duplicate, 1)], "overlaps a counted interval");
    assert_eq!(apply(&mut table, point(10, 20, 5.0)), [(RejectReason::Duplicate, 1)], "sent again, late");
    assert_eq!(apply(&mut table, point(100, 110, 1.0)), [], "after a gap");
    assert_eq!(apply(&mut table, point(0, 120, 1.0)), [], "without a start time");
    assert_eq!(shown(&mut table), "c_total{} 9.5\n");
}

#[test]
fn deltas_of_one_body_count_in_any_order() {
    let mut table = table();
    let points = [(30, 40, 1.0), (10, 20, 2.0), (20, 30, 4.0), (10, 20, 2.0), (0, 5, 8.0)];
    let points = points.map(|(start, time, value)| number(&[], start, time, value)).to_vec();
    assert_eq!(apply(&mut table, sum("c", DELTA, true, points)), [(RejectReason::Duplicate, 1)]);
    let observed =
        [(20, 30, [1, 1]), (10, 20, [0, 2])].map(|(start, time, counts)| observed(start, time, &counts, &[1.0], 2.0));
    for point in observed {
        assert_eq!(apply(&mut table, histogram(DELTA, point)), []);
    }
    assert_eq!(shown(&mut table), "c_total{} 15\nh{} [(1.0, 1), (inf, 4)] sum 4\n");
}

#[test]
fn processes_that_are_alike_in_all_attributes_are_one_series_and_grow_by_what_they_count() {
    let mut table = table();
    for round in 0..20 {
        for (start, value) in [(10, 5.0), (12, 3.0)] {
            let time = 100 + 10 * round + start;
            assert_eq!(apply(&mut table, sum("c", CUMULATIVE, true, vec![number(&[], start, time, value)])), []);
            let counts = [1, 0];
            assert_eq!(apply(&mut table, histogram(CUMULATIVE, observed(start, time, &counts, &[1.0], value))), []);
        }
    }
    assert_eq!(shown(&mut table), "c_total{} 8\nh{} [(1.0, 2), (inf, 2)] sum 8\n");
}

#[test]
fn cumulative_counts_follow_their_start() {
    let mut table = table();
    let point = |start, time, value| sum("c", CUMULATIVE, true, vec![number(&[], start, time, value)]);
    assert_eq!(apply(&mut table, point(10, 20, 0.1)), []);
    assert_eq!(apply(&mut table, point(10, 30, 0.3)), []);
    assert_eq!(shown(&mut table), "c_total{} 0.3\n", "the very number that was sent");
    assert_eq!(apply(&mut table, point(10, 30, 0.3)), [(RejectReason::Duplicate, 1)]);
    assert_eq!(apply(&mut table, point(10, 25, 0.2)), [(RejectReason::Stale, 1)], "out of order");
    assert_eq!(apply(&mut table, point(40, 50, 0.2)), [], "a reset");
    assert_eq!(apply(&mut table, point(10, 60, 0.3)), [], "the one before has not ended");
    assert_eq!(apply(&mut table, point(40, 60, 0.5)), []);
    assert_eq!(shown(&mut table), "c_total{} 0.8\n");
    assert_eq!(apply(&mut table, point(40, 70, 0.25)), [], "fell, so it is another one");
    assert_eq!(shown(&mut table), "c_total{} 1.05\n");
}

#[test]
fn what_a_process_held_is_gone_with_it_and_what_it_counted_stays() {
    let mut table = table();
    let mut send = |process: &str, metric: Metric| {
        let mut request = request(vec![metric]);
        let attributes = pairs(&[("service.instance.id", "one"), ("process.id", process)]);
        request.resource_metrics[0].resource = Some(Resource { attributes, ..Resource::default() });
        assert_eq!(table.apply(NOW, &request).rejected().count(), 0);
        let shown = shown(&mut table);
        shown
            .lines()
            .find(|line| !line.starts_with("target"))
            .and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned)
    };
    let held = |start, value| sum("held", CUMULATIVE, false, vec![number(&[], start, start + 5, value)]);
    assert_eq!(send("1", held(10, 3.0)).as_deref(), Some("3"));
    assert_eq!(send("2", held(20, 2.0)).as_deref(), Some("2"));
    let counted = |start, value| sum("counted", CUMULATIVE, true, vec![number(&[], start, start + 5, value)]);
    assert_eq!(send("1", counted(10, 3.0)).as_deref(), Some("3"));
    assert_eq!(send("2", counted(20, 2.0)).as_deref(), Some("5"));
}

#[test]
fn sessions_add_up_in_one_series() {
    let mut table = table();
    for (session, start, time, value) in
        [("a", 10, 20, 1.0), ("b", 12, 19, 2.0), ("a", 20, 30, 4.0), ("b", 19, 31, 8.0)]
    {
        let point = number(&[("session.id", session), ("model", "m")], start, time, value);
        assert_eq!(apply(&mut table, sum("c", DELTA, true, vec![point])), []);
    }
    for (session, time, value) in [("a", 20, 3.0), ("b", 20, 5.0), ("a", 30, 1.0)] {
        let point = number(&[("session.id", session)], 10, time, value);
        assert_eq!(apply(&mut table, sum("q", CUMULATIVE, false, vec![point])), []);
    }
    assert_eq!(shown(&mut table), "c_total{model=\"m\"} 15\nq{} 6\n");
}

#[test]
fn gauges_expose_the_last_value_until_the_stream_ends() {
    let mut table = table();
    assert_eq!(apply(&mut table, gauge("g", vec![number(&[], 0, 20, 1.0), number(&[], 0, 30, 2.0)])), []);
    assert_eq!(apply(&mut table, gauge("g", vec![number(&[], 0, 25, 9.0)])), [(RejectReason::Stale, 1)]);
    assert_eq!(apply(&mut table, gauge("g", vec![number(&[], 0, 40, f64::NAN)])), [(RejectReason::Value, 1)]);
    assert_eq!(shown(&mut table), "g{} 2\n");
    let seen = |table: &mut StreamTable| table.snapshot(NOW).families[0].series.iter().next().map(|series| series.seen);
    assert_eq!(seen(&mut table), Some(NOW));
    let over = NumberDataPoint { flags: 1, value: None, ..number(&[], 0, 50, 0.0) };
    assert_eq!(apply(&mut table, gauge("g", vec![over])), []);
    assert_eq!(seen(&mut table), Some(Time::default()), "older than any gauge that is exposed");
}

#[test]
fn a_start_time_in_the_future_blocks_no_later_point() {
    let mut table = table();
    for (start, time, value) in [(900, 20, 5.0), (10, 30, 7.0)] {
        assert_eq!(apply(&mut table, sum("held", CUMULATIVE, false, vec![number(&[], start, time, value)])), []);
    }
    assert_eq!(shown(&mut table), "held{} 7\n");
}

#[test]
fn histograms_add_up_by_bucket() {
    let mut table = table();
    for (start, time, counts, total) in [(10, 20, [1, 2, 0], 1.5), (20, 30, [0, 1, 4], 50.5)] {
        assert_eq!(apply(&mut table, histogram(DELTA, observed(start, time, &counts, &[0.5, 1.0], total))), []);
    }
    assert_eq!(shown(&mut table), "h{} [(0.5, 1), (1.0, 4), (inf, 8)] sum 52\n");
    let other = histogram(DELTA, observed(30, 40, &[1, 1], &[7.0], 1.0));
    assert_eq!(
        apply(&mut table, other.clone()),
        [(RejectReason::Buckets, 1)],
        "other buckets than those of the series"
    );
    let later = NOW.plus(Duration::from_secs(600));
    assert_eq!(table.apply(later, &request(vec![other])).accepted, 1, "unless the old ones are stale");
    assert_eq!(shown(&mut table), "h{} [(7.0, 1), (inf, 2)] sum 1\n");
    for wrong in [
        observed(0, 1, &[1], &[0.5], 0.0),
        observed(0, 1, &[1, 1, 1], &[0.5, 0.5], 0.0),
        observed(0, 1, &[1, 1], &[f64::NAN], 0.0),
        observed(0, 1, &[0; 1_002], &[0.0; 1_001], 0.0),
    ] {
        assert_eq!(apply(&mut table, histogram(DELTA, wrong)), [(RejectReason::Buckets, 1)]);
    }
}

#[test]
fn cumulative_histograms_follow_their_start_time() {
    let mut table = table();
    let point = |start, time, counts: [u64; 2], sum| histogram(CUMULATIVE, observed(start, time, &counts, &[0.5], sum));
    assert_eq!(apply(&mut table, point(10, 20, [1, 1], 1.1)), []);
    assert_eq!(apply(&mut table, point(10, 30, [1, 3], 4.3)), []);
    assert_eq!(shown(&mut table), "h{} [(0.5, 1), (inf, 4)] sum 4.3\n");
    assert_eq!(apply(&mut table, point(40, 50, [1, 1], 1.0)), [], "a reset");
    assert_eq!(apply(&mut table, point(40, 60, [2, 1], 1.5)), []);
    assert_eq!(shown(&mut table), "h{} [(0.5, 3), (inf, 7)] sum 5.8\n");
    let infinite = observed(40, 70, &[2, 1, 0], &[0.5, f64::INFINITY], 1.5);
    assert_eq!(apply(&mut table, histogram(CUMULATIVE, infinite)), [], "a last bound of infinity is the last bucket");
    let bare = HistogramDataPoint { bucket_counts: vec![], explicit_bounds: vec![], ..observed(0, 10, &[3], &[], 2.0) };
    let bare = Metric { name: "bare".to_owned(), ..histogram(CUMULATIVE, bare) };
    assert_eq!(apply(&mut table, bare), []);
    assert_eq!(shown(&mut table), "bare{} [(inf, 3)] sum 2\nh{} [(0.5, 3), (inf, 7)] sum 5.8\n");
}

#[test]
fn exponential_histograms_become_ordinary_buckets() {
    let mut table = table();
    for (time, temporality, counts) in [(20, CUMULATIVE, [1, 2]), (30, CUMULATIVE, [1, 3])] {
        let point = ExponentialHistogramDataPoint {
            start_time_unix_nano: 10 * S,
            time_unix_nano: time * S,
            sum: Some(counts[1] as f64),
            zero_count: 1,
            positive: Some(Buckets { offset: 0, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        };
        let histogram = ExponentialHistogram { data_points: vec![point], aggregation_temporality: temporality };
        assert_eq!(apply(&mut table, Metric { data: Some(Data::ExponentialHistogram(histogram)), ..named("x") }), []);
    }
    assert_eq!(shown(&mut table), "x{} [(0.0, 1), (2.0, 2), (4.0, 5), (inf, 5)] sum 3\n");
}

#[test]
fn summaries_are_shown_as_sent() {
    let quantile = |quantile, value| crate::otlp::wire::ValueAtQuantile { quantile, value };
    let point = SummaryDataPoint {
        time_unix_nano: 10 * S,
        count: 4,
        sum: 2.5,
        quantile_values: vec![quantile(0.9, 2.0), quantile(0.5, 1.0), quantile(7.0, 1.0)],
        ..SummaryDataPoint::default()
    };
    let mut table = table();
    let summary = Metric { data: Some(Data::Summary(Summary { data_points: vec![point] })), ..named("s") };
    assert_eq!(apply(&mut table, summary), []);
    assert_eq!(shown(&mut table), "s{} [(0.5, 1.0), (0.9, 2.0)] sum 2.5 count 4\n");
}

#[test]
fn resources_and_scopes_become_labels_and_target_info() {
    let resource = Resource {
        attributes: pairs(&[
            ("service.name", "shop"),
            ("service.instance.id", "i"),
            ("host.name", "box"),
            ("user.email", "a@b"),
            ("process.command_args", "say this"),
        ]),
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "lib".to_owned(), ..InstrumentationScope::default() };
    let metrics = vec![sum("c", DELTA, true, vec![number(&[], 1, 2, 1.0)])];
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let mut table = table();
    table.apply(
        NOW,
        &ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource),
                scope_metrics,
                ..ResourceMetrics::default()
            }],
        },
    );
    let expected = "c_total{instance=\"i\",job=\"shop\",otel_scope_name=\"lib\"} 1\n\
                    target_info{host_name=\"box\",instance=\"i\",job=\"shop\"} 1\n";
    assert_eq!(shown(&mut table), expected);
}

#[test]
fn names_that_would_collide_are_rejected() {
    let mut table = table();
    let point = || vec![number(&[], 1, 2, 1.0)];
    assert_eq!(apply(&mut table, sum("a", DELTA, true, point())), []);
    assert_eq!(apply(&mut table, gauge("a", point())), [(RejectReason::Conflict, 1)], "one family, two types");
    assert_eq!(apply(&mut table, gauge("a_total", point())), [(RejectReason::Conflict, 1)]);
    assert_eq!(apply(&mut table, gauge("h.count", point())), []);
    assert_eq!(apply(&mut table, histogram(DELTA, observed(1, 2, &[1], &[], 1.0))), [(RejectReason::Conflict, 1)]);
    assert_eq!(apply(&mut table, gauge("…", point())), [(RejectReason::Name, 1)]);
    assert_eq!(apply(&mut table, sum("b", 0, true, point())), [(RejectReason::Temporality, 1)]);
    assert_eq!(apply(&mut table, sum("b", DELTA, true, vec![number(&[], 1, 2, -1.0)])), [(RejectReason::Value, 1)]);
    assert_eq!(apply(&mut table, gauge("b", vec![number(&[], 1, 99_999_999, 1.0)])), [(RejectReason::Time, 1)]);
    assert_eq!(shown(&mut table), "a_total{} 1\nh_count{} 1\n");
}

#[test]
fn caps_hold_and_known_series_continue() {
    let config = OtlpConfig { max_series: 5, max_series_per_metric: 3, max_labels: 2, ..OtlpConfig::default() };
    let mut table = StreamTable::new(42, &config);
    let point = |name: &str, time| number(&[("k", name)], 0, time, 1.0);
    let points = |time| ["a", "b", "c", "d"].map(|name| point(name, time)).to_vec();
    assert_eq!(apply(&mut table, sum("m", DELTA, true, points(1))), [(RejectReason::SeriesCap, 1)]);
    assert_eq!(apply(&mut table, sum("n", DELTA, true, points(1))), [(RejectReason::SeriesCap, 2)]);
    assert_eq!(apply(&mut table, sum("m", DELTA, true, vec![point("a", 2)])), []);
    let wide = number(&[("a", "1"), ("b", "1"), ("c", "1")], 0, 1, 1.0);
    assert_eq!(apply(&mut StreamTable::new(42, &config), gauge("g", vec![wide])), [(RejectReason::Labels, 1)]);
    assert_eq!(
        apply(&mut StreamTable::new(42, &config), histogram(DELTA, observed(0, 1, &[0; 4], &[1.0, 2.0, 3.0], 0.0))),
        [(RejectReason::SeriesCap, 1)]
    );
    assert_eq!(shown(&mut table).lines().next(), Some("m_total{k=\"a\"} 2"));
    assert_eq!(table.streams(), 5);
}

#[test]
fn idle_streams_continue_and_expired_ones_make_room() {
    let config = OtlpConfig { max_series: 2, ..OtlpConfig::default() };
    let mut table = StreamTable::new(42, &config);
    let of = |session: &str, time, value| {
        sum("q", CUMULATIVE, false, vec![number(&[("session.id", session)], 0, time, value)])
    };
    assert_eq!(apply(&mut table, of("a", 1, 4.0)), []);
    let day = Duration::from_secs(24 * 3600);
    table.expire(NOW.plus(day));
    assert_eq!(shown(&mut table), "q{} 4\n", "a day is not too long");
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(table.apply(later, &request(vec![of("b", 1, 1.0)])).accepted, 1);
    assert_eq!(apply(&mut table, of("c", 1, 1.0)), [(RejectReason::SeriesCap, 1)]);
    table.expire(later.plus(day));
    assert_eq!(shown(&mut table), "q{} 1\n", "the value of an expired UpDownCounter is subtracted");
    assert_eq!(apply(&mut table, of("c", 1, 1.0)), []);
    table.expire(later.plus(day + day));
    assert_eq!((shown(&mut table).as_str(), table.streams()), ("", 0));
    assert_eq!(
        apply(&mut table, gauge("q", vec![number(&[], 0, 1, 1.0)])),
        [],
        "a name that is free can get another type"
    );
}

#[test]
fn dropping_an_attribute_removes_series_at_once() {
    let mut table = table();
    let point = || sum("c", DELTA, true, vec![number(&[("secret", "s")], 0, 1, 1.0)]);
    apply(&mut table, point());
    assert_eq!(shown(&mut table), "c_total{secret=\"s\"} 1\n");
    table.configure(&OtlpConfig { max_series: 7, ..OtlpConfig::default() });
    assert_eq!(shown(&mut table), "c_total{secret=\"s\"} 1\n");
    table.configure(&OtlpConfig { drop_attributes: vec!["secret".to_owned()], ..OtlpConfig::default() });
    assert_eq!(shown(&mut table), "");
    apply(&mut table, point());
    assert_eq!(shown(&mut table), "c_total{} 1\n");
}

#[test]
fn a_snapshot_does_not_change() {
    let mut table = table();
    let point = |time, value| sum("c", DELTA, true, vec![number(&[], 0, time, value)]);
    apply(&mut table, point(1, 1.0));
    let before = table.snapshot(NOW);
    let same = table.snapshot(NOW);
    assert!(Arc::ptr_eq(&before.families[0], &same.families[0]), "what did not change is published");
    apply(&mut table, point(2, 1.0));
    let value = |telemetry: &Telemetry| match telemetry.families[0].series.iter().next().expect("one").value {
        MetricValue::Number(value) => value,
        _ => f64::NAN,
    };
    assert_eq!((value(&before), value(&table.snapshot(NOW))), (1.0, 2.0));
    assert!(before.generation < table.snapshot(NOW).generation);
}

proptest! {
    #[test]
    fn accumulated_deltas_equal_their_sum(
        points in prop::collection::vec((0..3_usize, 1..9_u64, 0..1_000_u32, any::<bool>()), 1..60),
    ) {
        let (mut table, mut clocks, mut expected) = (table(), [0_u64; 3], 0_u64);
        for (session, took, value, twice) in points {
            let start = clocks[session];
            clocks[session] += took;
            let name = session.to_string();
            let point = number(&[("session.id", &name)], start, clocks[session], f64::from(value));
            expected += u64::from(value);
            for _ in 0..=u8::from(twice) {
                apply(&mut table, sum("c", DELTA, true, vec![point.clone()]));
            }
        }
        prop_assert_eq!(shown(&mut table), format!("c_total{{}} {expected}\n"));
    }

    #[test]
    fn delta_and_cumulative_of_one_count_are_equal(
        steps in prop::collection::vec((0..1_000_u32, any::<bool>()), 1..40),
    ) {
        let (mut deltas, mut totals) = (table(), table());
        let (mut total, mut began) = (0_u64, 1_u64);
        for (place, (more, is_reset)) in steps.iter().enumerate() {
            let time = 2 * place as u64 + 2;
            if *is_reset {
                (total, began) = (0, time - 1);
            }
            total += u64::from(*more);
            apply(&mut deltas, sum("c", DELTA, true, vec![number(&[], time - 1, time, f64::from(*more))]));
            apply(&mut totals, sum("c", CUMULATIVE, true, vec![number(&[], began, time, total as f64)]));
        }
        prop_assert_eq!(shown(&mut deltas), shown(&mut totals));
    }

    #[test]
    fn any_decoded_request_is_survived(bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        use prost::Message as _;
        let mut table = table();
        for bytes in &bytes {
            // As the body, and as a metric inside a body that is otherwise sound.
            let whole = ExportMetricsServiceRequest::decode(&**bytes).ok();
            let metric = Metric::decode(&**bytes).ok().map(|metric| request(vec![metric]));
            let point = |read: Option<ExponentialHistogramDataPoint>| read.map(|point| {
                let histogram = ExponentialHistogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
                request(vec![Metric { data: Some(Data::ExponentialHistogram(histogram)), ..named("x") }])
            });
            let exponential = point(ExponentialHistogramDataPoint::decode(&**bytes).ok());
            for request in [whole, metric, exponential].into_iter().flatten() {
                table.apply(NOW, &request);
                shown(&mut table);
            }
        }
        table.expire(NOW.plus(Duration::from_secs(99_999_999)));
        prop_assert_eq!(table.streams(), 0);
        prop_assert_eq!((table.series_used, shown(&mut table)), (0, String::new()));
    }
}
