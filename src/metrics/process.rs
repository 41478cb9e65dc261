//! `process_*`, from `/proc`; absent where there is none.

use super::names;
use super::writer::Writer;

/// Writes what is known of this process.
pub(super) fn write(out: &mut Writer<'_>) {
    let Ok(process) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        out.head(&names::PROCESS_CPU);
        out.sample(names::PROCESS_CPU.name, "", "", ((stat.utime + stat.stime) as f64 / ticks).into());
        out.head(&names::PROCESS_RESIDENT);
        out.sample(names::PROCESS_RESIDENT.name, "", "", (stat.rss * procfs::page_size()).into());
        out.head(&names::PROCESS_VIRTUAL);
        out.sample(names::PROCESS_VIRTUAL.name, "", "", stat.vsize.into());
        if let Ok(boot) = procfs::boot_time_secs() {
            out.head(&names::PROCESS_START);
            out.sample(names::PROCESS_START.name, "", "", (boot as f64 + stat.starttime as f64 / ticks).into());
        }
    }
    if let Ok(count) = process.fd_count() {
        out.head(&names::PROCESS_OPEN_FDS);
        out.sample(names::PROCESS_OPEN_FDS.name, "", "", (count as u64).into());
    }
    if let Ok(limits) = process.limits()
        && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        out.head(&names::PROCESS_MAX_FDS);
        out.sample(names::PROCESS_MAX_FDS.name, "", "", most.into());
    }
}
