//! Bytes become a protobuf message, whose size is bounded before anything is allocated for it.

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Framework;

use crate::error::{Error, Result};

/// Messages that a file may hold: each takes some hundred bytes of memory, but as few as two of the file.
const MAX_MESSAGES: usize = 200_000;

/// The deepest nesting of messages, graphs inside of operators included.
const MAX_DEPTH: usize = 32;

/// Decodes a file.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<ModelProto> {
    let mut left = MAX_MESSAGES;
    if !count(bytes, Message::Model, &mut left, MAX_DEPTH) {
        return Err(Error::model(
            name,
            "its graph has more parts than any model needs; the file is damaged",
        ));
    }
    tract_onnx::onnx()
        .proto_model_for_read(&mut &*bytes)
        .map_err(|_| {
            Error::model(
                name,
                "the file is damaged or cut short (it is no ONNX protobuf message); download or copy it again",
            )
        })
}

/// Kinds of messages that hold others, by onnx.proto.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// Holds numbers and texts only.
    Leaf,
}

impl Message {
    /// The message in a field.
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) => Some(Self::Graph),
            (Self::Model, 8 | 14 | 20 | 25) => Some(Self::Leaf),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 11..=13) => Some(Self::ValueInfo),
            (Self::Graph, 5 | 14 | 15) => Some(Self::Leaf),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Attribute, 5 | 10 | 14 | 15 | 22 | 23) => Some(Self::Leaf),
            (Self::ValueInfo, 2) => Some(Self::Type),
            (Self::Type, 1) => Some(Self::TensorType),
            (Self::TensorType, 2) => Some(Self::Shape),
            (Self::Shape, 1) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// Takes the messages inside of one off `left`; `false` if there are more. What is no message is left to the decoder.
fn count(mut bytes: &[u8], message: Message, left: &mut usize, depth: usize) -> bool {
    while let Some((number, payload)) = next_field(&mut bytes) {
        let (Some(inner), Some(payload)) = (message.field(number), payload) else {
            continue;
        };
        if *left == 0 || depth == 0 {
            return false;
        }
        *left -= 1;
        if !count(payload, inner, left, depth - 1) {
            return false;
        }
    }
    true
}

/// The number of the next field, and its bytes if it has a length.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let length = match key & 7 {
        0 => {
            varint(bytes)?;
            return Some((key >> 3, None));
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (payload, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((key >> 3, (key & 7 == 2).then_some(payload)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_of_many_messages_are_refused() {
        // A graph of empty operators: field 7 of the model, field 1 of the graph.
        let nodes = [0x0a, 0x00].repeat(MAX_MESSAGES + 1);
        let length = nodes.len() as u32;
        let length = [
            length as u8 | 0x80,
            (length >> 7) as u8 | 0x80,
            (length >> 14) as u8 & 0x7f,
        ];
        let file = [&[0x3a][..], &length, &nodes].concat();
        let error = decode(&file, "m").unwrap_err().to_string();
        assert!(error.contains("more parts"), "{error}");
    }
}
