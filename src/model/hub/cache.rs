//! The folder that pulled files are kept in.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::digest::Sha256;
use crate::error::{Error, Result};

/// Strong entity tags are short; what is longer is not kept.
const MAX_ETAG: u64 = 256;

/// The folder of pulled files. A file's name holds the beginning of its hash, so a file that is there is the right one.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// A cache in `folder`, which is made when it is first needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder that the environment asks for: `EYAS_CACHE`, else `models` in systemd's `CACHE_DIRECTORY`, else
    /// `eyas/models` in `XDG_CACHE_HOME` or in `~/.cache`.
    pub fn from_env() -> Result<Self> {
        let folder = folder(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
        folder.map(Self::new).ok_or_else(|| {
            Error::Usage(
                "there is no home folder to keep models in; set EYAS_CACHE to a folder".into(),
            )
        })
    }

    /// The file of a model or of labels.
    pub fn path(&self, name: &str, sha256: &Sha256, extension: &str) -> PathBuf {
        let hash = sha256.to_string();
        self.folder
            .join(format!("{name}-{}.{extension}", &hash[..12]))
    }

    /// Makes the folder.
    pub fn create(&self) -> Result<()> {
        let action = format!("make the folder {}", self.folder.display());
        std::fs::create_dir_all(&self.folder).map_err(|error| refused(action, error))
    }
}

fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable("EYAS_CACHE") {
        return Some(folder.into());
    }
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    // systemd lists several folders with colons between them.
    let service = variable("CACHE_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
    if let Some(folder) = service.and_then(absolute) {
        return Some(folder.join("models"));
    }
    let home = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
    let user = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .and_then(absolute);
    Some(user.or_else(home)?.join("eyas/models"))
}

/// What the system refused, with what to do where that is known.
fn refused(action: String, error: io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or set EYAS_CACHE to a folder on another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; set EYAS_CACHE to a folder that you may write to"
        }
        _ => "",
    };
    let error = io::Error::new(error.kind(), format!("{error}{advice}"));
    Error::Io { action, error }
}

/// A file on its way into the cache: what has come of it so far, and the right to add to it. Other programs wait for
/// this right until it is dropped.
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

    /// The entity tag of what has come.
    pub fn etag(&mut self) -> Result<Option<String>> {
        let mut text = String::new();
        self.lock
            .rewind()
            .and_then(|()| (&self.lock).take(MAX_ETAG).read_to_string(&mut text))
            .map_err(self.refused("read"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
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
    fn the_environment_says_where_models_are_kept() {
        let found = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name);
            folder(|name| value(name).map(|(_, value)| value.into()))
        };
        let all = [
            ("EYAS_CACHE", "own"),
            ("CACHE_DIRECTORY", "/var/cache/eyas:/var/cache/more"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/home/pi"),
        ];
        for (from, expected) in [
            (0, "own"),
            (1, "/var/cache/eyas/models"),
            (2, "/x/eyas/models"),
            (3, "/home/pi/.cache/eyas/models"),
        ] {
            assert_eq!(found(&all[from..]), Some(expected.into()));
        }
        assert_eq!(
            found(&[("XDG_CACHE_HOME", "relative"), all[3]]),
            Some("/home/pi/.cache/eyas/models".into())
        );
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let said = |kind: io::ErrorKind| refused("write x".into(), kind.into()).to_string();
        assert!(said(io::ErrorKind::StorageFull).contains("another disk"));
        assert!(said(io::ErrorKind::PermissionDenied).contains("EYAS_CACHE"));
        assert!(!said(io::ErrorKind::NotFound).contains("EYAS_CACHE"));
    }

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
        part.publish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"abcd");
        let mut part = open();
        assert_eq!((part.len().unwrap(), part.etag().unwrap()), (0, None));
    }
}
