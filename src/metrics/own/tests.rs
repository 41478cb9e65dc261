//! Tests of `metrics::own`.

use std::time::Duration;

use super::*;

fn line<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

fn check(own: &SidecarMetrics, expected: &[(&str, Option<&str>)]) {
    let text = own.text(ExpositionFormat::Text);
    for (series, value) in expected {
        assert_eq!(line(&text, series), *value, "{series}\n{text}");
    }
}

#[test]
fn closed_label_sets_start_at_0() {
    let own = SidecarMetrics::new();
    own.set_receivers(&[], &[Arc::from("ops")]);
    check(
        &own,
        &[
            ("lookout_build_info{version=\"0.1.0\"}", Some("1")),
            ("lookout_ingested_total{signal=\"poll\"}", Some("0")),
            ("lookout_rejected_total{signal=\"usage\",reason=\"duplicate\"}", Some("0")),
            ("lookout_notifications_total{receiver=\"ops\"}", Some("0")),
            ("lookout_notifications_failed_total{receiver=\"ops\",reason=\"auth\"}", Some("0")),
            ("lookout_notifications_suppressed_total{reason=\"inhibited\"}", Some("0")),
            ("lookout_notification_latency_seconds_count{receiver=\"ops\"}", Some("0")),
            ("lookout_queue_length{queue=\"control\"}", Some("0")),
        ],
    );
}

#[test]
fn counted_values_are_exposed() {
    let own = SidecarMetrics::new();
    own.set_receivers(&[], &[Arc::from("ops")]);
    own.ingested(InputKind::State, 100);
    own.ingested(InputKind::Poll, 3);
    own.rejected(InputKind::State, RejectReason::SeriesCap, 2);
    own.evaluated(Duration::from_micros(20));
    own.outbox("ops", 4, 1.5);
    own.suppressed("cooldown", 2);
    own.suppressed("silenced", 1);
    own.lag(0.25);
    own.queue("bulk", 7);
    own.store_error();
    own.reloaded(Time::from_millis(1_500), true);
    own.reloaded(Time::from_millis(9_000), false);
    own.delivered("ops", Duration::from_millis(40));
    own.delivered("ops", Duration::from_millis(50));
    own.failed("ops", "auth");
    check(
        &own,
        &[
            ("lookout_ingested_total{signal=\"state\"}", Some("100")),
            ("lookout_ingested_total{signal=\"usage\"}", Some("0")),
            ("lookout_ingested_total{signal=\"poll\"}", Some("3")),
            ("lookout_rejected_total{signal=\"state\",reason=\"series_cap\"}", Some("2")),
            ("lookout_evaluation_duration_seconds_bucket{le=\"0.00001\"}", Some("0")),
            ("lookout_evaluation_duration_seconds_count", Some("1")),
            ("lookout_outbox_pending{receiver=\"ops\"}", Some("4")),
            ("lookout_outbox_oldest_age_seconds{receiver=\"ops\"}", Some("1.5")),
            ("lookout_notifications_suppressed_total{reason=\"cooldown\"}", Some("2")),
            ("lookout_notifications_suppressed_total{reason=\"silenced\"}", Some("1")),
            ("lookout_engine_lag_seconds", Some("0.25")),
            ("lookout_queue_length{queue=\"bulk\"}", Some("7")),
            ("lookout_store_errors_total", Some("1")),
            ("lookout_config_last_reload_successful", Some("0")),
            ("lookout_config_last_reload_success_timestamp_seconds", Some("1.5")),
            ("lookout_notifications_total{receiver=\"ops\"}", Some("2")),
            ("lookout_notifications_failed_total{receiver=\"ops\",reason=\"auth\"}", Some("1")),
            ("lookout_notification_latency_seconds_bucket{le=\"0.025\",receiver=\"ops\"}", Some("0")),
            ("lookout_notification_latency_seconds_bucket{le=\"0.05\",receiver=\"ops\"}", Some("2")),
        ],
    );
}

#[test]
fn a_removed_receiver_has_no_series_and_the_others_keep_their_counts() {
    let own = SidecarMetrics::new();
    let (before, now) = (["ops", "oncall"].map(Arc::from), ["ops", "new\"one"].map(Arc::from));
    own.set_receivers(&[], &before);
    own.delivered("ops", Duration::ZERO);
    own.set_receivers(&before, &now);
    // Deliveries that were still in flight.
    own.delivered("oncall", Duration::ZERO);
    own.failed("oncall", "auth");
    own.outbox("oncall", 1, 1.0);
    let text = own.text(ExpositionFormat::Text);
    assert!(!text.contains("oncall"), "{text}");
    assert_eq!(line(&text, "lookout_notifications_total{receiver=\"ops\"}"), Some("1"));
    assert_eq!(line(&text, "lookout_notifications_total{receiver=\"new\\\"one\"}"), Some("0"));
}

#[test]
fn counters_are_declared_as_each_format_requires() {
    let own = SidecarMetrics::new();
    let (text, open_metrics) = (own.text(ExpositionFormat::Text), own.text(ExpositionFormat::OpenMetrics));
    for declared in ["# HELP lookout_ingested_total Total number", "# TYPE lookout_ingested_total counter\n"] {
        assert!(text.contains(declared) && !open_metrics.contains(declared), "{declared}");
    }
    assert!(open_metrics.contains("# TYPE lookout_ingested counter\n"));
    assert!(open_metrics.contains("# UNIT lookout_engine_lag_seconds seconds\n") && !text.contains("# UNIT"));
    assert!(!text.contains("# EOF") && !open_metrics.contains("# EOF"), "the page ends it");
}

#[test]
fn process_metrics_are_present() {
    let text = SidecarMetrics::new().text(ExpositionFormat::Text);
    let value = |name: &str| line(&text, name).and_then(|value| value.parse::<f64>().ok()).expect(name);
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
    assert!(value("process_start_time_seconds") > 1_500_000_000.0);
    assert!(value("process_threads") >= 1.0);
}
