//! Writes families received by OTLP from their snapshot, whose names and labels are already valid and escaped.
//!
//! Omits what a parser would reject: in OpenMetrics sum and count of histograms with negative buckets, and NaN everywhere.

use super::format::ExpositionFormat;
use super::series::{SeriesWriter, write_number};
use crate::model::telemetry::{MetricFamily, MetricKind, MetricSeries, MetricValue, Telemetry};

/// Writes all families that have a visible series.
pub(super) fn write(writer: &mut SeriesWriter<'_>, telemetry: &Telemetry) {
    for family in &telemetry.families {
        let mut visible = family
            .order
            .iter()
            .filter_map(|slot| family.series.get(*slot))
            .filter(|series| family.kind != MetricKind::Gauge || is_visible(series, telemetry));
        let Some(first) = visible.next() else { continue };
        if !writer.is_open() {
            return;
        }
        declare(writer, family);
        for series in std::iter::once(first).chain(visible) {
            write_series(writer, family, series);
        }
    }
}

fn is_visible(series: &MetricSeries, telemetry: &Telemetry) -> bool {
    series.seen >= telemetry.gauges_since && !matches!(series.value, MetricValue::Number(value) if value.is_nan())
}

fn declare(writer: &mut SeriesWriter<'_>, family: &MetricFamily) {
    let kind = match family.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Summary => "summary",
    };
    let (format, out) = (writer.format(), writer.buffer());
    let name = match (format, family.kind) {
        (ExpositionFormat::OpenMetrics, MetricKind::Counter) => {
            family.name.strip_suffix("_total").unwrap_or(&family.name)
        }
        _ => &*family.name,
    };
    push_all(out, &["# HELP ", name, " "]);
    for byte in family.help.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' if format == ExpositionFormat::OpenMetrics => out.extend_from_slice(b"\\\""),
            other => out.push(other),
        }
    }
    push_all(out, &["\n# TYPE ", name, " ", kind, "\n"]);
}

fn write_series(writer: &mut SeriesWriter<'_>, family: &MetricFamily, series: &MetricSeries) {
    let format = writer.format();
    let (name, labels) = (&*family.name, &*series.labels);
    match &series.value {
        MetricValue::Number(value) => line(writer, [name, ""], labels, None, *value),
        MetricValue::Histogram(buckets) => {
            let negative = buckets.bounds.first().is_some_and(|bound| *bound < 0.0);
            write_buckets(
                writer,
                name,
                labels,
                buckets.cumulative(),
                buckets.sum,
                negative && format == ExpositionFormat::OpenMetrics,
            );
        }
        MetricValue::Exponential(histogram) => {
            let buckets = histogram.cumulative();
            let negative = buckets.first().is_some_and(|(bound, _)| *bound < 0.0);
            let sum = histogram.sum();
            write_buckets(
                writer,
                name,
                labels,
                buckets.into_iter(),
                sum,
                negative && format == ExpositionFormat::OpenMetrics,
            );
        }
        MetricValue::Summary(summary) => {
            for (quantile, value) in &summary.values {
                line(writer, [name, ""], labels, Some(("quantile", *quantile)), *value);
            }
            line(writer, [name, "_sum"], labels, None, summary.sum);
            line(writer, [name, "_count"], labels, None, summary.count as f64);
        }
    }
}

fn write_buckets(
    writer: &mut SeriesWriter<'_>,
    name: &str,
    labels: &str,
    buckets: impl Iterator<Item = (f64, u64)>,
    sum: f64,
    omit_totals: bool,
) {
    let mut count = 0;
    for (bound, below) in buckets {
        count = below;
        line(writer, [name, "_bucket"], labels, Some(("le", bound)), below as f64);
    }
    if !omit_totals {
        line(writer, [name, "_sum"], labels, None, sum);
        line(writer, [name, "_count"], labels, None, count as f64);
    }
}

