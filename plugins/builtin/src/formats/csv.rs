//! `csv`: one record for each row.

use std::sync::Arc;

use arrow::array::RecordBatch;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator, WriterBuilder};
use pipeline_stage::{
    Cell, ColumnFrom, Decoded, Format, FormatContext, FormatOptions, Framing, RawRows, Result, StageError,
    StageOptions, printable,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::{Row, Table, text_between};
use super::value::Value;
use crate::quotes::Quotes;

/// Reads one CSV record for each row (RFC 4180), with any delimiter.
///
/// With a header a column takes the field of its name, or the one that `from` names; other fields are skipped.
/// Without one there must be a column for each field, in their order.
///
/// Spaces around numbers, times and booleans do not count. A `float` is a finite number, an `integer` takes `5` and
/// `5.0`, a `boolean` is true or false in any case. A `timestamp` is RFC 3339 text, with or without zone, or a number:
/// seconds since 1970 below 100,000,000,000, milliseconds from there on. An empty field is null, but in a column of
/// type `string`, where it is an empty text.
///
/// A record is rejected, and becomes a dead letter with the reason, when it has too few or too many fields, when a
/// quote is not closed, or when a column cannot take its field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvOptions {
    /// What stands between two fields: one ASCII character. A tab is `"\t"`.
    #[serde(default = "default_delimiter")]
    pub delimiter: char,
    /// What stands around a field that contains the delimiter or a line feed: one ASCII character. Inside, it is
    /// written twice.
    #[serde(default = "default_quote")]
    pub quote: char,
    /// Whether the first record of a file names the fields. Payloads from a broker have no header: set it to `false`.
    #[serde(default = "default_header")]
    pub header: bool,
    /// A text that means null in any column, `NULL` or `NA` for example. With `""` an empty text is null too.
    #[serde(default)]
    pub null_text: Option<String>,
}

fn default_delimiter() -> char {
    ','
}

fn default_quote() -> char {
    '"'
}

fn default_header() -> bool {
    true
}

impl StageOptions for CsvOptions {
    const NAME: &'static str = "csv";
    const EXAMPLE: &'static str = r#"
readings:
  type: file
  path: readings.csv
  format: { type: csv, delimiter: ";", null_text: NA }
  schema:
    sensor_id: { type: string, from: Sensor }
    metric_type: { type: string, from: Metric }
    value: { type: float, from: Reading }
    timestamp: { type: timestamp, from: Time }
"#;
}

impl FormatOptions for CsvOptions {
    fn build(self, context: FormatContext) -> Result<Box<dyn Format>> {
        let delimiter = ascii("delimiter", self.delimiter)?;
        let quote = ascii("quote", self.quote)?;
        if delimiter == quote {
            let message = format!("`quote` is `{}` like `delimiter`, it must be another character", self.quote);
            return Err(StageError::config(message).at_option("quote"));
        }
        let table = Table::new(context)?;
        let from_fields: Vec<(usize, String)> = (table.columns().iter().enumerate())
            .filter_map(|(idx, column)| match &column.from {
                ColumnFrom::Field(path) => Some((idx, path.join("."))),
                ColumnFrom::Meta(_) | ColumnFrom::Part(..) => None,
            })
            .collect();
        let record = Record {
            // A line feed was taken off; what is left of a payload is one record.
            reader: ReaderBuilder::new().delimiter(delimiter).quote(quote).terminator(Terminator::Any(b'\n')).build(),
            quotes: Quotes::new(delimiter, quote),
            texts: Vec::new(),
            ends: vec![0; from_fields.len() + 1],
            n_fields: 0,
        };
        Ok(Box::new(Csv { table, from_fields, record, header: None, delimiter, quote, options: self }))
    }
}

fn ascii(option: &str, character: char) -> Result<u8> {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() && byte != b'\n' && byte != b'\r' => Ok(byte),
        _ => {
            let found = printable(&character.to_string(), 1);
            let message = format!("`{option}` is `{found}`, it must be one ASCII character and no line feed");
            Err(StageError::config(message).at_option(option))
        }
    }
}

struct Csv {
    options: CsvOptions,
    delimiter: u8,
    quote: u8,
    table: Table,
    /// The columns that come from a field, each with the field's name.
    from_fields: Vec<(usize, String)>,
    header: Option<Header>,
    record: Record,
}

/// Where the columns stand.
struct Header {
    line: Arc<[u8]>,
    layout: Layout,
}

