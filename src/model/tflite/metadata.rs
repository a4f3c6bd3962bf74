//! What a file says beside its operators: TFLite metadata (a FlatBuffer of its own inside a buffer) and label files
//! zipped onto the end. All of it is optional: what cannot be read is passed over with a warning.

use std::io::{Cursor, Read};

use tract_tflite::tflite::Model;

use crate::model::{Anchors, Metadata, Normalization};

/// The largest label file that is read.
const MAX_LABEL_BYTES: u64 = 1 << 20;

/// The largest number of packed files that are looked at.
const MAX_FILES: usize = 64;

/// Reads metadata and packed labels of a verified file.
pub(super) fn read(bytes: &[u8], file: Model<'_>) -> Metadata {
    let mut metadata = entry(file).and_then(describe).unwrap_or_default();
    metadata.labels = packed_labels(bytes);
    metadata
}

/// The buffer that the metadata list calls `TFLITE_METADATA`.
fn entry<'a>(file: Model<'a>) -> Option<&'a [u8]> {
    let entry = file
        .metadata()?
        .iter()
        .find(|entry| entry.name() == Some("TFLITE_METADATA"))?;
    let buffers = file.buffers()?;
    let index = usize::try_from(entry.buffer()).ok()?;
    (index < buffers.len())
        .then(|| buffers.get(index).data())?
        .map(|data| data.bytes())
}

/// Reads the fields that eyas uses, by their slots in `metadata_schema.fbs` of tflite-support: ModelMetadata
/// (description 1, subgraph_metadata 3), SubGraphMetadata (input_tensor_metadata 2), TensorMetadata (process_units
/// 4), ProcessUnit (options_type 0, options 1), NormalizationOptions (type 1; mean 0, std 1).
fn describe(bytes: &[u8]) -> Option<Metadata> {
    if bytes.get(4..8)? != b"M001" {
        return None;
    }
    let root = Table::root(bytes)?;
    Some(Metadata {
        normalization: normalization(root),
        anchors: anchors(root),
        description: root
            .text(1)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty()),
        ..Metadata::default()
    })
}

fn normalization(root: Table<'_>) -> Option<Normalization> {
    let input = root.element(3, 0)?.element(2, 0)?;
    (0..input.length(4)?.min(MAX_FILES)).find_map(|index| {
        let unit = input.element(4, index)?;
        if unit.byte(0)? != 1 {
            return None;
        }
        let options = unit.table(1)?;
        let (mean, std) = (options.reals(0)?, options.reals(1)?);
        let usable = !mean.is_empty()
            && mean.len() == std.len()
            && mean.iter().all(|value| value.is_finite())
            && std.iter().all(|value| value.is_finite() && *value != 0.0);
        usable.then_some(Normalization { mean, std })
    })
}

/// The anchors in the custom metadata of MediaPipe's detectors, by the slots of `metadata_schema.fbs` (SubGraphMetadata:
/// custom_metadata 9; CustomMetadata: name 0, data 1) and `object_detector_metadata_schema.fbs` of MediaPipe
/// (ObjectDetectorOptions: ssd_anchors_options 1, tensors_decoding_options 2; SsdAnchorsOptions:
/// fixed_anchors_schema 0; FixedAnchorsSchema: anchors 0; FixedAnchor: x_center 0, y_center 1, width 2, height 3;
/// TensorsDecodingOptions: x_scale 6, y_scale 7, w_scale 8, h_scale 9, apply_exponential_on_box_size 10).
fn anchors(root: Table<'_>) -> Option<Anchors> {
    let subgraph = root.element(3, 0)?;
    let named = |index| {
        let entry = subgraph.element(9, index)?;
        (entry.text(0)? == "DETECTOR_METADATA").then(|| entry.bytes(1))?
    };
    let data = (0..subgraph.length(9)?.min(MAX_FILES)).find_map(named)?;
    if data.get(4..8)? != b"V001" {
        return None;
    }
    let options = Table::root(data)?;
    let schema = options.table(1)?.table(0)?;
    let decoding = options.table(2)?;
    if decoding.byte(10)? != 1 {
        return None;
    }
    let count = schema.length(0)?.min(data.len() / 4);
    let anchor = |index| {
        let anchor = schema.element(0, index)?;
        Some([1, 0, 3, 2].map(|slot| anchor.real(slot).unwrap_or(0.0)))
    };
    let boxes: Option<Vec<_>> = (0..count).map(anchor).collect();
    let scale = [7, 6, 9, 8].map(|slot| decoding.real(slot).unwrap_or(0.0));
    Anchors::new(boxes?, scale)
}

