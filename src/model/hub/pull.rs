//! One file of a public model: brought, checked, and only then given its name.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use zip::ZipArchive;
use zip::result::ZipError;

use super::Progress;
use super::digest::Sha256;
use super::fetch::{self, Size};
use super::http::Patience;
use super::part::{Opened, Part};
use super::registry::Remote;
use crate::error::{Error, Result};

/// A file that is to be in the cache.
pub(super) struct Wanted<'a> {
    pub remote: &'a Remote,
    /// The file's name in the zip archive that the address leads to.
    pub member: Option<&'a str>,
    pub path: PathBuf,
}

/// What came, checked.
enum Sound {
    /// All of it is the file.
    Whole,
    /// It is an archive, and this was in it.
    Unpacked(Vec<u8>),
}

impl Wanted<'_> {
    /// Whether the file is there and has the right hash.
    pub fn is_sound(&self) -> Result<bool> {
        if !self.path.is_file() {
            return Ok(false);
        }
        let name = self.path.display();
        let (found, _) = File::open(&self.path)
            .and_then(Sha256::of)
            .map_err(Error::io(format!("read {name}")))?;
        let sound = found == self.remote.sha256;
        if !sound {
            log::warn!("{name} is damaged");
        }
        Ok(sound)
    }

    /// Brings the file. `name` is the model's.
    pub fn pull(
        &self,
        name: &str,
        patience: Patience,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        let mut part = match Part::open(&self.path)? {
            Opened::Finished => return Ok(()),
            Opened::Part(part) => part,
        };
        let mut resumed = part.len()? > 0;
        loop {
            let mut on_piece = |done, total| on_progress(Progress { name, done, total });
            let url = &self.remote.url;
            fetch::fetch(name, url, self.size(), &mut part, patience, &mut on_piece)?;
            let reason = match self.check(&mut part)? {
                Ok(Sound::Whole) => return part.publish(),
                Ok(Sound::Unpacked(content)) => return part.publish_instead(&content),
                Err(reason) => reason,
            };
            part.restart(None)?;
            if !resumed {
                return Err(Error::Download {
                    model: name.into(),
                    reason: format!(
                        "what {url} sends is not the model: {reason}; nothing was kept"
                    ),
                });
            }
            log::warn!("{name}: {reason}; beginning again");
            resumed = false;
        }
    }

    /// A zip archive is hardly larger than what it holds, but it may hold a little more than the model.
    fn size(&self) -> Size {
        let size = self.remote.size;
        match self.member {
            None => Size::Exactly(size),
            Some(_) => Size::AtMost(2 * size + (1 << 16)),
        }
    }

    /// Takes the file if its size and hash are right; says in words what is wrong else.
    fn check(&self, part: &mut Part) -> Result<std::result::Result<Sound, String>> {
        let contents = part.contents()?;
        let Some(member) = self.member else {
            let found = Sha256::of(contents).map_err(Error::io("read what was downloaded"))?;
            return Ok(self.compare(found).map(|()| Sound::Whole));
        };
        Ok(
            unpack(contents, member, self.remote.size).and_then(|content| {
                let found = Sha256::of(&content[..]).map_err(|error| error.to_string())?;
                self.compare(found).map(|()| Sound::Unpacked(content))
            }),
        )
    }

    fn compare(&self, (hash, size): (Sha256, u64)) -> std::result::Result<(), String> {
        let Remote {
            sha256,
            size: expected,
            ..
        } = self.remote;
        if size != *expected {
            return Err(format!("it has {size} bytes instead of {expected}"));
        }
        if hash != *sha256 {
            return Err(format!("its SHA-256 is {hash} instead of {sha256}"));
        }
        Ok(())
    }
}

/// A member of a zip archive, which may not be larger than `size`.
fn unpack(archive: &File, member: &str, size: u64) -> std::result::Result<Vec<u8>, String> {
    let unreadable = |error: ZipError| format!("it is no zip archive that holds {member}: {error}");
    let mut archive = ZipArchive::new(BufReader::new(archive)).map_err(unreadable)?;
    let member = archive.by_name(member).map_err(unreadable)?;
    let mut content = Vec::new();
    // A byte too many tells that there are more.
    let read = member.take(size + 1).read_to_end(&mut content);
    read.map_err(|error| format!("its zip archive is damaged: {error}"))?;
    Ok(content)
}