#[derive(Clone)]
struct Layout {
    /// Column and field.
    places: Vec<(usize, usize)>,
    n_fields: usize,
    /// For the sentence of an error.
    source: &'static str,
}

impl Format for Csv {
    fn framing(&self) -> Framing {
        Framing::Csv { delimiter: self.delimiter, quote: self.quote, has_header: self.options.header }
    }

    fn decode(&mut self, raw: &RawRows, offsets: &[u64]) -> Result<Decoded> {
        let layout = self.layout(raw.header.as_ref())?;
        let Csv { table, record, options, delimiter, .. } = self;
        let null = options.null_text.as_deref();
        table.decode(raw, offsets, &mut |payload: &[u8], row: &mut Row| {
            read_record(text_between(payload, *delimiter)?, &layout, null, record, row)
        })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Option<RawRows>> {
        let record = |row: usize| {
            let cells = self.from_fields.iter().map(|(column, _)| match Cell::of(rows.column(*column), row) {
                Cell::Null => self.options.null_text.clone().unwrap_or_default(),
                Cell::Text(text) => text.into(),
                Cell::Integer(number) => number.to_string(),
                Cell::Float(number) => number.to_string(),
                Cell::Boolean(is_true) => is_true.to_string(),
                Cell::Time(time) => time.to_rfc3339(),
                Cell::Other(text) => text,
            });
            self.write_record(cells)
        };
        let mut raw = RawRows::of_payloads((0..rows.num_rows()).map(record).collect());
        let header = || self.write_record(self.from_fields.iter().map(|(_, name)| name.clone()));
        raw.header = self.options.header.then(|| header().into());
        Ok(Some(raw))
    }
}

impl Csv {
    /// One record without its line feed.
    fn write_record(&self, fields: impl Iterator<Item = String>) -> Vec<u8> {
        let mut writer = WriterBuilder::new().delimiter(self.delimiter).quote(self.quote).build();
        let mut record = Vec::new();
        for (number, field) in fields.enumerate() {
            // At most a quote for each byte, two around them, and what ends the field before.
            let mut room = vec![0; 2 * field.len() + 4];
            let ended = if number == 0 { 0 } else { writer.delimiter(&mut room).1 };
            let (_, _, written) = writer.field(field.as_bytes(), &mut room[ended..]);
            record.extend_from_slice(&room[..ended + written]);
        }
        let mut end = [0; 4];
        let (_, written) = writer.finish(&mut end);
        record.extend_from_slice(&end[..written]);
        record
    }
}

impl Csv {
    /// Where the columns stand in the records that come with this header.
    fn layout(&mut self, header: Option<&Arc<[u8]>>) -> Result<Layout> {
        if !self.options.header {
            let places = self.from_fields.iter().enumerate().map(|(field, (column, _))| (*column, field)).collect();
            return Ok(Layout { places, n_fields: self.from_fields.len(), source: "`schema`" });
        }
        let Some(line) = header else {
            let message = "the rows come without a header; `header: false` takes the fields in the order of `schema`";
            return Err(StageError::fatal(message));
        };
        match &self.header {
            Some(known) if known.line == *line => Ok(known.layout.clone()),
            _ => {
                let layout = self.read_header(line)?;
                self.header = Some(Header { line: line.clone(), layout: layout.clone() });
                Ok(layout)
            }
        }
    }

