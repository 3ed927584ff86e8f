use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use arrow::array::Array;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use pipeline_stage::{ErrorKind, RawRows, Role, SourceBatch, SourceRows};
use pipeline_testkit::{Random, stage_context};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const CSV: Framing = Framing::Csv { delimiter: b',', quote: b'"', has_header: true };

fn build(options: Value, framing: Option<Framing>, once: bool) -> Result<Box<dyn Source>> {
    let mut stage = stage_context();
    stage.once = once;
    let context = SourceContext { stage, framing, role: Role::Leader };
    pipeline_stage::parse::<FileOptions>(options)?.build(context)
}

/// A file in a folder of its own.
struct Fixture {
    _folder: TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new(name: &str, content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        Fixture { _folder: folder, path }
    }

    fn append(&self, content: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(content).unwrap();
    }

    fn source(&self, more: Value, framing: Framing, once: bool) -> Box<dyn Source> {
        let mut options = json!({"path": self.path});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build(options, Some(framing), once).unwrap()
    }

    async fn open(
        &self,
        more: Value,
        framing: Framing,
        once: bool,
        from: Option<&Position>,
    ) -> Result<Box<dyn Reader>> {
        self.source(more, framing, once).open(&Partition::numbered(0), from).await
    }

    /// All records, each with its offset, and the position behind them.
    async fn read_all(&self, framing: Framing) -> (Vec<(u64, Vec<u8>)>, Position) {
        let mut reader = self.open(json!({}), framing, false, None).await.unwrap();
        (rows(&mut *reader, None).await, reader.position())
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn raw_of(batch: SourceBatch) -> RawRows {
    match batch.rows {
        SourceRows::Raw(raw) => raw,
        SourceRows::Columns(_) => panic!("a file gives payloads"),
    }
}

fn records_of(batch: SourceBatch) -> Vec<(u64, Vec<u8>)> {
    let offsets = batch.offsets.clone();
    let raw = raw_of(batch);
    assert_eq!(raw.payloads.len(), offsets.len());
    offsets.into_iter().zip(raw.payloads.iter().map(|payload| payload.unwrap().to_vec())).collect()
}

async fn rows(reader: &mut dyn Reader, until: Option<&Position>) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(batch) = reader.next(until).await.unwrap() {
        assert!(!batch.is_empty());
        all.extend(records_of(batch));
    }
    all
}

fn texts(records: &[(u64, Vec<u8>)]) -> Vec<&str> {
    records.iter().map(|(_, record)| std::str::from_utf8(record).unwrap()).collect()
}

/// Enough lines for several batches, of all lengths.
fn many_lines() -> Vec<u8> {
    let mut random = Random::new(4);
    let mut content = Vec::new();
    for line in 0..20_000 {
        content.extend_from_slice(format!("{line} {}", "x".repeat(random.below(60))).as_bytes());
        content.extend_from_slice(if random.once_in(3) { b"\r\n" } else { b"\n" });
    }
    content
}

#[test]
fn refuses_bad_options() {
    for (bad, option, message) in [
        (json!({"path": ""}), "path", "`path` is empty, it must name a file"),
        (
            json!({"path": "a.JSONL.GZ", "follow": true}),
            "follow",
            "`a.JSONL.GZ` is compressed, only plain files can be followed",
        ),
        (json!({"path": "a", "max_line": "0B"}), "max_line", "`max_line` is 0B, it must be 1B to 1GiB"),
        (json!({"path": "a", "max_line": "2GiB"}), "max_line", "`max_line` is 2GiB, it must be 1B to 1GiB"),
    ] {
        let error = build(bad, Some(Framing::Lines), false).err().expect("bad options");
        assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
    }
    let error = build(json!({"path": "a"}), None, false).err().unwrap();
    assert_eq!(error.to_string(), "it has no `format`; `json` or `csv` would do");
}

#[tokio::test]
async fn says_what_stands_in_the_place_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (path, message) in [
        (path("none"), format!("there is no file `{}`", path("none"))),
        (path(""), format!("`{}` is a folder, it must be a file", path(""))),
    ] {
        let mut source = build(json!({"path": path}), Some(Framing::Lines), false).unwrap();
        let error = source.open(&Partition::numbered(0), None).await.err().unwrap();
        assert_eq!(
            (error.kind(), error.option(), error.to_string()),
            (ErrorKind::Config, Some("path"), message.clone())
        );
        assert_eq!(source.check().await[0].to_string(), message);
    }
}

