//! Frames between the engine and a Python process.
//!
//! A frame is the bytes `PPL1`, the length of a header (32 bits, little endian), the header in JSON, and then the
//! bodies, whose lengths stand in the header under `bodies`. Numbers in bodies are little endian.

use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};

const MAGIC: &[u8; 4] = b"PPL1";
/// Rejected rows with their reasons stand in a header; more than this of them is a mistake.
const MAX_HEADER: usize = 64 << 20;
/// What one frame may hold besides: a batch of large texts, or the state of some thousand series.
const MAX_BODIES: u64 = 1 << 30;
/// Memory is taken as bytes arrive: a length that is none must not take it all at once.
const READ_AT_ONCE: usize = 4 << 20;

/// What came.
#[derive(Debug)]
pub struct Frame {
    /// What it says.
    pub header: Map<String, Value>,
    /// What belongs to it.
    pub bodies: Vec<Vec<u8>>,
}

/// Why no frame came.
#[derive(Debug)]
pub enum Wrong {
    /// The pipe is closed, or cannot be read or written.
    Ended,
    /// What came is no frame; in words that complete "the Python process has written …".
    NoFrame(String),
}

impl From<io::Error> for Wrong {
    fn from(_: io::Error) -> Self {
        Wrong::Ended
    }
}

/// Writes a frame.
pub fn write(to: &mut impl Write, mut header: Map<String, Value>, bodies: &[&[u8]]) -> io::Result<()> {
    header.insert("bodies".into(), bodies.iter().map(|body| body.len()).collect::<Vec<_>>().into());
    let text = Value::Object(header).to_string();
    let length = u32::try_from(text.len()).map_err(|_| io::Error::other("a header has more than 4 GB"))?;
    to.write_all(&[MAGIC.as_slice(), &length.to_le_bytes(), text.as_bytes()].concat())?;
    bodies.iter().try_for_each(|body| to.write_all(body))?;
    to.flush()
}

/// Reads a frame.
pub fn read(from: &mut impl Read) -> Result<Frame, Wrong> {
    let mut start = [0; 8];
    from.read_exact(&mut start[..4])?;
    if &start[..4] != MAGIC {
        return Err(Wrong::NoFrame(shown(&start[..4])));
    }
    from.read_exact(&mut start[4..])?;
    let length = u32::from_le_bytes([start[4], start[5], start[6], start[7]]) as usize;
    if MAX_HEADER < length {
        return Err(Wrong::NoFrame(format!("a header of {length} bytes, it may have {MAX_HEADER}")));
    }
    let text = read_bytes(from, length)?;
    let Ok(Value::Object(header)) = serde_json::from_slice(&text) else {
        return Err(Wrong::NoFrame(format!("a header that is no JSON object: {}", shown(&text))));
    };
    let lengths = header.get("bodies").and_then(Value::as_array).cloned().unwrap_or_default();
    let (mut bodies, mut left) = (Vec::new(), MAX_BODIES);
    for length in lengths {
        let fitting = length.as_u64().filter(|length| *length <= left);
        let Some(length) = fitting else {
            return Err(Wrong::NoFrame(format!("a body of {length} bytes, a frame may have {MAX_BODIES}")));
        };
        left -= length;
        bodies.push(read_bytes(from, length as usize)?);
    }
    Ok(Frame { header, bodies })
}

fn read_bytes(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(READ_AT_ONCE));
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + READ_AT_ONCE), 0);
        from.read_exact(&mut bytes[start..])?;
    }
    Ok(bytes)
}

/// Bytes as a person can look at them.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    format!("`{}`, which is no answer", pipeline_stage::printable(&text, 64))
}

/// A header; `fields` is a JSON object.
pub fn header(op: &str, fields: Value) -> Map<String, Value> {
    let mut header = Map::from_iter([("op".to_owned(), json!(op))]);
    if let Value::Object(fields) = fields {
        header.extend(fields);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bodies: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, header("observe", json!({"n": 3})), bodies).expect("memory takes it");
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let large = vec![7; 9 << 20];
        let frame = read(&mut written(&[b"abc", b"", &large]).as_slice()).expect("a frame");
        assert_eq!((frame.header["op"].as_str(), frame.header["n"].as_u64()), (Some("observe"), Some(3)));
        assert_eq!(frame.bodies, [b"abc".to_vec(), Vec::new(), large]);
    }

    #[test]
    fn a_frame_that_ends_early_is_an_end() {
        let whole = written(&[b"abc", b"defg"]);
        for length in 0..whole.len() {
            let found = read(&mut &whole[..length]);
            assert!(matches!(found, Err(Wrong::Ended)), "{length}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_frame_is_told_in_words() {
        let with = |text: &str| [b"PPL1".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        for (bytes, words) in [
            (b"Traceback (most".to_vec(), "`Trac`, which is no answer"),
            (b"PPL1\xff\xff\xff\xff".to_vec(), "a header of 4294967295 bytes, it may have 67108864"),
            (with("[1]"), "a header that is no JSON object: `[1]`, which is no answer"),
            (
                with("{\"bodies\": [1152921504606846976]}"),
                "a body of 1152921504606846976 bytes, a frame may have 1073741824",
            ),
            (with("{\"bodies\": [-1]}"), "a body of -1 bytes, a frame may have 1073741824"),
        ] {
            match read(&mut bytes.as_slice()) {
                Err(Wrong::NoFrame(found)) => assert_eq!(found, words),
                other => panic!("{other:?}"),
            }
        }
    }
}
