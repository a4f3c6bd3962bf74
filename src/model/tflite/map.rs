//! A reader of FlexBuffer maps of scalars, as custom operators carry their options. Every read is bounds-checked;
//! the `flexbuffers` crate indexes past the end of damaged buffers.
//!
//! Layout (google.github.io/flatbuffers, "FlexBuffers"): the root's slot, type byte and slot width end the buffer. A
//! map's values are preceded by `[offset of keys, width of keys, length]` and followed by one type byte each; offsets
//! count backwards from their own slot.

/// A scalar option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Integer(i64),
    Real(f64),
}

const INT: u8 = 1;
const UINT: u8 = 2;
const FLOAT: u8 = 3;
const INDIRECT_INT: u8 = 6;
const INDIRECT_UINT: u8 = 7;
const INDIRECT_FLOAT: u8 = 8;
const MAP: u8 = 9;
const BOOL: u8 = 26;

/// The scalars of a map under their names, or `None` if the bytes are no FlexBuffer map.
pub(super) struct Map<'a> {
    bytes: &'a [u8],
    values: usize,
    width: usize,
    keys: usize,
    key_width: usize,
    length: usize,
}

impl<'a> Map<'a> {
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (&[kind, slot_width], rest) = bytes.split_last_chunk::<2>().map(|(a, b)| (b, a))?;
        if kind >> 2 != MAP {
            return None;
        }
        let slot = rest.len().checked_sub(usize::from(slot_width))?;
        let values = dereference(bytes, slot, slot_width.into())?;
        let width = 1 << (kind & 3);
        let prefix = values.checked_sub(3 * width)?;
        let length = unsigned(bytes, values - width, width)?;
        (length <= bytes.len()).then_some(())?;
        Some(Self {
            bytes,
            values,
            width,
            keys: dereference(bytes, prefix, width)?,
            key_width: unsigned(bytes, prefix + width, width)?,
            length,
        })
    }

    /// The scalar under a name; `None` if the map has no such name, or something that is no scalar.
    pub fn get(&self, name: &str) -> Option<Scalar> {
        let index = (0..self.length).find(|&index| self.key(index) == Some(name.as_bytes()))?;
        let slot = self.values.checked_add(index * self.width)?;
        let kinds = self.values.checked_add(self.length * self.width)?;
        let kind = *self.bytes.get(kinds.checked_add(index)?)?;
        let (start, width) = match kind >> 2 {
            INDIRECT_INT..=INDIRECT_FLOAT => {
                (dereference(self.bytes, slot, self.width)?, 1 << (kind & 3))
            }
            _ => (slot, self.width),
        };
        match kind >> 2 {
            INT | INDIRECT_INT => signed(self.bytes, start, width).map(Scalar::Integer),
            UINT | BOOL | INDIRECT_UINT => {
                let value = unsigned(self.bytes, start, width)?;
                i64::try_from(value).ok().map(Scalar::Integer)
            }
            FLOAT | INDIRECT_FLOAT => real(self.bytes, start, width).map(Scalar::Real),
            _ => None,
        }
    }

    fn key(&self, index: usize) -> Option<&'a [u8]> {
        let slot = self.keys.checked_add(index.checked_mul(self.key_width)?)?;
        let start = dereference(self.bytes, slot, self.key_width)?;
        self.bytes.get(start..)?.split(|&byte| byte == 0).next()
    }
}

fn field(bytes: &[u8], start: usize, width: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(width)?)
}

fn unsigned(bytes: &[u8], start: usize, width: usize) -> Option<usize> {
    let field = field(bytes, start, width)?;
    let mut word = [0; 8];
    matches!(width, 1 | 2 | 4 | 8).then_some(())?;
    word[..width].copy_from_slice(field);
    usize::try_from(u64::from_le_bytes(word)).ok()
}

fn signed(bytes: &[u8], start: usize, width: usize) -> Option<i64> {
    let field = field(bytes, start, width)?;
    Some(match width {
        1 => i8::from_le_bytes(field.try_into().ok()?).into(),
        2 => i16::from_le_bytes(field.try_into().ok()?).into(),
        4 => i32::from_le_bytes(field.try_into().ok()?).into(),
        _ => i64::from_le_bytes(field.try_into().ok()?),
    })
}

fn real(bytes: &[u8], start: usize, width: usize) -> Option<f64> {
    let field = field(bytes, start, width)?;
    match width {
        4 => Some(f32::from_le_bytes(field.try_into().ok()?).into()),
        8 => Some(f64::from_le_bytes(field.try_into().ok()?)),
        _ => None,
    }
}

fn dereference(bytes: &[u8], slot: usize, width: usize) -> Option<usize> {
    slot.checked_sub(unsigned(bytes, slot, width)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = flexbuffers::Builder::default();
        let mut map = builder.start_map();
        map.push("max_detections", 10);
        map.push("use_regular_nms", true);
        map.push("nms_iou_threshold", 0.6f32);
        map.push("offset", -3);
        map.push("large", 70_000u32);
        map.push("name", "text");
        map.push("indirect", flexbuffers::IndirectFloat(2.5));
        map.end_map();
        builder.view().to_vec()
    }

    #[test]
    fn scalars_are_found_by_name() {
        let bytes = sample();
        let map = Map::new(&bytes).unwrap();
        assert_eq!(map.get("max_detections"), Some(Scalar::Integer(10)));
        assert_eq!(map.get("use_regular_nms"), Some(Scalar::Integer(1)));
        assert_eq!(
            map.get("nms_iou_threshold"),
            Some(Scalar::Real(0.6f32.into()))
        );
        assert_eq!(map.get("offset"), Some(Scalar::Integer(-3)));
        assert_eq!(map.get("large"), Some(Scalar::Integer(70_000)));
        assert_eq!(map.get("indirect"), Some(Scalar::Real(2.5)));
        assert_eq!(map.get("name"), None);
        assert_eq!(map.get("max"), None);
    }

    #[test]
    fn damaged_maps_are_read_without_panic() {
        let good = sample();
        for position in 0..good.len() {
            for value in [0, 1, 0x26, 0x27, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[position] = value;
                for bytes in [&bytes[..], &bytes[position..], &bytes[..position]] {
                    if let Some(map) = Map::new(bytes) {
                        for name in ["max_detections", "indirect", "absent"] {
                            map.get(name);
                        }
                    }
                }
            }
        }
    }
}
