//! The literals of a payload: what stands around its values.

use super::fields::{Fields, ROOT};

/// More values than this in a payload are not learned: it is more of a document than of a reading.
const MAX_VALUES: usize = 200;

/// Nor is a payload that is nested deeper than this.
const MAX_DEPTH: usize = 32;

/// What stands around the values of a payload.
pub(super) struct Shape<'p> {
    /// Each value that is neither an object nor an array, with what comes before it.
    pub values: Vec<Learned<'p>>,
    /// What comes after the last one, and the fields that are entered there.
    pub end: (&'p [u8], u64),
}

/// A value.
pub(super) struct Learned<'p> {
    /// What stands between it and the value before.
    pub literal: &'p [u8],
    /// The declared fields that are entered there, a bit each.
    pub enters: u64,
    /// The field, if columns want it.
    pub field: Option<usize>,
    /// Where in the object it stands: names and array places, from the outside in.
    pub place: Vec<u8>,
}

/// Takes a payload apart that is known to be an object. None when its shape is not worth to be known.
pub(super) fn learn<'p>(payload: &'p [u8], fields: &Fields) -> Option<Shape<'p>> {
    let mut walk =
        Walk { payload, fields, at: 0, literal: 0, enters: 0, depth: 0, place: Vec::new(), values: Vec::new() };
    walk.value(Some(ROOT))?;
    Some(Shape { end: (&payload[walk.literal..], walk.enters), values: walk.values })
}

struct Walk<'p, 'f> {
    payload: &'p [u8],
    fields: &'f Fields,
    at: usize,
    /// Where the literal begins that is being read.
    literal: usize,
    enters: u64,
    depth: usize,
    place: Vec<u8>,
    values: Vec<Learned<'p>>,
}

impl<'p> Walk<'p, '_> {
    /// Reads a value; `field` is its field, if it is declared.
    fn value(&mut self, field: Option<usize>) -> Option<()> {
        self.space();
        match self.payload.get(self.at)? {
            b'{' => self.members(field, b'}', Self::member),
            b'[' => self.members(field, b']', Self::item),
            _ => self.scalar(field),
        }
    }

    /// Reads what is inside an object or an array.
    fn members(
        &mut self,
        field: Option<usize>,
        close: u8,
        read: fn(&mut Self, Option<usize>, usize) -> Option<()>,
    ) -> Option<()> {
        self.depth += 1;
        if MAX_DEPTH < self.depth {
            return None;
        }
        let place = self.place.len();
        for number in 0.. {
            // Behind the opening bracket, or the comma.
            self.at += 1;
            self.space();
            if *self.payload.get(self.at)? == close {
                break;
            }
            read(self, field, number)?;
            self.place.truncate(place);
            self.space();
            if *self.payload.get(self.at)? == close {
                break;
            }
        }
        self.at += 1;
        self.depth -= 1;
        Some(())
    }

    fn member(&mut self, of: Option<usize>, _: usize) -> Option<()> {
        let name = self.text()?;
        self.space();
        // The colon.
        self.at += 1;
        let field = of.and_then(|of| self.fields.find(of, std::str::from_utf8(name).ok()?));
        self.place.push(b'"');
        self.place.extend_from_slice(name);
        self.enter(field)
    }

    fn item(&mut self, of: Option<usize>, number: usize) -> Option<()> {
        let field = of.and_then(|of| self.fields.find_index(of, number));
        self.place.push(b'[');
        self.place.extend_from_slice(&number.to_le_bytes());
        self.enter(field)
    }

    fn enter(&mut self, field: Option<usize>) -> Option<()> {
        self.enters |= field.map_or(0, |field| 1 << field);
        self.value(field)
    }

    fn scalar(&mut self, field: Option<usize>) -> Option<()> {
        if self.values.len() == MAX_VALUES || self.place.is_empty() {
            return None;
        }
        if field.is_some_and(|field| self.fields.columns(field).is_none()) {
            // Null, where an object may stand, and nothing else.
            return None;
        }
        self.values.push(Learned {
            literal: &self.payload[self.literal..self.at],
            enters: std::mem::take(&mut self.enters),
            field: field.filter(|field| self.fields.columns(*field) != Some(&[])),
            place: self.place.clone(),
        });
        match self.payload[self.at] {
            b'"' => drop(self.text_with_escapes()?),
            _ => self.at += self.payload[self.at..].iter().take_while(|byte| !b",]} \t\r\n".contains(byte)).count(),
        }
        self.literal = self.at;
        Some(())
    }

    /// Reads a name. One with escapes could be written in other ways: its shape is not learned.
    fn text(&mut self) -> Option<&'p [u8]> {
        self.text_with_escapes().filter(|text| !text.contains(&b'\\'))
    }

    fn text_with_escapes(&mut self) -> Option<&'p [u8]> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            match self.payload.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Some(&self.payload[start..at])
    }

    fn space(&mut self) {
        self.at += self.payload[self.at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    }
}
