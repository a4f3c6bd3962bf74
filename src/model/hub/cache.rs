//! The folder that pulled files are kept in.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::digest::Sha256;
use crate::error::{Error, Result};

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
pub(super) fn refused(action: String, error: io::Error) -> Error {
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
}