fn line(writer: &mut SeriesWriter<'_>, name: [&str; 2], labels: &str, extra: Option<(&str, f64)>, value: f64) {
    if value.is_nan() {
        return;
    }
    let out = writer.buffer();
    push_all(out, &name);
    if !labels.is_empty() || extra.is_some() {
        push_all(out, &["{", labels]);
        if let Some((label, bound)) = extra {
            push_all(out, &[if labels.is_empty() { "" } else { "," }, label, "=\""]);
            write_bound(out, bound);
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
    write_number(out, value);
    out.push(b'\n');
}

fn push_all(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// Writes the bound of a bucket in the canonical form of OpenMetrics: `0.5`, `10.0`, `1e+06`, `+Inf`.
fn write_bound(out: &mut Vec<u8>, bound: f64) {
    if bound.is_infinite() {
        out.extend_from_slice(if bound > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    // The shortest digits that parse to the same value, and the exponent.
    let text = format!("{bound:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = power.parse().unwrap_or(0);
    if bound != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { "-" } else { "+" };
        push_all(out, &[digits, "e", sign, &format!("{:02}", exponent.abs())]);
    } else {
        push_all(out, &[&format!("{bound:?}")]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::telemetry::{Buckets, Quantiles};
    use crate::model::{Slab, Time};

    #[test]
    fn bounds_are_written_in_canonical_form() {
        for (bound, expected) in [
            (0.0, "0.0"),
            (-0.5, "-0.5"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (10.0, "10.0"),
            (123_456.0, "123456.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = Vec::new();
            write_bound(&mut out, bound);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    fn family(name: &str, kind: MetricKind, help: &str, series: &[(&str, MetricValue)]) -> Arc<MetricFamily> {
        let mut slab = Slab::default();
        let order = series.iter().map(|(labels, value)| {
            let seen = Time::from_millis(1_000);
            slab.insert_with(|_| MetricSeries { labels: Arc::from(*labels), value: value.clone(), seen })
        });
        let order = order.collect();
        Arc::new(MetricFamily { name: Arc::from(name), kind, help: Arc::from(help), series: slab, order })
    }

    fn page(format: ExpositionFormat, gauges_since: i64) -> String {
        let buckets = Buckets { bounds: Arc::from([-1.0, 0.5]), counts: Box::from([1, 2, 3]), sum: 4.25 };
        let quantiles = Quantiles { values: Box::from([(0.5, 1.5)]), count: 7, sum: 9.0 };
        let telemetry = Telemetry {
            generation: 1,
            families: vec![
                family("a_total", MetricKind::Counter, "say \"a\\b\"", &[("", MetricValue::Number(1.0))]),
                family(
                    "b",
                    MetricKind::Gauge,
                    "b",
                    &[("x=\"1\"", MetricValue::Number(0.5)), ("x=\"2\"", MetricValue::Number(f64::NAN))],
                ),
                family("c", MetricKind::Histogram, "c", &[("x=\"1\"", MetricValue::Histogram(Box::new(buckets)))]),
                family("d", MetricKind::Summary, "d", &[("", MetricValue::Summary(Box::new(quantiles)))]),
            ],
            gauges_since: Time::from_millis(gauges_since),
        };
        let (mut out, mut flush) = (Vec::new(), |_: &mut Vec<u8>| true);
        write(&mut SeriesWriter::new(format, &mut out, &mut flush), &telemetry);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn families_are_written_in_both_formats() {
        insta::assert_snapshot!(page(ExpositionFormat::Text, 1_000), @r#"
        # HELP a_total say "a\\b"
        # TYPE a_total counter
        a_total 1
        # HELP b b
        # TYPE b gauge
        b{x="1"} 0.5
        # HELP c c
        # TYPE c histogram
        c_bucket{x="1",le="-1.0"} 1
        c_bucket{x="1",le="0.5"} 3
        c_bucket{x="1",le="+Inf"} 6
        c_sum{x="1"} 4.25
        c_count{x="1"} 6
        # HELP d d
        # TYPE d summary
        d{quantile="0.5"} 1.5
        d_sum 9
        d_count 7
        "#);
        insta::assert_snapshot!(page(ExpositionFormat::OpenMetrics, 1_001), @r#"
        # HELP a say \"a\\b\"
        # TYPE a counter
        a_total 1
        # HELP c c
        # TYPE c histogram
        c_bucket{x="1",le="-1.0"} 1
        c_bucket{x="1",le="0.5"} 3
        c_bucket{x="1",le="+Inf"} 6
        # HELP d d
        # TYPE d summary
        d{quantile="0.5"} 1.5
        d_sum 9
        d_count 7
        "#);
    }
}
