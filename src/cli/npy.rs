//! NumPy's `.npy` files (numpy/lib/format.py): little endian, C order, the element types of eyas.

use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, TensorData, TensorView};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// More than any header of a rank that [`Shape`] allows.
const MAX_HEADER: usize = 1 << 16;

/// Reads a `.npy` file of uint8, int8, int32 or float32.
pub fn read(path: &Path) -> Result<(Shape, TensorData)> {
    let file = std::fs::File::open(path).map_err(Error::io(format!("open {}", path.display())))?;
    read_from(file, &path.display().to_string())
}

/// Writes a `.npy` file.
pub fn write(path: &Path, shape: &Shape, data: TensorView<'_>) -> Result<()> {
    let failed = || Error::io(format!("write {}", path.display()));
    let mut file = std::fs::File::create(path).map_err(failed())?;
    file.write_all(&header(shape, data.dtype()))
        .and_then(|()| file.write_all(data.bytes()))
        .map_err(failed())
}

/// Magic, version 1.0, and the dictionary padded so that the data starts at a multiple of 64.
fn header(shape: &Shape, dtype: DType) -> Vec<u8> {
    let dims: Vec<String> = shape.dims().iter().map(|dim| format!("{dim},")).collect();
    let dictionary = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        descr(dtype),
        dims.join(" ")
    );
    let unpadded = MAGIC.len() + 4 + dictionary.len() + 1;
    let padding = unpadded.next_multiple_of(64) - unpadded;
    let length = (dictionary.len() + padding + 1) as u16;
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend(length.to_le_bytes());
    header.extend(dictionary.as_bytes());
    header.extend(std::iter::repeat_n(b' ', padding));
    header.push(b'\n');
    header
}

fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "|u1",
        DType::I8 => "|i1",
        DType::I32 => "<i4",
        DType::F32 => "<f4",
    }
}

fn read_from(mut source: impl Read, file: &str) -> Result<(Shape, TensorData)> {
    let wrong = |reason: String| Error::Data {
        file: file.to_owned(),
        reason,
    };
    let truncated = |_| wrong("the file ends too early; write it again with numpy.save".into());
    let mut start = [0; 8];
    source.read_exact(&mut start).map_err(truncated)?;
    if !start.starts_with(MAGIC) {
        let reason = "not a NumPy .npy file; write one with numpy.save(file, array)";
        return Err(wrong(reason.into()));
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            source.read_exact(&mut length).map_err(truncated)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            source.read_exact(&mut length).map_err(truncated)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(wrong(format!(".npy version {version} is not 1, 2 or 3"))),
    };
    if length > MAX_HEADER {
        return Err(wrong(format!("a header of {length} bytes is not credible")));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text).map_err(truncated)?;
    let (dtype, shape) = parse_header(&String::from_utf8_lossy(&text)).map_err(wrong)?;
    let bytes = shape.elements() * dtype.size();
    let mut data = Vec::new();
    source
        .take(bytes as u64 + 1)
        .read_to_end(&mut data)
        .map_err(Error::io(format!("read {file}")))?;
    if data.len() != bytes {
        let more = if data.len() > bytes { "more" } else { "fewer" };
        let reason = format!("{more} bytes than the {bytes} of shape {shape} in {dtype}");
        return Err(wrong(reason));
    }
    Ok((shape, elements(dtype, &data)))
}

fn elements(dtype: DType, data: &[u8]) -> TensorData {
    let words = || data.as_chunks().0.iter();
    match dtype {
        DType::U8 => TensorData::U8(data.to_vec()),
        DType::I8 => TensorData::I8(bytemuck::cast_slice(data).to_vec()),
        DType::I32 => TensorData::I32(words().map(|&b| i32::from_le_bytes(b)).collect()),
        DType::F32 => TensorData::F32(words().map(|&b| f32::from_le_bytes(b)).collect()),
    }
}

