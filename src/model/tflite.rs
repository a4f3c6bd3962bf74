//! The TFLite front end.

use super::Model;
use crate::error::{Error, Result};

/// Parses a `.tflite` file.
pub fn load(_bytes: &[u8], name: &str) -> Result<Model> {
    Err(Error::model(name, "no front end"))
}
