//! Where a CSV record ends: at a line feed that is not inside quotes.

/// Follows the quotes of one record. A quote opens at the start of a field only; two of them inside quotes are one
/// that belongs to the text. Reads CSV as `csv-core` does.
#[derive(Debug, Clone)]
pub(crate) struct Quotes {
    delimiter: u8,
    quote: u8,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote inside quotes: the end of the quoted part, or the first of two.
    QuoteInQuoted,
}

impl Quotes {
    /// At the start of a record.
    pub fn new(delimiter: u8, quote: u8) -> Self {
        Quotes { delimiter, quote, place: Place::FieldStart }
    }

    /// Reads on.
    pub fn read(&mut self, bytes: &[u8]) {
        // Most lines have no quote at all, and looking for one byte is fast.
        if self.place != Place::FieldStart || bytes.contains(&self.quote) {
            bytes.iter().for_each(|&byte| self.place = self.after(byte));
        } else if bytes.last().is_some_and(|&last| last != b'\n' && last != self.delimiter) {
            self.place = Place::Unquoted;
        }
    }

    /// True inside quotes: the record goes on behind the line feed.
    pub fn are_open(&self) -> bool {
        self.place == Place::Quoted
    }

    fn after(&self, byte: u8) -> Place {
        let is_quote = byte == self.quote;
        match self.place {
            Place::FieldStart | Place::QuoteInQuoted if is_quote => Place::Quoted,
            Place::Quoted if is_quote => Place::QuoteInQuoted,
            Place::Quoted => Place::Quoted,
            _ if byte == self.delimiter || byte == b'\n' => Place::FieldStart,
            _ => Place::Unquoted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_open_at_the_start_of_a_field_only() {
        for (record, are_open) in [
            ("a,b\n", false),
            ("\"a\n", true),
            ("a,\"b\n", true),
            ("a\"b\n", false),
            ("5\" pipe,\"b\"\n", false),
            ("\"a\"\"\n", true),
            ("\"a\"\"\"\n", false),
            ("\"a\" b,\"\n", true),
            ("\"a\" \"b\n", false),
            (",\"\n", true),
            ("", false),
        ] {
            for cut in 0..=record.len() {
                let mut quotes = Quotes::new(b',', b'"');
                quotes.read(&record.as_bytes()[..cut]);
                quotes.read(&record.as_bytes()[cut..]);
                assert_eq!(quotes.are_open(), are_open, "{record:?} cut at {cut}");
            }
        }
    }
}
