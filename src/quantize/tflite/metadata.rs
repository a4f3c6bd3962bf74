//! What a file says beside its operators: normalization and description as TFLite metadata, labels in a zip archive at
//! the end.

use std::io::{Cursor, Seek, SeekFrom, Write};

use flatbuffers::FlatBufferBuilder;

use crate::error::{Error, Result};
use crate::model::{Metadata, Normalization};

/// A FlatBuffer of `metadata_schema.fbs` of tflite-support; slots as in `model/tflite/metadata.rs`: ModelMetadata
/// (description 1, subgraph_metadata 3), SubGraphMetadata (input_tensor_metadata 2), TensorMetadata (process_units
/// 4), ProcessUnit (options_type 0, options 1), NormalizationOptions (type 1; mean 0, std 1).
pub(super) fn table(metadata: &Metadata) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let slot = |id: u16| 4 + 2 * id;
    let subgraphs = metadata
        .normalization
        .as_ref()
        .map(|Normalization { mean, std }| {
            let mean = builder.create_vector(mean);
            let std = builder.create_vector(std);
            let start = builder.start_table();
            builder.push_slot_always(slot(0), mean);
            builder.push_slot_always(slot(1), std);
            let options = builder.end_table(start);
            let start = builder.start_table();
            builder.push_slot_always(slot(0), 1u8);
            builder.push_slot_always(slot(1), options);
            let unit = builder.end_table(start);
            let units = builder.create_vector(&[unit]);
            let start = builder.start_table();
            builder.push_slot_always(slot(4), units);
            let tensor = builder.end_table(start);
            let tensors = builder.create_vector(&[tensor]);
            let start = builder.start_table();
            builder.push_slot_always(slot(2), tensors);
            let subgraph = builder.end_table(start);
            builder.create_vector(&[subgraph])
        });
    let description = metadata
        .description
        .as_ref()
        .map(|text| builder.create_string(text));
    let start = builder.start_table();
    if let Some(description) = description {
        builder.push_slot_always(slot(1), description);
    }
    if let Some(subgraphs) = subgraphs {
        builder.push_slot_always(slot(3), subgraphs);
    }
    let root = builder.end_table(start);
    builder.finish(root, Some("M001"));
    builder.finished_data().to_vec()
}

/// The file with a label file packed onto its end, where readers of TFLite metadata look for it.
pub(super) fn with_labels(file: Vec<u8>, labels: &str) -> Result<Vec<u8>> {
    let failed =
        |error: zip::result::ZipError| Error::Internal(format!("packing the labels: {error}"));
    let mut cursor = Cursor::new(file);
    // Writing to memory cannot fail.
    cursor
        .seek(SeekFrom::End(0))
        .map_err(Error::io("pack the labels"))?;
    let mut archive = zip::ZipWriter::new(cursor);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    archive.start_file("labels.txt", options).map_err(failed)?;
    archive
        .write_all(labels.as_bytes())
        .map_err(Error::io("pack the labels"))?;
    Ok(archive.finish().map_err(failed)?.into_inner())
}