#[tokio::test]
async fn cuts_lines_and_skips_empty_ones() {
    for (content, expected, end) in [
        ("", vec![], 0),
        ("\n\r\n\n", vec![], 4),
        ("a\nb\r\n\nc", vec![(0, "a"), (2, "b"), (6, "c")], 7),
        ("\u{feff}a\n\u{feff}b\n", vec![(0, "a"), (5, "\u{feff}b")], 10),
        ("a\rb\n \n", vec![(0, "a\rb"), (4, " ")], 6),
    ] {
        for (name, bytes) in [("a.jsonl", content.as_bytes().to_vec()), ("a.jsonl.gz", gzip(content.as_bytes()))] {
            let (records, position) = Fixture::new(name, &bytes).read_all(Framing::Lines).await;
            let found: Vec<(u64, &str)> = records.iter().map(|(offset, _)| *offset).zip(texts(&records)).collect();
            assert_eq!((found, position.offset), (expected.clone(), end), "{content:?} in {name}");
        }
    }
}

#[tokio::test]
async fn cuts_csv_records_and_gives_the_header_with_them() {
    let content = "\u{feff}id,text\n1,\"a\nb\"\r\n\n2,5\" pipe\n3,\"say \"\"x\n\"\"\"\n";
    let fixture = Fixture::new("a.csv", content.as_bytes());
    let (records, position) = fixture.read_all(CSV).await;
    assert_eq!(texts(&records), ["1,\"a\nb\"", "2,5\" pipe", "3,\"say \"\"x\n\"\"\""]);
    for (offset, _) in &records[1..] {
        let from = Position { offset: *offset, ..position.clone() };
        let from = Position { detail: None, ..from };
        let mut reader = fixture.open(json!({}), CSV, false, Some(&from)).await.unwrap();
        let batch = reader.next(None).await.unwrap().unwrap();
        assert_eq!(batch.offsets[0], *offset);
        assert_eq!(raw_of(batch).header.as_deref(), Some(&b"id,text"[..]), "also after a restart");
    }
}

#[tokio::test]
async fn reads_the_same_from_any_position() {
    let content = many_lines();
    for (name, bytes) in [
        ("a.jsonl", content.clone()),
        // Of several parts, as `cat a.gz b.gz` makes it.
        ("a.jsonl.gz", [gzip(&content[..70_001]), gzip(&content[70_001..])].concat()),
    ] {
        let fixture = Fixture::new(name, &bytes);
        let (all, _) = fixture.read_all(Framing::Lines).await;
        assert_eq!(all.len(), 20_000);
        let mut random = Random::new(9);
        for _ in 0..20 {
            let (first, last) = (random.below(all.len()), random.below(all.len()));
            let (first, last) = (first.min(last), first.max(last));
            let mut reader = fixture.open(json!({}), Framing::Lines, false, None).await.unwrap();
            let before = rows(&mut *reader, Some(&Position::at(all[first].0))).await;
            assert_eq!(before, all[..first]);
            let from = reader.position();
            assert_eq!(from.offset, all[first].0);
            let mut reader = fixture.open(json!({}), Framing::Lines, false, Some(&from)).await.unwrap();
            assert_eq!(reader.position(), from);
            assert_eq!(rows(&mut *reader, Some(&Position::at(all[last].0))).await, all[first..last]);
            assert_eq!(rows(&mut *reader, None).await, all[last..]);
        }
    }
}

