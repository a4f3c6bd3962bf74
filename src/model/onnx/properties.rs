//! What a file says beside its operators, in its `metadata_props`: how pixels become the input, and labels. ONNX names
//! no keys for these; ours begin with `eyas.`.

use tract_onnx::pb::StringStringEntryProto;

use crate::model::{Metadata, Normalization};

/// Means of the pixels, one or one a channel, with commas between.
const MEAN: &str = "eyas.mean";

/// What the pixels less their mean are divided by, as the means.
const STD: &str = "eyas.std";

/// The text of a label file.
const LABELS: &str = "eyas.labels";

/// What is written of metadata.
pub fn write(metadata: &Metadata) -> Vec<StringStringEntryProto> {
    let list = |values: &[f32]| {
        let texts: Vec<String> = values.iter().map(f32::to_string).collect();
        texts.join(",")
    };
    let normalization = metadata.normalization.as_ref();
    let entries = [
        (MEAN, normalization.map(|own| list(&own.mean))),
        (STD, normalization.map(|own| list(&own.std))),
        (LABELS, metadata.labels.clone()),
    ];
    let entries = entries.into_iter();
    entries
        .filter_map(|(key, value)| {
            Some(StringStringEntryProto {
                key: key.into(),
                value: value?,
            })
        })
        .collect()
}

/// What is read; keys of others are passed over, and so are lists that are none.
pub(super) fn read(entries: &[StringStringEntryProto]) -> Metadata {
    let text = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(entry.value.as_str())
    };
    let list = |key: &str| -> Option<Vec<f32>> {
        let values = text(key)?.split(',').map(|value| value.trim().parse());
        values.collect::<Result<_, _>>().ok()
    };
    Metadata {
        normalization: list(MEAN)
            .zip(list(STD))
            .map(|(mean, std)| Normalization { mean, std }),
        labels: text(LABELS).map(str::to_owned),
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let metadata = Metadata {
            labels: Some("cat\ndog\n".into()),
            normalization: Some(Normalization {
                mean: vec![127.5, 0.1, 3.0],
                std: vec![127.5],
            }),
            ..Metadata::default()
        };
        assert_eq!(read(&write(&metadata)), metadata);
        assert_eq!(write(&Metadata::default()), []);
    }

    #[test]
    fn lists_that_are_none_are_passed_over() {
        let mut entries = write(&Metadata {
            normalization: Some(Normalization {
                mean: vec![0.0],
                std: vec![255.0],
            }),
            ..Metadata::default()
        });
        entries[1].value = "a,b".into();
        assert_eq!(read(&entries), Metadata::default());
    }
}
