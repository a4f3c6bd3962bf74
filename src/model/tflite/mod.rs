//! The TFLite front end: a FlatBuffer file becomes a [`Graph`](crate::graph::Graph).
//!
//! Every index and size of the file is checked before use; what eyas cannot compute is refused by operator and index.

mod constants;
mod fold;
mod import;
mod map;
mod metadata;
mod operators;
mod options;
mod refusal;
mod slices;
mod windows;

use flatbuffers::VerifierOptions;
use tract_tflite::tflite;

use super::{Model, Program};
use crate::error::{Error, Result};
use crate::graph::passes;
use import::Importer;

/// Bytes 4 to 8 of every `.tflite` file.
pub(super) const IDENTIFIER: &[u8] = b"TFL3";

/// The newest version of the schema that is read.
const SCHEMA_VERSION: u32 = 3;

/// Parses a `.tflite` file. All integer arithmetic on shapes is done here; float activations with quantized weights
/// ("dynamic range" files) become float throughout.
pub(super) fn load(bytes: &[u8], name: &str) -> Result<Model> {
    let damaged = |reason: &str| {
        Error::model(
            name,
            format!("the file is damaged or cut short ({reason}); download or copy it again"),
        )
    };
    let limits = VerifierOptions {
        max_depth: 16,
        max_tables: 1_000_000,
        max_apparent_size: bytes.len().saturating_mul(4).saturating_add(1 << 20),
        ignore_missing_null_terminator: false,
    };
    let file = tflite::root_as_model_with_opts(&limits, bytes)
        .map_err(|error| damaged(error.to_string().lines().next().unwrap_or_default()))?;
    if file.version() != SCHEMA_VERSION {
        return Err(Error::model(
            name,
            format!("its schema version is {}, not 3", file.version()),
        ));
    }
    let subgraphs = file.subgraphs().ok_or_else(|| damaged("no subgraphs"))?;
    if subgraphs.len() > 1 {
        return Err(refusal::several_subgraphs(name, file, subgraphs.get(0)));
    }
    if subgraphs.is_empty() {
        return Err(damaged("no subgraphs"));
    }
    let mut graph = Importer::new(name, file, subgraphs.get(0))?.run()?;
    passes::remove_dead(&mut graph);
    graph.validate(name)?;
    Ok(Model {
        name: name.into(),
        program: Program::Graph(graph),
        metadata: metadata::read(bytes, file),
    })
}
