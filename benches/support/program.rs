//! The program as a child process, and what it uses.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running sidecar with files of its own.
pub(crate) struct Sidecar {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lookout"));
        command.env("LOOKOUT_LISTEN", "127.0.0.1:0").env("LOOKOUT_LOG__FORMAT", "json");
        command.env("LOOKOUT_OTLP__HTTP", "null").env("LOOKOUT_OTLP__GRPC", "null");
        command.env("LOOKOUT_STORE__PATH", folder.path().join("lookout.db")).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the program starts").unwrap();
            let is_main = line.contains("\"listening\"");
            if let Some((_, rest)) = line.split_once("\"address\":\"").filter(|_| is_main) {
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _folder: folder }
    }

    /// CPU seconds so far, all threads.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = procfs::process::Process::new(self.child.id().cast_signed()).unwrap().stat().unwrap();
        (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
    }

    /// Resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The value below which so large a share of `times` is.
pub(crate) fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(((times.len() as f64 - 1.0).max(0.0) * share) as usize).copied().unwrap_or(f64::NAN)
}