/// Type and shape from the dictionary `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }`.
fn parse_header(text: &str) -> std::result::Result<(DType, Shape), String> {
    let descr = value_of(text, "descr")?;
    let dtype = descr.trim_start_matches(['\'', '"']);
    let dtype = match dtype.split(['\'', '"']).next().unwrap_or("") {
        "|u1" | "<u1" | "u1" | "|b1" => DType::U8,
        "|i1" | "<i1" | "i1" => DType::I8,
        "<i4" => DType::I32,
        "<f4" => DType::F32,
        other => {
            return Err(format!(
                "element type {other:?} is not uint8, int8, int32 or float32 (little endian); \
                 convert with array.astype(numpy.float32)"
            ));
        }
    };
    if !value_of(text, "fortran_order")?.starts_with("False") {
        return Err("the array is in Fortran order; save numpy.ascontiguousarray(array)".into());
    }
    let shape = value_of(text, "shape")?;
    let list = shape
        .strip_prefix('(')
        .and_then(|list| list.split_once(')'))
        .map(|(list, _)| list)
        .ok_or("the header has no shape")?;
    let mut dims = Vec::new();
    for dim in list.split(',').map(str::trim).filter(|dim| !dim.is_empty()) {
        let dim = dim.trim_end_matches('L').parse::<usize>();
        dims.push(dim.map_err(|_| format!("shape ({list}) is not a list of sizes"))?);
    }
    match Shape::checked(dims) {
        Some(shape) => Ok((dtype, shape)),
        None => Err(format!(
            "shape ({list}) has more than 2^28 elements or 8 axes"
        )),
    }
}

/// What follows `'key':` in the dictionary.
fn value_of<'t>(text: &'t str, key: &str) -> std::result::Result<&'t str, String> {
    [format!("'{key}'"), format!("\"{key}\"")]
        .iter()
        .find_map(|quoted| text.split_once(quoted.as_str()))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| format!("the header has no {key}; write the file again with numpy.save"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<(Shape, TensorData)> {
        read_from(bytes, "x.npy")
    }

    fn file(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((dictionary.len() as u16).to_le_bytes()),
            _ => bytes.extend((dictionary.len() as u32).to_le_bytes()),
        }
        bytes.extend(dictionary.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        let tensors = [
            TensorData::U8(vec![0, 255, 3, 4, 5, 6]),
            TensorData::I8(vec![-128, 127, 0, 1, 2, 3]),
            TensorData::I32(vec![i32::MIN, i32::MAX, 0, 1, 2, 3]),
            TensorData::F32(vec![0.5, -1e30, f32::INFINITY, 1.0, 2.0, 3.0]),
        ];
        for data in tensors {
            for shape in [Shape::from([6]), Shape::from([1, 2, 3])] {
                write(&path, &shape, data.view()).unwrap();
                assert_eq!(std::fs::metadata(&path).unwrap().len() % 2, 0);
                assert_eq!(read(&path).unwrap(), (shape, data.clone()));
            }
        }
    }

    #[test]
    fn the_data_starts_at_a_multiple_of_64() {
        for rank in 0..8 {
            let shape = Shape::checked(vec![100; rank.min(3)]).unwrap();
            assert_eq!(header(&shape, DType::F32).len() % 64, 0);
        }
    }

    #[test]
    fn version_2_and_scalars_are_read() {
        let dictionary = "{'descr': '<i4', 'fortran_order': False, 'shape': (), }";
        let (shape, data) = parse(&file(2, dictionary, &7i32.to_le_bytes())).unwrap();
        assert_eq!((shape.rank(), data), (0, TensorData::I32(vec![7])));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_advice() {
        let cases = [
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
                "astype",
            ),
            (
                "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }",
                "astype",
            ),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }",
                "ascontiguousarray",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }",
                "2^28",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
                "sizes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
                "fewer",
            ),
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }",
                "more",
            ),
            ("{'fortran_order': False, 'shape': (2,), }", "descr"),
        ];
        for (dictionary, advice) in cases {
            let message = parse(&file(1, dictionary, &[0; 4]))
                .unwrap_err()
                .to_string();
            assert!(message.contains(advice), "{message}");
        }
        for bytes in [
            &b""[..],
            b"\x93NUM",
            b"PK\x03\x04....",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        ] {
            assert!(parse(bytes).is_err());
        }
    }
}