/// A FlatBuffer table; every read is bounds-checked, and an absent or damaged field is `None`.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Option<Self> {
        Self::at(bytes, 0)
    }

    /// The table that the offset at `slot` leads to.
    fn at(bytes: &'a [u8], slot: usize) -> Option<Self> {
        let start = follow(bytes, slot)?;
        (start < bytes.len()).then_some(Self { bytes, start })
    }

    /// Where a field is stored.
    fn field(&self, id: usize) -> Option<usize> {
        let back = i32::from_le_bytes(*self.bytes.get(self.start..)?.first_chunk()?);
        let vtable = i64::try_from(self.start).ok()?.checked_sub(back.into())?;
        let vtable = usize::try_from(vtable).ok()?;
        let short = |start: usize| {
            let word = self.bytes.get(start..)?.first_chunk()?;
            Some(usize::from(u16::from_le_bytes(*word)))
        };
        let entry = 4 + 2 * id;
        if entry + 2 > short(vtable)? {
            return None;
        }
        match short(vtable.checked_add(entry)?)? {
            0 => None,
            offset => self.start.checked_add(offset),
        }
    }

    fn byte(&self, id: usize) -> Option<u8> {
        self.bytes.get(self.field(id)?).copied()
    }

    fn table(&self, id: usize) -> Option<Self> {
        Self::at(self.bytes, self.field(id)?)
    }

    /// Start and length of a vector.
    fn vector(&self, id: usize) -> Option<(usize, usize)> {
        let start = follow(self.bytes, self.field(id)?)?;
        Some((start.checked_add(4)?, word(self.bytes, start)?))
    }

    fn length(&self, id: usize) -> Option<usize> {
        self.vector(id).map(|(_, length)| length)
    }

    /// Element `index` of a vector of tables.
    fn element(&self, id: usize, index: usize) -> Option<Self> {
        let (start, length) = self.vector(id)?;
        (index < length).then_some(())?;
        Self::at(self.bytes, start.checked_add(index.checked_mul(4)?)?)
    }

    fn bytes(&self, id: usize) -> Option<&'a [u8]> {
        let (start, length) = self.vector(id)?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    fn text(&self, id: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(id)?).ok()
    }

    fn real(&self, id: usize) -> Option<f32> {
        let word = self.bytes.get(self.field(id)?..)?.first_chunk()?;
        Some(f32::from_le_bytes(*word))
    }

    fn reals(&self, id: usize) -> Option<Vec<f32>> {
        let (start, length) = self.vector(id)?;
        let bytes = self
            .bytes
            .get(start..start.checked_add(length.checked_mul(4)?)?)?;
        let words = bytes.as_chunks::<4>().0;
        Some(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }
}

fn word(bytes: &[u8], start: usize) -> Option<usize> {
    let word = u32::from_le_bytes(*bytes.get(start..)?.first_chunk()?);
    usize::try_from(word).ok()
}

fn follow(bytes: &[u8], slot: usize) -> Option<usize> {
    slot.checked_add(word(bytes, slot)?)
}

/// The text of the label file in the zip archive at the end of the file, if there is one: the first `.txt` whose
/// name speaks of labels, else the first `.txt`.
fn packed_labels(bytes: &[u8]) -> Option<String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let names: Vec<(usize, String)> = (0..archive.len().min(MAX_FILES))
        .filter_map(|index| {
            Some((
                index,
                archive.by_index(index).ok()?.name().ok()?.to_lowercase(),
            ))
        })
        .filter(|(_, name)| name.ends_with(".txt"))
        .collect();
    let (index, name) = names
        .iter()
        .find(|(_, name)| name.contains("label"))
        .or(names.first())?;
    let packed = archive.by_index(*index).ok()?;
    let mut text = Vec::new();
    packed
        .take(MAX_LABEL_BYTES + 1)
        .read_to_end(&mut text)
        .ok()?;
    if text.len() as u64 > MAX_LABEL_BYTES {
        log::warn!("the label file {name} inside the model is larger than 1 MiB and not used");
        return None;
    }
    String::from_utf8(text)
        .inspect_err(|_| {
            log::warn!("the label file {name} inside the model is not UTF-8 and not used")
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ModelMetadata with a description and the normalization of its first input.
    fn sample(mean: &[f32], std: &[f32]) -> Vec<u8> {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let mean = builder.create_vector(mean);
        let std = builder.create_vector(std);
        let slot = |id: u16| 4 + 2 * id;
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
        let subgraphs = builder.create_vector(&[subgraph]);
        let description = builder.create_string(" finds birds ");
        let start = builder.start_table();
        builder.push_slot_always(slot(1), description);
        builder.push_slot_always(slot(3), subgraphs);
        let root = builder.end_table(start);
        builder.finish(root, Some("M001"));
        builder.finished_data().to_vec()
    }

    #[test]
    fn description_and_normalization_are_found() {
        let metadata = describe(&sample(&[127.5], &[128.0])).unwrap();
        assert_eq!(metadata.description.as_deref(), Some("finds birds"));
        let normalization = metadata.normalization.unwrap();
        assert_eq!(
            (normalization.mean, normalization.std),
            (vec![127.5], vec![128.0])
        );
        assert_eq!(
            describe(&sample(&[1.0], &[0.0])).unwrap().normalization,
            None
        );
        assert_eq!(
            describe(&sample(&[1.0, 2.0], &[1.0]))
                .unwrap()
                .normalization,
            None
        );
    }

    #[test]
    fn damaged_metadata_is_read_without_panic() {
        let good = sample(&[127.5], &[128.0]);
        for position in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[position] = value;
                let _ = describe(&bytes);
            }
            let _ = describe(&good[..position]);
        }
    }
}
