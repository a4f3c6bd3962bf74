//! A file on its way into the cache.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::cache::refused;
use crate::error::{Error, Result};

/// Strong entity tags are short; what is longer is not kept.
const MAX_ETAG: u64 = 256;

/// What has come of a file so far, and the right to add to it. Other programs wait for this right until it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    /// What the file will be called.
    target: PathBuf,
    file: File,
    /// Locked while this lives. Its text is the entity tag of what has come.
    lock: File,
}

/// What asking for a [`Part`] brings.
#[derive(Debug)]
pub(super) enum Opened {
    Part(Part),
    /// Another program had it, and has finished the file meanwhile.
    Finished,
}

impl Part {
    /// Waits while another program pulls the same file.
    pub fn open(target: &Path) -> Result<Opened> {
        let lock = open(&sibling(target, "lock"))?;
        let action = || format!("lock {}", target.display());
        let waited = match lock.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => {
                log::info!(
                    "another eyas is pulling {}; waiting for it",
                    target.display()
                );
                lock.lock().map_err(Error::io(action()))?;
                true
            }
            Err(TryLockError::Error(error)) => return Err(refused(action(), error)),
        };
        if waited && target.is_file() {
            return Ok(Opened::Finished);
        }
        Ok(Opened::Part(Self {
            target: target.into(),
            file: open(&sibling(target, "part"))?,
            lock,
        }))
    }

    /// Bytes that have come.
    pub fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        metadata
            .map(|found| found.len())
            .map_err(self.refused("read"))
    }

    /// The entity tag of what has come. A damaged one is none.
    pub fn etag(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        self.lock
            .rewind()
            .and_then(|()| (&self.lock).take(MAX_ETAG).read_to_end(&mut bytes))
            .map_err(self.refused("read"))?;
        let sound =
            bytes.starts_with(b"\"") && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        Ok(String::from_utf8(bytes).ok().filter(|_| sound))
    }

    /// Forgets what has come, and begins a version with another entity tag.
    pub fn restart(&mut self, etag: Option<&str>) -> Result<()> {
        let etag = etag
            .filter(|etag| etag.len() as u64 <= MAX_ETAG)
            .unwrap_or_default();
        self.file
            .set_len(0)
            .and_then(|()| self.lock.set_len(0))
            .and_then(|()| self.lock.rewind())
            .and_then(|()| self.lock.write_all(etag.as_bytes()))
            .map_err(self.refused("write"))
    }

    /// Adds what came next.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::End(0))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(self.refused("write"))
    }

    /// What has come, from its beginning.
    pub fn contents(&mut self) -> Result<&File> {
        self.file.rewind().map_err(self.refused("read"))?;
        Ok(&self.file)
    }

    /// Gives the file its name.
    pub fn publish(self) -> Result<()> {
        self.file.sync_all().map_err(self.refused("write"))?;
        let part = sibling(&self.target, "part");
        rename(&part, &self.target)?;
        self.lock.set_len(0).map_err(self.refused("write"))
    }

    /// Gives the file's name to other content, as an unpacked archive is, and forgets what has come.
    pub fn publish_instead(self, content: &[u8]) -> Result<()> {
        let unpacked = sibling(&self.target, "new");
        let mut file = open(&unpacked)?;
        file.set_len(0)
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all())
            .map_err(|error| refused(format!("write {}", unpacked.display()), error))?;
        rename(&unpacked, &self.target)?;
        let part = sibling(&self.target, "part");
        std::fs::remove_file(&part)
            .map_err(|error| refused(format!("remove {}", part.display()), error))
    }

    fn refused(&self, verb: &str) -> impl FnOnce(io::Error) -> Error {
        let action = format!("{verb} {}", sibling(&self.target, "part").display());
        move |error| refused(action, error)
    }
}

/// Opens a file for reading and writing; makes it if it is not there.
fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    opened.map_err(|error| refused(format!("open {}", path.display()), error))
}

/// A file in the same folder with another ending added to its name.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Renames for good: after a loss of power too.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::rename(from, to)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| {
            refused(
                format!("rename {} to {}", from.display(), to.display()),
                error,
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_what_came_and_its_tag() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.tflite");
        let open = || match Part::open(&target).unwrap() {
            Opened::Part(part) => part,
            Opened::Finished => panic!("nobody else is there"),
        };
        let mut part = open();
        part.restart(Some("\"v1\"")).unwrap();
        part.append(b"abc").unwrap();
        drop(part);
        let mut part = open();
        assert_eq!(
            (part.len().unwrap(), part.etag().unwrap()),
            (3, Some("\"v1\"".into()))
        );
        part.append(b"d").unwrap();
        std::fs::write(sibling(&target, "lock"), b"\"a\r\nb\"").unwrap();
        assert_eq!(part.etag().unwrap(), None);
        part.publish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"abcd");
        let mut part = open();
        assert_eq!((part.len().unwrap(), part.etag().unwrap()), (0, None));
    }
}
