//! Reads the files that others put there: certificates, secrets, configuration, rules. Each read has a bound in size
//! and refuses what may block, such as a named pipe; [`read`] has a bound in time as well, for a mount that hangs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::Semaphore;

/// How long a read may take while the program runs.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The content of the regular file at `path`, at most `max` bytes. It may hang with its disk: while the program runs, use
/// [`read`].
pub fn read_blocking(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for its writer; with this flag it does not, and a regular file ignores it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    let is_null = kind.is_char_device() && path == Path::new("/dev/null");
    if !kind.is_file() && !is_null {
        let what = match kind {
            kind if kind.is_dir() => "a directory",
            kind if kind.is_fifo() => "a named pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")));
    }
    read_all(file, max)
}

/// What can be read from `file` to its end, at most `max` bytes.
pub fn read_all(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// [`read_blocking`] on a thread of its own, within [`PATIENCE`].
pub async fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let owned = path.to_owned();
    beside(path, PATIENCE, move || read_blocking(&owned, max)).await?
}

/// Does `work` that may hang on the file at `path` on a thread of its own; an error once it takes longer than `patience`.
/// Work on one path is done in turn, so that a mount that hangs keeps one thread, however often it is tried.
pub async fn beside<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = turn_of(path);
    let done = async {
        let permit = turn.acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
    };
    tokio::time::timeout(patience, done).await.unwrap_or_else(|_| {
        let message = format!("no answer within {patience:?}; does the disk or mount that holds it hang?");
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}

/// Whose turn it is to work on `path`.
fn turn_of(path: &Path) -> Arc<Semaphore> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    // What nobody works on needs no turn.
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    Arc::clone(turns.entry(path.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_block_or_has_no_end_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        assert_eq!(read_blocking(&path("file"), 5).unwrap(), b"12345");
        assert_eq!(read_blocking(&path("link"), 5).unwrap(), b"12345", "a link, as mounted secrets are");
        assert_eq!(read_blocking(Path::new("/dev/null"), 5).unwrap(), b"");
        for (name, error) in [
            ("file", "larger than 4 bytes"),
            ("pipe", "a named pipe"),
            (".", "a directory"),
            ("/dev/zero", "a device"),
            ("socket", "No such device or address"),
            ("gone", "No such file"),
        ] {
            let found = read_blocking(&dir.path().join(name), 4).unwrap_err().to_string();
            assert!(found.contains(error), "{name}: {found}");
        }
    }

    #[tokio::test]
    async fn a_mount_that_hangs_keeps_one_thread_and_nobody_waiting() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let (path, soon) = (Path::new("/hung/secret"), Duration::from_millis(20));
        let error = beside(path, soon, move || hangs.recv().is_ok()).await.unwrap_err();
        assert!(error.to_string().contains("hang?"), "{error}");
        // The thread is still there, and no second one is begun.
        let error = beside(path, soon, || unreachable!("the first one has the turn")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(beside(Path::new("/other"), PATIENCE, || true).await.unwrap(), "another file is read meanwhile");
        drop(release);
        assert!(beside(path, PATIENCE, || true).await.unwrap(), "and this one again once it answers");
    }
}