#[tokio::test]
async fn waits_for_lines_to_be_finished() {
    let fixture = Fixture::new("a.jsonl", b"a\nb");
    let mut reader = fixture.open(json!({"follow": true}), Framing::Lines, false, None).await.unwrap();
    assert_eq!(texts(&records_of(reader.next(None).await.unwrap().unwrap())), ["a"]);
    for (appended, expected) in [(&b"b\nc"[..], "bb"), (b"c\n", "cc"), (b"\n\nd\n", "d")] {
        let (batch, ()) = tokio::join!(reader.next(None), async { fixture.append(appended) });
        assert_eq!(texts(&records_of(batch.unwrap().unwrap())), [expected]);
    }
    assert_eq!((reader.position().offset, reader.lag()), (12, Some(0)));
}

#[tokio::test]
async fn with_once_it_ends_where_the_file_ended() {
    for follow in [true, false] {
        let fixture = Fixture::new("a.jsonl", b"a\nb\n");
        let mut reader = fixture.open(json!({"follow": follow}), Framing::Lines, true, None).await.unwrap();
        assert_eq!(reader.lag(), Some(4));
        fixture.append(b"c\n");
        assert_eq!(texts(&rows(&mut *reader, None).await), ["a", "b"]);
        assert_eq!(reader.lag(), Some(0));
    }
    let unfinished = Fixture::new("a.jsonl", b"a\nb");
    let mut reader = unfinished.open(json!({"follow": true}), Framing::Lines, true, None).await.unwrap();
    assert_eq!(texts(&rows(&mut *reader, None).await), ["a"]);
    let mut reader = unfinished.open(json!({}), Framing::Lines, true, None).await.unwrap();
    assert_eq!(texts(&rows(&mut *reader, None).await), ["a", "b"]);
}

#[tokio::test]
async fn notices_that_the_file_is_another() {
    let content = many_lines();
    let fixture = Fixture::new("a.jsonl", &content);
    let (_, end) = fixture.read_all(Framing::Lines).await;
    let name = fixture.path.display().to_string();
    fixture.append(b"more\n");
    let mut reader = fixture.open(json!({}), Framing::Lines, false, Some(&end)).await.unwrap();
    assert_eq!(texts(&rows(&mut *reader, None).await), ["more"], "appending is fine");
    let mut other = content.clone();
    other[100] ^= 1;
    fs::write(&fixture.path, &other).unwrap();
    let replaced = fixture.open(json!({}), Framing::Lines, false, Some(&end)).await.err().unwrap();
    let words = format!(
        "`{name}` does not begin like the file of which {} bytes were read: it was replaced; `--cold-start` reads it \
         from its start",
        content.len()
    );
    assert_eq!((replaced.kind(), replaced.to_string()), (ErrorKind::Fatal, words));
    for length in [content.len() - 1, 5_000, 100, 0] {
        fs::write(&fixture.path, &content[..length]).unwrap();
        let cut = fixture.open(json!({}), Framing::Lines, false, Some(&end)).await.err().unwrap();
        let words = format!("`{name}` has {length} bytes, of which ");
        assert!(cut.kind() == ErrorKind::Fatal && cut.to_string().starts_with(&words), "{cut}");
    }
    fs::write(&fixture.path, &content[..50_000]).unwrap();
    let mut reader = fixture.open(json!({}), Framing::Lines, false, None).await.unwrap();
    let cut = loop {
        match reader.next(Some(&end)).await {
            Ok(batch) => assert!(batch.is_some(), "it must not look as if all was read again"),
            Err(error) => break error,
        }
    };
    assert!(cut.to_string().contains("ends after 50000 bytes"), "{cut}");
}

