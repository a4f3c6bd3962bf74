//! The one error type, grouped by who can mend what went wrong.

use std::io;

/// Every fallible function of the crate returns this.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each message says what, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, an argument or a configuration key is wrong. The caller of the program mends it.
    #[error("{0}")]
    Usage(String),
    /// A model file is damaged or contradicts itself. Another file mends it.
    #[error("{model}: {reason}")]
    Model {
        /// Name of the file, as the user gave it.
        model: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A model is well formed and asks for something that eyas does not do.
    #[error("{model}: {feature} is not supported; {advice}")]
    Unsupported {
        /// Name of the file, as the user gave it.
        model: String,
        /// The operator (with its index) or feature, by its name.
        feature: String,
        /// What to do instead.
        advice: String,
    },
    /// Labels, pictures or other data that the user passed are unusable.
    #[error("{file}: {reason}")]
    Data {
        /// The file or stream.
        file: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A frame source cannot be opened or has failed.
    #[error("{source_name}: {reason}")]
    Source {
        /// The source as the user named it.
        source_name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A public model cannot be downloaded, or what came is not what the list of models says.
    #[error("{model}: {reason}")]
    Download {
        /// Name of the model.
        model: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {action}: {error}")]
    Io {
        /// What was attempted, with its object: `open labels.txt`.
        action: String,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// A defect of eyas itself, or of a library under it.
    #[error("internal error: {0}; please report it with the model file")]
    Internal(String),
}

impl Error {
    /// An [`Error::Io`] made from what was attempted.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |error| Self::Io { action, error }
    }

    /// An [`Error::Model`].
    pub fn model(model: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Model {
            model: model.into(),
            reason: reason.into(),
        }
    }

    /// The exit code of the process: 2 for wrong usage, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
