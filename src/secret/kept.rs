//! Secrets that lookout makes itself and keeps in files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Secret, SecretSource};

/// Random bytes of a secret.
const LENGTH: usize = 32;

/// A new random secret, as hex digits.
pub fn random() -> io::Result<Secret> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(Secret::new(hex::encode(bytes)))
}

/// Returns the secret in the file at `path`, and whether it was made now because there was none. Blocks on disk I/O.
pub fn keep(path: &Path) -> io::Result<(Secret, bool)> {
    let source = SecretSource::File(path.to_owned());
    match source.read_blocking() {
        Ok(secret) => Ok((secret, false)),
        // A file without content is what a crash during the first write may leave.
        Err(error) if error.is_missing() || error.is_empty() => Ok((replace(path)?, true)),
        Err(error) => Err(error.into_io()),
    }
}

/// Writes a new secret to the file at `path`, at once and only for its owner. Blocks on disk I/O.
pub fn replace(path: &Path) -> io::Result<Secret> {
    let secret = random()?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", secret.expose())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lookout.token");
        let (made, is_new) = keep(&path).expect("a secret");
        assert!(is_new && made.expose().len() == 2 * LENGTH);
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(keep(&path).expect("a secret"), (made.clone(), false));
        // A draft of another time, which others may read, is not written to.
        fs::write(dir.path().join("lookout.token.new"), "old").expect("a file");
        let other = replace(&path).expect("a secret");
        assert!(other != made && mode(&path) == 0o600);
        assert_eq!(keep(&path).expect("a secret"), (other, false));
        fs::write(&path, "").expect("a file");
        assert!(keep(&path).expect("a secret").1, "an empty file is none");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "no draft is left");
        assert!(keep(&dir.path().join("none/lookout.token")).is_err());
    }
}
