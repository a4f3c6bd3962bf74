//! Lines of text for other programs, in a file or on standard output.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes lines at once.
pub(super) struct Lines {
    writer: Box<dyn Write + Send>,
    /// What messages call the writer.
    target: String,
    on_closed: Box<dyn Fn() + Send>,
}

impl Lines {
    /// Writes to `writer`. When its reader is gone (a closed pipe), `on_closed` is called instead of an error.
    pub fn new(
        writer: Box<dyn Write + Send>,
        target: impl Into<String>,
        on_closed: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            writer,
            target: target.into(),
            on_closed: Box::new(on_closed),
        }
    }

    /// Writes to the end of a file, or to standard output if `target` is `-`.
    pub fn open(target: &Path, on_closed: impl Fn() + Send + 'static) -> Result<Self> {
        if target == Path::new("-") {
            return Ok(Self::new(
                Box::new(io::stdout()),
                "standard output",
                on_closed,
            ));
        }
        let name = target.display().to_string();
        let file = File::options()
            .create(true)
            .append(true)
            .open(target)
            .map_err(Error::io(format!("open {name} for events")))?;
        Ok(Self::new(Box::new(file), name, on_closed))
    }

    /// Writes text that ends with a line break.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let written = self.writer.write_all(text.as_bytes());
        match written.and_then(|()| self.writer.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                (self.on_closed)();
                Ok(())
            }
            outcome => outcome.map_err(Error::io(format!("write to {}", self.target))),
        }
    }
}