    fn read_header(&mut self, line: &[u8]) -> Result<Layout> {
        let broken = |why: String| StageError::fatal(format!("the header cannot be read: {why}"));
        let text = std::str::from_utf8(line)
            .map_err(|error| broken(format!("it is not UTF-8 at byte {}", error.valid_up_to())))?;
        self.record.read(text).map_err(broken)?;
        let names: Vec<&str> = (0..self.record.n_fields).map(|field| self.record.field(field)).collect();
        let mut places = Vec::new();
        for (column, wanted) in &self.from_fields {
            let found: Vec<usize> = (0..names.len()).filter(|&field| names[field] == wanted).collect();
            match found[..] {
                [field] => places.push((*column, field)),
                [] => return Err(missing(wanted, &names)),
                _ => return Err(StageError::fatal(format!("the header has a field `{wanted}` twice"))),
            }
        }
        Ok(Layout { places, n_fields: names.len(), source: "the header" })
    }
}

fn missing(wanted: &str, names: &[&str]) -> StageError {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", printable(name, 60))).collect();
    StageError::fatal(format!("the header has no field `{wanted}`; it has {}", names.join(", ")))
}

fn read_record(
    text: &str,
    layout: &Layout,
    null: Option<&str>,
    record: &mut Record,
    row: &mut Row,
) -> Result<(), String> {
    record.read(text)?;
    if record.n_fields != layout.n_fields {
        let found = match record.n_fields {
            1 => "1 field".into(),
            n_fields => format!("{n_fields} fields"),
        };
        return Err(format!("it has {found}, {} has {}", layout.source, layout.n_fields));
    }
    for &(column, field) in &layout.places {
        let field = record.field(field);
        let is_null = null == Some(field) || (field.trim().is_empty() && !row.is_text(column));
        match is_null {
            true => row.set(column, Value::Null),
            false => row.set_field(column, field)?,
        }
    }
    Ok(())
}

/// The fields of one record.
struct Record {
    reader: Reader,
    quotes: Quotes,
    /// The fields without their quotes, one behind the other.
    texts: Vec<u8>,
    /// Where each ends in `texts`.
    ends: Vec<usize>,
    n_fields: usize,
}

impl Record {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut input = text.strip_suffix('\r').unwrap_or(text).as_bytes();
        let mut quotes = self.quotes.clone();
        quotes.read(input);
        if quotes.are_open() {
            return Err("a quote is not closed".into());
        }
        // Fields are never longer than what they are written as.
        self.texts.resize(input.len().max(1), 0);
        self.reader.reset();
        let (mut n_bytes, mut n_fields) = (0, 0);
        loop {
            let (result, read, written, ended) =
                self.reader.read_record(input, &mut self.texts[n_bytes..], &mut self.ends[n_fields..]);
            input = &input[read..];
            n_bytes += written;
            n_fields += ended;
            match result {
                // Nothing left to read means the end: the next call gets an empty input and says so.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::OutputFull => self.texts.resize(self.texts.len() * 2, 0),
                ReadRecordResult::Record if input.is_empty() => break,
                ReadRecordResult::Record => return Err("it is more than one record".into()),
                // Of nothing but a carriage return, say.
                ReadRecordResult::End => break,
            }
        }
        self.n_fields = n_fields;
        Ok(())
    }

    fn field(&self, field: usize) -> &str {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        std::str::from_utf8(&self.texts[start..self.ends[field]]).expect("the record is text, cut at ASCII characters")
    }
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{Column, ColumnType, ErrorKind, Meta};
    use serde_json::json;

    use super::*;
    use crate::formats::fixtures::{column, context, decode_one, from, meta, nullable, raw_rows, row_of};

    fn csv(options: serde_json::Value, columns: Vec<Column>) -> Box<dyn Format> {
        serde_json::from_value::<CsvOptions>(options).unwrap().build(context(columns)).unwrap()
    }

    fn readings() -> Vec<Column> {
        vec![
            column("id", ColumnType::String),
            nullable("value", ColumnType::Float),
            nullable("time", ColumnType::Timestamp),
        ]
    }

