//! Batches that break stages: each is survived, or refused in words, and the stage is of use afterwards.

mod rows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::broken::{Broken, says_why};
use crate::laws::{Clock, EpochOutput, run_epoch};
use crate::readings::{reading_schema, readings};
use crate::scores::Said;
use crate::subject::{Store, Subject};
pub use rows::{Hostile, hostile_batches};

/// Enough that a window is full again after the hostile rows.
const ROWS_AFTER: usize = 3_000;

/// Gives a stage hostile batches and checks that no call fails but in words (kind `Data`), that its books balance,
/// that its state can be saved and read back, that what it gives is what it gives for the same rows in plain arrays,
/// and that it is not silent about ordinary rows afterwards. Gives what was tried, in words.
///
/// # Errors
/// When that does not hold.
pub fn survives(subject: Subject<'_>, hostile: &Hostile) -> Result<String, Broken> {
    let columns = hostile.batches[0].schema();
    let mut transform = subject.build(&columns, &Store::default())?;
    let found = give(&mut *transform, &hostile.batches)?;
    if let Some(plain) = &hostile.plain {
        let mut other = subject.build(&columns, &Store::default())?;
        for (number, (found, expected)) in found.iter().zip(give(&mut *other, plain)?).enumerate() {
            if let Some(difference) = found.difference(&expected) {
                return Err(Broken::new(format!(
                    "batch {number} gives something else than in plain arrays: {difference}"
                )));
            }
        }
    }
    let mut store = Store::default();
    store.take(&mut *transform)?;
    let mut resumed =
        subject.build(&columns, &store).map_err(|broken| broken.about("its state cannot be read back"))?;
    let after = hostile.with_the_columns_of(&readings(8, ROWS_AFTER));
    let fresh = Said::of(&mut *subject.build(&columns, &Store::default())?, &after)?;
    for transform in [&mut transform, &mut resumed] {
        Said::of(&mut **transform, &after)?.is_not_silent(&fresh).map_err(|broken| broken.about("afterwards"))?;
    }
    let rows: usize = hostile.batches.iter().map(RecordBatch::num_rows).sum();
    let given: usize = found.iter().map(|output| output.origins.len()).sum();
    Ok(format!("{rows} rows in, {given} out"))
}

/// Each batch is an epoch; an empty one is given, too.
fn give(transform: &mut dyn pipeline_stage::Transform, batches: &[RecordBatch]) -> Result<Vec<EpochOutput>, Broken> {
    let mut clock = Clock::default();
    let outputs = batches.iter().enumerate().map(|(number, batch)| {
        let output = run_epoch(transform, &clock.epoch(batch.clone()), std::slice::from_ref(batch));
        output.map_err(|broken| broken.about(format_args!("batch {number}")))
    });
    outputs.collect()
}

/// Checks that columns which the options do not name have no say: with none of them and with a thousand more the
/// stage gives the same for the others. Gives what was tried, in words.
///
/// # Errors
/// When that does not hold.
pub fn unused_columns_do_not_matter(subject: Subject<'_>) -> Result<String, Broken> {
    let all = readings(7, 600);
    let needed = needed_columns(subject, &all.schema())?;
    let least = project(&all, &needed);
    let most = rows::with_more_columns(&all, 1_000);
    let mut compared = 0;
    let [least_given, all_given, most_given] = [&least, &all, &most].map(|batch| -> Result<_, Broken> {
        let mut transform = subject.build(&batch.schema(), &Store::default())?;
        Ok(give(&mut *transform, std::slice::from_ref(batch))?.pop().and_then(|output| output.rows))
    });
    let (least_given, all_given, most_given) = (least_given?, all_given?, most_given?);
    let Some(expected) = &all_given else { return Ok("it gives no rows".into()) };
    for (what, given, taken) in [("fewer", least_given, &least), ("more", most_given, &most)] {
        let Some(given) = given else {
            return Err(Broken::new(format!("it gives rows, but none with {what} columns that it does not need")));
        };
        for (field, column) in expected.schema().fields().iter().zip(expected.columns()) {
            let is_taken_away =
                taken.schema().index_of(field.name()).is_err() && all.schema().index_of(field.name()).is_ok();
            if is_taken_away {
                continue;
            }
            if given.column_by_name(field.name()) != Some(column) {
                return Err(Broken::new(format!(
                    "`{}` differs with {what} columns that it does not need",
                    field.name()
                )));
            }
            compared += 1;
        }
    }
    let names: Vec<&str> = needed.iter().map(|column| all.schema_ref().field(*column).name().as_str()).collect();
    Ok(format!(
        "needs {}; {compared} columns compared",
        if names.is_empty() { "none".into() } else { names.join(", ") }
    ))
}

/// The columns without which it cannot be built.
fn needed_columns(subject: Subject<'_>, schema: &SchemaRef) -> Result<Vec<usize>, Broken> {
    let mut needed: Vec<usize> = (0..schema.fields().len()).collect();
    for column in 0..schema.fields().len() {
        let without: Vec<usize> = needed.iter().copied().filter(|other| *other != column).collect();
        let fields: Vec<Field> = without.iter().map(|column| schema.field(*column).clone()).collect();
        match subject.try_build(&Arc::new(Schema::new(fields)), &Store::default())? {
            Ok(_) => needed = without,
            Err(error) => says_why(&error)?,
        }
    }
    Ok(needed)
}

fn project(batch: &RecordBatch, columns: &[usize]) -> RecordBatch {
    batch.project(columns).expect("the columns are those of the batch")
}

/// Checks that text in dictionaries, which no pipeline has, is refused when the stage is built. Built-in stages never
/// meet it, so that they may take it.
///
/// # Errors
/// When a loaded stage takes it, or refuses it without words.
pub fn dictionaries_are_refused(subject: Subject<'_>) -> Result<String, Broken> {
    let plain = reading_schema();
    let with_dictionaries = plain.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            field.as_ref().clone().with_data_type(dictionary)
        }
        _ => field.as_ref().clone(),
    });
    let columns = Arc::new(Schema::new(with_dictionaries.collect::<Vec<Field>>()));
    match subject.try_build(&columns, &Store::default())? {
        Err(error) => {
            says_why(&error)?;
            Ok(format!("refused: {}", error.chain()))
        }
        Ok(_) if subject.stage.library.is_none() => Ok("a built-in stage never meets one".into()),
        Ok(_) => Err(Broken::new("a column of type Dictionary was taken, it must be refused when the stage is built")),
    }
}
