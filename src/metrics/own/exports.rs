//! Metrics of exports to other systems, by target and signal. The series exist while the export does.

use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::family::add;
use super::{FloatGauge, Labels, SidecarMetrics};
use crate::metrics::names;

/// The numbers of one export; those of counters are totals.
#[derive(Clone, Debug, Default)]
pub struct ExportFigures {
    /// Batches that the target took.
    pub batches: u64,
    /// Items that the target took.
    pub items: u64,
    /// Items that the target rejected of batches that it took.
    pub rejected: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Items that were dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Compressed bytes that wait.
    pub waiting_bytes: u64,
    /// Items that wait.
    pub waiting_items: u64,
    /// Age of the oldest batch that waits, in seconds.
    pub oldest_age_seconds: f64,
    /// Unix timestamp of the last success; `None` before the first.
    pub last_success_seconds: Option<f64>,
}

/// The families.
#[derive(Debug)]
pub(super) struct ExportMetrics {
    batches: Family<Labels<2>, Counter>,
    items: Family<Labels<2>, Counter>,
    rejected: Family<Labels<2>, Counter>,
    dropped: Family<Labels<3>, Counter>,
    errors: Family<Labels<2>, Counter>,
    waiting_bytes: Family<Labels<2>, Gauge>,
    waiting_items: Family<Labels<2>, Gauge>,
    oldest_age: Family<Labels<2>, FloatGauge>,
    last_success: Family<Labels<2>, FloatGauge>,
}

impl ExportMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            batches: add(registry, &names::EXPORT_BATCHES, Family::default()),
            items: add(registry, &names::EXPORT_ITEMS, Family::default()),
            rejected: add(registry, &names::EXPORT_REJECTED, Family::default()),
            dropped: add(registry, &names::EXPORT_DROPPED, Family::default()),
            errors: add(registry, &names::EXPORT_ERRORS, Family::default()),
            waiting_bytes: add(registry, &names::EXPORT_WAITING_BYTES, Family::default()),
            waiting_items: add(registry, &names::EXPORT_WAITING_ITEMS, Family::default()),
            oldest_age: add(registry, &names::EXPORT_OLDEST_AGE, Family::default()),
            last_success: add(registry, &names::EXPORT_LAST_SUCCESS, Family::default()),
        }
    }
}

impl SidecarMetrics {
    /// Sets the numbers of the export of `signal` to `target`; both are from closed sets.
    pub fn exports(&self, target: &'static str, signal: &'static str, figures: &ExportFigures) {
        let families = &self.exports;
        let labels = || [("target", target.to_owned()), ("signal", signal.to_owned())];
        let total = |counter: &Family<Labels<2>, Counter>, value: u64| {
            counter.get_or_create_owned(&labels()).inner().store(value, Relaxed);
        };
        let gauge = |gauge: &Family<Labels<2>, Gauge>, value: u64| {
            gauge.get_or_create_owned(&labels()).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        total(&families.batches, figures.batches);
        total(&families.items, figures.items);
        total(&families.rejected, figures.rejected);
        total(&families.errors, figures.errors);
        for (reason, count) in &figures.dropped {
            let labels =
                [("target", target.to_owned()), ("signal", signal.to_owned()), ("reason", (*reason).to_owned())];
            families.dropped.get_or_create_owned(&labels).inner().store(*count, Relaxed);
        }
        gauge(&families.waiting_bytes, figures.waiting_bytes);
        gauge(&families.waiting_items, figures.waiting_items);
        families.oldest_age.get_or_create_owned(&labels()).set(figures.oldest_age_seconds);
        if let Some(at) = figures.last_success_seconds {
            families.last_success.get_or_create_owned(&labels()).set(at);
        }
    }
    /// Removes the series of an export that is not configured any more.
    pub fn remove_export(&self, target: &str, signal: &str, reasons: &[&str]) {
        let families = &self.exports;
        let labels = [("target", target.to_owned()), ("signal", signal.to_owned())];
        for counter in [&families.batches, &families.items, &families.rejected, &families.errors] {
            counter.remove(&labels);
        }
        families.waiting_bytes.remove(&labels);
        families.waiting_items.remove(&labels);
        families.oldest_age.remove(&labels);
        families.last_success.remove(&labels);
        for reason in reasons {
            let [target, signal] = labels.clone();
            families.dropped.remove(&[target, signal, ("reason", (*reason).to_owned())]);
        }
    }
}