#[tokio::test]
async fn notices_while_following_that_the_file_is_another() {
    for (change, words) in [("cut", "cut"), ("move", "moved or deleted"), ("replace", "replaced")] {
        let fixture = Fixture::new("a.jsonl", b"a\nb\n");
        let mut reader = fixture.open(json!({"follow": true}), Framing::Lines, false, None).await.unwrap();
        reader.next(None).await.unwrap();
        match change {
            "cut" => OpenOptions::new().write(true).open(&fixture.path).unwrap().set_len(2).unwrap(),
            "move" => fs::rename(&fixture.path, fixture.path.with_extension("old")).unwrap(),
            _ => {
                fs::rename(&fixture.path, fixture.path.with_extension("old")).unwrap();
                fs::write(&fixture.path, "x\ny\nz\n").unwrap();
            }
        }
        let error = reader.next(None).await.err().unwrap();
        assert!(error.kind() == ErrorKind::Fatal && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_cannot_be_taken_for_a_row() {
    let limited = json!({"max_line": "5B"});
    let long = format!("{}\n", "y".repeat(1_000_000));
    let content = format!("12345\n12345\r\n123456\n\"34\n67\n{long}ok\n{}", "z".repeat(9));
    let fixture = Fixture::new("a.csv", content.as_bytes());
    let mut reader = fixture.open(limited.clone(), Framing::Lines, false, None).await.unwrap();
    let lines = rows(&mut *reader, None).await;
    let lines: Vec<&[u8]> = lines.iter().map(|(_, line)| line.as_slice()).collect();
    assert_eq!(lines, [&b"12345"[..], b"12345", b"12345\xff", b"\"34", b"67", b"yyyyy\xff", b"ok", b"zzzzz\xff"]);
    let no_header = Framing::Csv { delimiter: b',', quote: b'"', has_header: false };
    let mut reader = fixture.open(limited, no_header, false, None).await.unwrap();
    let records = rows(&mut *reader, None).await;
    let records: Vec<&[u8]> = records.iter().map(|(_, record)| record.as_slice()).collect();
    assert_eq!(records[3..6], [&b"\"34\n6\xff"[..], b"yyyyy\xff", b"ok"], "a quote is not closed for ever");
}

#[tokio::test]
async fn a_broken_archive_is_an_error_after_its_good_rows() {
    let mut broken = gzip(&many_lines());
    broken.truncate(broken.len() / 2);
    for (bytes, least) in [(broken, 5_000), (b"plain text\n".to_vec(), 0)] {
        let fixture = Fixture::new("a.gz", &bytes);
        let mut reader = fixture.open(json!({}), Framing::Lines, false, None).await.unwrap();
        let mut count = 0;
        let error = loop {
            match reader.next(None).await {
                Ok(batch) => count += batch.expect("it has not ended well").len(),
                Err(error) => break error,
            }
        };
        let words = format!("`{}` is no gzip file, or a broken one", fixture.path.display());
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Fatal, words));
        assert!(least <= count, "{count}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_no_row() {
    let fixture = Fixture::new("a.jsonl", &many_lines());
    let (all, _) = fixture.read_all(Framing::Lines).await;
    let mut n_dropped = 0;
    // A read may end before its call is dropped: of so many, some do not.
    for round in 0..20 {
        let mut reader = fixture.open(json!({}), Framing::Lines, false, None).await.unwrap();
        let mut found = Vec::new();
        loop {
            tokio::select! { biased;
                // Dropped while it waits, it has started to read as far as it likes.
                batch = reader.next(None) => found.extend(batch.unwrap().map(records_of).unwrap_or_default()),
                _ = std::future::ready(()) => n_dropped += 1,
            }
            let until = all.get(found.len() + 700).map(|(offset, _)| Position::at(*offset));
            let until = until.as_ref();
            match reader.next(until).await.unwrap() {
                Some(batch) => found.extend(records_of(batch)),
                None if until.is_none() => break,
                None => {}
            }
            assert!(until.is_none_or(|until| reader.position().offset <= until.offset));
        }
        assert!(found == all, "{} of {} rows in round {round}", found.len(), all.len());
    }
    assert!(5 < n_dropped, "{n_dropped} calls were dropped");
}