    fn with_header(format: &mut dyn Format, header: &str, records: &[&str]) -> Result<Decoded> {
        let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| Some(record.as_bytes())).collect();
        let raw = RawRows { header: Some(header.as_bytes().into()), ..raw_rows(&payloads) };
        format.decode(&raw, &vec![7; records.len()])
    }

    #[test]
    fn takes_columns_by_the_names_in_the_header() {
        let columns = [readings(), vec![meta("offset", ColumnType::Integer, Meta::Offset)]].concat();
        let mut format = csv(json!({}), columns);
        let decoded = with_header(&mut *format, "time,x,id,value", &["0,,\"a,b\",1.5"]).unwrap();
        assert_eq!(row_of(&decoded.batch, 0), "a,b 1.5 1970-01-01T00:00:00Z 7");
        let decoded = with_header(&mut *format, "\"id\",value,time\r\n", &["\"a \"\"b\"\"\n c\",-2,\r\n"]).unwrap();
        assert_eq!(row_of(&decoded.batch, 0), "a \"b\"\n c -2.0 null 7");
        let columns =
            vec![from("Sensor", column("id", ColumnType::String)), from("a.b", column("v", ColumnType::Float))];
        let decoded = with_header(&mut *csv(json!({"delimiter": ";"}), columns), "a.b;Sensor", &["1;x"]).unwrap();
        assert_eq!(row_of(&decoded.batch, 0), "x 1.0");
    }

    #[test]
    fn a_header_that_does_not_fit_stops_the_run() {
        for (header, words) in [
            ("id,value,zeit", "the header has no field `time`; it has `id`, `value`, `zeit`"),
            ("id,value,id,time", "the header has a field `id` twice"),
            ("id,\"value,time", "the header cannot be read: a quote is not closed"),
        ] {
            let error = with_header(&mut *csv(json!({}), readings()), header, &["a,1,2"]).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
        }
        let error = csv(json!({}), readings()).decode(&raw_rows(&[Some(b"a,1,2")]), &[0]).unwrap_err();
        let words = "the rows come without a header; `header: false` takes the fields in the order of `schema`";
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
    }

    #[test]
    fn rejects_records_that_do_not_fit() {
        let mut format = csv(json!({"header": false}), readings());
        for (record, why) in [
            ("", "the payload is empty"),
            ("a", "it has 1 field, `schema` has 3"),
            ("a,1,2,3", "it has 4 fields, `schema` has 3"),
            ("a,1,2\nb,1,2", "it is more than one record"),
            ("\"a,1,2", "a quote is not closed"),
            ("a,1.5.0,2", "column `value` is `1.5.0`, it must be a number"),
            ("a,NaN,2", "column `value` is `NaN`, it must be a number"),
            ("a,1e999,2", "column `value` is `1e999`, it must be a number"),
            ("a,-inf,2", "column `value` is `-inf`, it must be a number"),
            (
                "a,1,2025-02-30",
                "column `time` is the text `2025-02-30`, it must be a time like `2025-07-20T08:19:16Z`, or seconds or milliseconds since 1970",
            ),
            (
                "a,1,1752999556000000",
                "column `time` is the number `1752999556000000`, it must be in the years 0 to 9999",
            ),
        ] {
            assert_eq!(decode_one(&mut *format, record.as_bytes()), Err(why.into()), "{record}");
        }
        assert_eq!(decode_one(&mut *format, b"\xff,1,2"), Err("the payload is not UTF-8 at byte 0".into()));
        let strict = vec![column("n", ColumnType::Integer), column("id", ColumnType::String)];
        let why = "column `n` is null, it must be a whole number (or `nullable: true`)";
        assert_eq!(decode_one(&mut *csv(json!({"header": false}), strict), b",a"), Err(why.into()));
    }

    #[test]
    fn reads_each_type() {
        let columns = vec![
            nullable("n", ColumnType::Integer),
            nullable("b", ColumnType::Boolean),
            nullable("s", ColumnType::String),
        ];
        for (options, record, row) in [
            (json!({}), "5, TRUE , x ", "5 true  x "),
            (json!({}), "5.0,False,\"\"", "5 false "),
            (json!({}), " , ,", "null null "),
            (json!({"null_text": ""}), "1,,", "1 null null"),
            (json!({"null_text": "NA"}), "NA,NA,NA", "null null null"),
            (json!({"null_text": "NA"}), "1,true,", "1 true "),
            // Blanks that part fields are no empty record.
            (json!({"delimiter": "\t", "null_text": ""}), "\t\t\n", "null null null"),
            (json!({"delimiter": "\t", "quote": "'"}), "1\ttrue\t'a\tb\"'", "1 true a\tb\""),
            (json!({}), "9223372036854775807,true,5\" pipe", "9223372036854775807 true 5\" pipe"),
            (json!({}), "1,true,a\0b😀", "1 true a\0b😀"),
        ] {
            let mut options = options;
            options["header"] = json!(false);
            assert_eq!(
                decode_one(&mut *csv(options, columns.clone()), record.as_bytes()),
                Ok(row.into()),
                "{record:?}"
            );
        }
        let too_large = decode_one(&mut *csv(json!({"header": false}), columns), b"9223372036854775808,true,x");
        assert_eq!(too_large, Err("column `n` is `9223372036854775808`, it must fit in 64 bits".into()));
    }

    #[test]
    fn refuses_bad_options() {
        for (bad, option, message) in [
            (
                json!({"delimiter": "é"}),
                "delimiter",
                "`delimiter` is `é`, it must be one ASCII character and no line feed",
            ),
            (json!({"quote": "\n"}), "quote", "`quote` is `\\n`, it must be one ASCII character and no line feed"),
            (json!({"delimiter": "\""}), "quote", "`quote` is `\"` like `delimiter`, it must be another character"),
        ] {
            let error = serde_json::from_value::<CsvOptions>(bad).unwrap().build(context(readings())).err().unwrap();
            assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
        }
    }
}
