//! What there is to read: partitions that differ on purpose.

use pipeline_stage::Partition;
use pipeline_testkit::Random;

use crate::draw::draw;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKind {
    /// It reaches every sink.
    Good,
    /// It is no JSON.
    Undecodable,
    /// `stamp` rejects it before version 1 of the pipeline.
    Flawed,
    /// The sink `history` can never take it.
    Refused,
}

/// One row of the input.
#[derive(Debug, Clone)]
pub struct InputRow {
    /// Where it stands.
    pub offset: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// What becomes of it.
    pub kind: RowKind,
}

/// All rows of all partitions: the same for the same variant.
#[derive(Debug)]
pub struct Input {
    /// By the partition's number.
    pub partitions: Vec<Vec<InputRow>>,
}

/// The partition with gaps between its offsets, as compaction leaves them.
const WITH_GAPS: u32 = 1;
/// The partition without rows.
const EMPTY: u32 = 2;

/// How the partition of a number is called, which is the name of its task.
pub fn partition(number: u32) -> Partition {
    Partition { name: format!("p{number}").into(), number }
}

/// The number of a partition by the name of its task.
pub fn number_of_task(task: &str) -> Option<u32> {
    task.strip_prefix('p')?.parse().ok()
}

impl Input {
    /// Makes the rows up.
    pub fn new(variant: u64, partitions: u32) -> Self {
        let made = (0..partitions).map(|number| rows(variant, number));
        Input { partitions: made.collect() }
    }
}

fn rows(variant: u64, partition: u32) -> Vec<InputRow> {
    let mut random = draw(variant, &[1, u64::from(partition)]);
    let count = if partition == EMPTY { 0 } else { 30 + random.below(60) };
    let mut offset = 0;
    let mut made = Vec::with_capacity(count);
    for number in 0..count {
        offset += if partition == WITH_GAPS { 1 + random.below(5) as u64 } else { 1 };
        made.push(row(&mut random, partition, number as u64, offset));
    }
    made
}

fn row(random: &mut Random, partition: u32, number: u64, offset: u64) -> InputRow {
    let kind = match random.below(40) {
        0 | 1 => RowKind::Undecodable,
        2 | 3 => RowKind::Flawed,
        4 | 5 => RowKind::Refused,
        _ => RowKind::Good,
    };
    let series = match kind {
        RowKind::Flawed => format!("flawed-{offset}"),
        RowKind::Refused => "refused".to_owned(),
        _ => format!("p{partition}-{}", random.below(5)),
    };
    let value = 20.0 + random.fraction() * if random.once_in(9) { 40.0 } else { 2.0 };
    // Some readings come late.
    let time = 1_700_000_000 + 10 * number as i64 - if random.once_in(6) { random.below(30) as i64 } else { 0 };
    let payload = match kind {
        RowKind::Undecodable => format!("no json {offset}"),
        _ => format!(r#"{{"series":"{series}","value":{value},"time":{time}}}"#),
    };
    InputRow { offset, payload: payload.into_bytes(), kind }
}
