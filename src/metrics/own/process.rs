//! The families `process_*`, read from `/proc` at each scrape.

#[cfg(target_os = "linux")]
use procfs::process::{LimitValue, Process};
#[cfg(target_os = "linux")]
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};

#[cfg(target_os = "linux")]
use crate::metrics::names::{self, FamilySpec};
use crate::metrics::series::SeriesWriter;

/// Elsewhere there is no `/proc`: these series are absent.
#[cfg(not(target_os = "linux"))]
pub(super) const fn write(_writer: &mut SeriesWriter<'_>) {}

/// Writes the families whose source can be read.
#[cfg(target_os = "linux")]
pub(super) fn write(writer: &mut SeriesWriter<'_>) {
    let Ok(process) = Process::myself() else { return };
    let mut gauge = |family: &FamilySpec, value: Option<f64>| {
        if let Some(value) = value {
            writer.family(family, |series| series.bare(value));
        }
    };
    let stat = process.stat().ok();
    let ticks = ticks_per_second() as f64;
    gauge(&names::PROCESS_CPU, stat.as_ref().map(|stat| (stat.utime + stat.stime) as f64 / ticks));
    gauge(&names::PROCESS_RESIDENT_MEMORY, stat.as_ref().map(|stat| (stat.rss * page_size()) as f64));
    gauge(&names::PROCESS_VIRTUAL_MEMORY, stat.as_ref().map(|stat| stat.vsize as f64));
    gauge(&names::PROCESS_OPEN_FDS, process.fd_count().ok().map(|count| count as f64));
    gauge(&names::PROCESS_MAX_FDS, max_fds(&process).ok());
    let start = stat.as_ref().zip(boot_time_secs().ok());
    gauge(&names::PROCESS_START_TIME, start.map(|(stat, boot)| boot as f64 + stat.starttime as f64 / ticks));
    gauge(&names::PROCESS_THREADS, stat.as_ref().map(|stat| stat.num_threads as f64));
}

/// The soft limit, which is the effective one.
#[cfg(target_os = "linux")]
fn max_fds(process: &Process) -> ProcResult<f64> {
    Ok(match process.limits()?.max_open_files.soft_limit {
        LimitValue::Value(value) => value as f64,
        LimitValue::Unlimited => f64::INFINITY,
    })
}
