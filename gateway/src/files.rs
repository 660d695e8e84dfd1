//! Files that may change while the gateway runs: secrets, keys, certificates.
//!
//! Read at the start, where an error stops it, and looked at again every few seconds, where an error keeps what was good.
//! By content and not by time stamps: the files of a Kubernetes secret are links that change under it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, ensure};
use secrecy::SecretSlice;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often files are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Files that are good only together, as a certificate and its key.
pub(crate) struct Files {
    flag: &'static str,
    paths: Vec<PathBuf>,
    known: Mutex<Known>,
}

struct Known {
    contents: Vec<Vec<u8>>,
    /// It has been said that they are no good, and of which contents.
    complaint: Option<String>,
}

impl Files {
    /// Reads the files of a flag and makes of them what they are for.
    pub(crate) fn open<T>(
        flag: &'static str,
        paths: &[&Path],
        make: impl FnOnce(&[Vec<u8>]) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let contents = read(paths.iter().copied()).with_context(|| flag.to_owned())?;
        let made = make(&contents).with_context(|| format!("{flag}: {} is no good", paths[0].display()))?;
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        Ok((Self { flag, paths, known: Mutex::new(Known { contents, complaint: None }) }, made))
    }

    /// Reads them again. `None`: they are as they were, or no good; then what was made of them stays.
    pub(crate) fn changed<T>(&self, make: impl FnOnce(&[Vec<u8>]) -> anyhow::Result<T>) -> Option<T> {
        let contents = read(self.paths.iter().map(PathBuf::as_path));
        let mut known = self.known();
        if contents.as_ref().is_ok_and(|contents| *contents == known.contents) {
            known.complaint = None;
            return None;
        }
        match contents.and_then(|contents| Ok((make(&contents)?, contents))) {
            Ok((made, contents)) => {
                tracing::info!(flag = self.flag, "files have changed and are in use");
                *known = Known { contents, complaint: None };
                Some(made)
            }
            Err(error) => {
                // Half of a change may be there, so the first look is no reason to wake anybody; said once.
                let complaint = format!("{error:#}");
                if known.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(flag = self.flag, error = complaint, "files have changed and are no good");
                    known.complaint = Some(complaint);
                }
                None
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics under the lock")
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("paths", &self.paths).finish_non_exhaustive()
    }
}

fn read<'a>(paths: impl Iterator<Item = &'a Path>) -> anyhow::Result<Vec<Vec<u8>>> {
    paths
        .map(|path| {
            let mut content = Vec::new();
            let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let read = file.take(MAX_BYTES + 1).read_to_end(&mut content);
            read.with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(content.len() as u64 <= MAX_BYTES, "{} is too large", path.display());
            Ok(content)
        })
        .collect()
}

/// Looks at files again and again until the gateway ends.
pub(crate) async fn follow(end: CancellationToken, look: impl Fn()) {
    let mut turn = interval(LOOK_AGAIN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = turn.tick() => look(),
        }
    }
}

/// The secrets of a file: one on each line, the newest first.
pub(crate) fn secrets(content: &[u8], min_bytes: usize) -> anyhow::Result<Vec<SecretSlice<u8>>> {
    let lines: Vec<_> = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let secrets: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    ensure!(!secrets.is_empty(), "there is no secret in it");
    for secret in &secrets {
        ensure!(secret.len() >= min_bytes, "a secret has {} bytes; at least {min_bytes} are needed", secret.len());
    }
    Ok(secrets.into_iter().map(|secret| SecretSlice::from(secret.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_change_is_taken_once_and_what_is_no_good_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, "first-secret").expect("writes");
        let make = |contents: &[Vec<u8>]| secrets(&contents[0], 8).map(|secrets| secrets.len());
        let (files, made) = Files::open("--secret-file", &[&path], make).expect("reads");
        assert_eq!((made, files.changed(make)), (1, None));
        fs::write(&path, "second-secret\r\n\nfirst-secret\n").expect("writes");
        assert_eq!((files.changed(make), files.changed(make)), (Some(2), None));
        for bad in ["", "short"] {
            fs::write(&path, bad).expect("writes");
            assert_eq!(files.changed(make), None);
        }
        fs::remove_file(&path).expect("removes");
        assert_eq!(files.changed(make), None);
        // What was there before the trouble is no change.
        fs::write(&path, "second-secret\r\n\nfirst-secret\n").expect("writes");
        assert_eq!(files.changed(make), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_the_start_and_shows_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let open = || {
            let opened = Files::open("--secret-file", &[&path], |contents| secrets(&contents[0], 8));
            format!("{:#}", opened.map(drop).expect_err("refused"))
        };
        assert!(open().contains("--secret-file"));
        fs::write(&path, "hidden").expect("writes");
        let error = open();
        assert!(error.contains("6 bytes") && !error.contains("hidden"), "{error}");
        fs::write(&path, vec![b'x'; 2 * 1024 * 1024]).expect("writes");
        assert!(open().contains("too large"));
    }

    #[test]
    fn the_first_line_is_the_newest_secret() {
        let secrets = secrets(b"new secret \n old secret", 4).expect("secrets");
        assert_eq!(secrets[0].expose_secret(), b"new secret");
        assert_eq!(secrets[1].expose_secret(), b"old secret");
    }
}
