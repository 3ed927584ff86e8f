//! A file cut into records, read in batches by a thread that may block.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use pipeline_stage::{Framing, MAX_BATCH_ROWS, Position, Result};
use tracing::warn;

use super::FileToRead;
use super::stream::{Stream, cannot_read};
use crate::quotes::Quotes;

/// A batch ends when it has this many bytes: long rows need no 8,192 of them to be worth a call.
const BATCH_BYTES: usize = 4 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Ends a record that was cut off: no UTF-8 text has this byte, so no format takes what is left for a whole row.
const CUT_MARK: u8 = 0xff;

/// The records of one file, in order.
pub(super) struct Records {
    file: FileToRead,
    stream: Stream,
    /// Where the next record starts.
    start: u64,
    /// What was read of it so far, at most what a line may have.
    record: Vec<u8>,
    quotes: Option<Quotes>,
    /// It is too long: the rest of its line is passed over.
    is_cut: bool,
    /// The first record, if the file has a header.
    header: Option<Arc<[u8]>>,
    /// An error that came after some good records: they are given first.
    failure: Option<io::Error>,
}

/// Some records.
pub(super) struct Batch {
    pub payloads: BinaryArray,
    /// Where each starts.
    pub offsets: Vec<u64>,
    pub header: Option<Arc<[u8]>>,
    /// Where reading goes on behind them.
    pub end: u64,
    /// Why it has no more of them.
    pub because: Because,
    /// The length of the file, if it is plain.
    pub length: Option<u64>,
}

/// Why a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// It is full.
    Full,
    /// The next record starts where reading was to stop.
    Stop,
    /// The file ends; there may be the start of another record.
    End,
}

/// The payloads of a batch while it is read.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    offsets: Vec<u64>,
}

impl Records {
    /// The records from a position on, or from the start. Blocks.
    ///
    /// # Errors
    /// Of kind `Config` when there is no such file, `Fatal` when it is not the one that the position is of.
    pub fn open(file: &FileToRead, from: Option<&Position>) -> Result<Self> {
        let mut records = Records {
            file: file.clone(),
            stream: Stream::open(file)?,
            start: 0,
            record: Vec::new(),
            quotes: None,
            is_cut: false,
            header: None,
            failure: None,
        };
        records.begin_record();
        if let Some(position) = from.filter(|position| position.offset > 0) {
            records.read_header(position.offset).map_err(|error| cannot_read(file, error))?;
            records.stream.skip_to(file, position)?;
            records.begin_record();
        }
        Ok(records)
    }

    /// The length of the file now, if it is plain.
    pub fn length(&self) -> Option<u64> {
        self.stream.length()
    }

    /// By what the file is recognised when reading goes on at an offset.
    pub fn fingerprint(&self, offset: u64) -> Option<String> {
        self.stream.fingerprint(offset)
    }

    /// The next records that start before `stop`. Blocks. At the end of the file the start of a record counts as a
    /// whole one if `takes_unfinished`.
    pub fn read_batch(&mut self, stop: u64, takes_unfinished: bool) -> Result<Batch> {
        self.read(stop, takes_unfinished).map_err(|error| cannot_read(&self.file, error))
    }

    /// See [`Stream::is_still`].
    pub fn is_still_there(&self) -> Result<()> {
        self.stream.is_still(&self.file)
    }

    fn wants_header(&self) -> bool {
        self.header.is_none() && matches!(self.file.framing, Framing::Csv { has_header: true, .. })
    }

    /// Reads the header, if the file has one; it stands before `end`.
    fn read_header(&mut self, end: u64) -> io::Result<()> {
        let mut no_rows = Collected::default();
        while self.wants_header() && self.start < end && self.read_record()? {
            self.finish_record(&mut no_rows);
        }
        Ok(())
    }

    fn read(&mut self, stop: u64, takes_unfinished: bool) -> io::Result<Batch> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let mut collected = Collected::default();
        let because = loop {
            if stop <= self.start {
                break Because::Stop;
            }
            if collected.ends.len() == MAX_BATCH_ROWS || BATCH_BYTES <= collected.bytes.len() {
                break Because::Full;
            }
            match self.read_record() {
                Ok(true) => self.finish_record(&mut collected),
                Ok(false) if takes_unfinished && !self.record.is_empty() => self.finish_record(&mut collected),
                Ok(false) => break Because::End,
                Err(error) if collected.ends.is_empty() => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break Because::Full;
                }
            }
        };
        let Collected { bytes, ends, offsets } = collected;
        let ends: Vec<i32> = std::iter::once(0).chain(ends).collect();
        let payloads = BinaryArray::new(OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(bytes), None);
        let (header, length) = (self.header.clone(), self.stream.length());
        Ok(Batch { payloads, offsets, header, end: self.start, because, length })
    }

    /// Reads on to the end of the record; false at the end of the file. What an error interrupts goes on at the next
    /// call.
    fn read_record(&mut self) -> io::Result<bool> {
        // The longest line that is allowed, and its line ending.
        let limit = self.file.max_line + b"\r\n".len();
        loop {
            if self.is_cut {
                // Quotes are no guide any more: an open one would swallow the rest of the file.
                return self.skip_line();
            }
            let known = self.record.len();
            if limit <= known {
                self.is_cut = true;
                if self.record.ends_with(b"\n") {
                    return Ok(true);
                }
                continue;
            }
            let result = self.stream.by_ref().take((limit - known) as u64).read_until(b'\n', &mut self.record);
            let read = &self.record[known..];
            let (is_line_whole, is_end) = (read.ends_with(b"\n"), read.is_empty());
            let is_quoted = match &mut self.quotes {
                Some(quotes) => {
                    quotes.read(read);
                    quotes.are_open()
                }
                None => false,
            };
            result?;
            if is_line_whole && !is_quoted {
                return Ok(true);
            }
            if is_end {
                return Ok(false);
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let available = self.stream.fill_buf()?;
            if available.is_empty() {
                return Ok(false);
            }
            let line_feed = available.iter().position(|&byte| byte == b'\n');
            let count = line_feed.map_or(available.len(), |at| at + 1);
            self.stream.consume(count);
            if line_feed.is_some() {
                return Ok(true);
            }
        }
    }

    /// Adds the record that was read, without its line ending; an empty one is skipped, the first may be the header.
    fn finish_record(&mut self, collected: &mut Collected) {
        let mut record = self.record.as_slice();
        record = record.strip_suffix(b"\n").unwrap_or(record);
        record = record.strip_suffix(b"\r").unwrap_or(record);
        if self.start == 0 {
            record = record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record);
        }
        let is_too_long = self.is_cut || self.file.max_line < record.len();
        if is_too_long {
            let (file, at, limit) = (&self.file.name, self.start, self.file.max_line);
            warn!(%file, at, limit, "a line is longer than `max_line`; it is cut off and becomes a dead letter");
            record = &record[..record.len().min(limit)];
        }
        if !record.is_empty() {
            if self.wants_header() {
                self.header = Some(record.into());
            } else {
                collected.bytes.extend_from_slice(record);
                collected.bytes.extend(is_too_long.then_some(CUT_MARK));
                collected.ends.push(i32::try_from(collected.bytes.len()).expect("a batch has less than 2 GiB"));
                collected.offsets.push(self.start);
            }
        }
        self.begin_record();
    }

    /// The next record starts behind what was taken.
    fn begin_record(&mut self) {
        self.start = self.stream.taken();
        self.record.clear();
        self.is_cut = false;
        if let Framing::Csv { delimiter, quote, .. } = self.file.framing {
            self.quotes = Some(Quotes::new(delimiter, quote));
        }
    }
}
