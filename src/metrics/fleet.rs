//! Writes the fleet's families from one snapshot: one pass per family, since its series must be adjacent.
//!
//! Unknown values have no series. Series of closed label sets start at 0 once any value of their family is known.

mod agents;
mod custom;
mod projects;

use super::format::ExpositionFormat;
use super::names;
use super::series::{Flush, SeriesWriter};
use crate::model::alert::AlertCounts;
use crate::model::{Snapshot, SourceErrorReason};

/// Writes the fleet's families into `out`, which `flush` empties whenever it has a chunk of about 60 KiB. The caller flushes
/// the rest. Returns whether everything was written: it stops once `flush` returns false.
pub fn write_fleet<'a>(
    snapshot: &Snapshot,
    alerts: &AlertCounts,
    format: ExpositionFormat,
    out: &'a mut Vec<u8>,
    flush: &'a mut Flush<'a>,
) -> bool {
    let mut writer = SeriesWriter::new(format, out, flush);
    agents::write(&mut writer, snapshot);
    projects::write(&mut writer, snapshot);
    write_alerts(&mut writer, alerts);
    write_sources(&mut writer, snapshot);
    custom::write(&mut writer, snapshot);
    writer.is_open()
}

fn write_alerts(writer: &mut SeriesWriter<'_>, alerts: &AlertCounts) {
    writer.family(&names::CLUSTER_ALERTS, |series| {
        for (level, raised) in crate::model::Level::ALL.into_iter().zip(alerts.raised) {
            series.line("").label("level", level.as_str()).count(raised);
        }
    });
    writer.family(&names::ALERTS_ACTIVE, |series| {
        for ((project, level, rule), firing) in &alerts.active {
            let line = series.line("").label("project", project).label("level", level.as_str());
            line.label("rule", rule).count(u64::from(*firing));
        }
    });
}

fn write_sources(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    writer.family(&names::SOURCE_UP, |series| {
        for source in &snapshot.sources {
            if let Some(up) = source.up {
                series.line("").label("source", &source.name).flag(up);
            }
        }
    });
    writer.family(&names::SOURCE_LAST_SUCCESS, |series| {
        for source in &snapshot.sources {
            if let Some(at) = source.last_success {
                series.line("").label("source", &source.name).time(snapshot.wall.to_wall(at));
            }
        }
    });
    writer.family(&names::SOURCE_ERRORS, |series| {
        for source in &snapshot.sources {
            for (reason, errors) in SourceErrorReason::ALL.into_iter().zip(source.errors) {
                series.line("").label("source", &source.name).label("reason", reason.as_str()).count(errors);
            }
        }
    });
    writer.family(&names::SERIES_DROPPED, |series| series.bare(snapshot.series_dropped as f64));
}
