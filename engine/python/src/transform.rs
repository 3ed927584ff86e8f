//! A transform in Python: rows go over as Arrow IPC messages, and what it makes of them comes back as such.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use pipeline_stage::{Origin, Output, Result, SavedState, StageError, StateWriter, Times, Transform};
use serde_json::{Map, Value, json};

use crate::columns::{check_columns, refuse_dictionaries, schema_in};
use crate::detector::{cut, joined};
use crate::frame::{Frame, header};
use crate::messages::Messages;
use crate::process::Process;

/// See the module.
pub struct PythonTransform {
    process: Process,
    /// One for each input; the schema has gone over.
    inputs: Vec<StreamWriter<Vec<u8>>>,
    output: Messages,
    schema: SchemaRef,
    state_version: u16,
    has_tick: bool,
    has_save: bool,
    held: u64,
}

/// More rows than any call can speak of: without a limit the books could be balanced by overflow.
const MAX_COUNT: u64 = 1 << 40;

impl PythonTransform {
    /// Lets a process make the transform, with the state that it had.
    pub fn build(
        mut process: Process,
        build: Map<String, Value>,
        state_version: u16,
        inputs: &[SchemaRef],
        state: &SavedState,
    ) -> Result<Self> {
        let (mut writers, mut schemas) = (Vec::new(), Vec::new());
        for input in inputs {
            refuse_dictionaries(input)?;
            let mut writer = StreamWriter::try_new(Vec::new(), input)?;
            schemas.push(std::mem::take(writer.get_mut()));
            writers.push(writer);
        }
        let schemas: Vec<&[u8]> = schemas.iter().map(Vec::as_slice).collect();
        let mut answer = process.call(build, &schemas)?;
        let mut output = Messages::default();
        let schema = schema_in(&mut output, answer.bodies.pop())?;
        check_columns(&schema)?;
        let has = |what: &str| {
            answer.header.get("has").and_then(Value::as_array).is_some_and(|has| has.contains(&json!(what)))
        };
        let (has_tick, has_save) = (has("tick"), has("save"));
        let mut transform =
            PythonTransform { process, inputs: writers, output, schema, state_version, has_tick, has_save, held: 0 };
        transform.load(state)?;
        Ok(transform)
    }

    /// Each value begins with the version of the state.
    fn load(&mut self, state: &SavedState) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in &state.entries {
            let Some((version, value)) = value.split_first_chunk() else {
                return Err(StageError::fatal("saved state cannot be read: it has no version"));
            };
            let (found, reads) = (u16::from_le_bytes(*version), self.state_version);
            if found != reads {
                let message = format!("the saved state has version {found}, this transform reads version {reads}");
                return Err(StageError::fatal(message));
            }
            keys.push(key.as_slice());
            values.push(value);
        }
        let ((key_lengths, keys), (value_lengths, values)) = (joined(keys.into_iter())?, joined(values.into_iter())?);
        self.process.call(header("load_all", json!({})), &[&key_lengths, &keys, &value_lengths, &values])?;
        Ok(())
    }

    /// Does what an answer says.
    fn take(&mut self, answer: Frame, rows: Option<&RecordBatch>, out: &mut Output) -> Result<()> {
        let Frame { header, bodies } = answer;
        let n_rows = rows.map_or(0, RecordBatch::num_rows);
        let list = |name: &str| header.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut bodies = bodies.into_iter();
        for origin in list("emitted") {
            let batch = self.output.batch(bodies.next().unwrap_or_default(), &self.schema)?;
            let origin = match origin.as_str() {
                Some("same") if batch.num_rows() == n_rows => Origin::Same,
                Some("rows") => Origin::Rows(origins(&bodies.next().unwrap_or_default(), batch.num_rows(), n_rows)?),
                Some("created") => Origin::Created,
                _ => return Err(wrong(format!("{} rows from {origin} for {n_rows}", batch.num_rows()))),
            };
            out.emit(batch, origin);
        }
        for rejected in list("rejected") {
            let row = checked_row(rejected.get(0), n_rows)?;
            let why = rejected.get(1).and_then(Value::as_str).map(str::trim).filter(|why| !why.is_empty());
            out.reject(row, why.unwrap_or("the plugin rejected it without words"));
        }
        for row in list("late") {
            out.late(checked_row(Some(row), n_rows)?);
        }
        out.filtered(count(&header, "filtered")?);
        out.created(count(&header, "created")?);
        self.held = count(&header, "held")?;
        Ok(())
    }
}

impl Transform for PythonTransform {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let writer =
            self.inputs.get_mut(input).ok_or_else(|| StageError::fatal(format!("there is no input {input}")))?;
        writer.write(rows)?;
        let message = std::mem::take(writer.get_mut());
        let answer = self.process.call(header("process", json!({"input": input})), &[&message])?;
        self.take(answer, Some(rows), out)
    }

    fn tick(&mut self, at: Times, out: &mut Output) -> Result<()> {
        if !self.has_tick {
            return Ok(());
        }
        let question = json!({"now": at.now.0, "watermark": at.watermark.map(|time| time.0)});
        let answer = self.process.call(header("tick", question), &[])?;
        self.take(answer, None, out)
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        if !self.has_save {
            return Ok(());
        }
        let answer = self.process.call(header("save_all", json!({})), &[])?;
        let [key_lengths, keys, value_lengths, values, are_puts] = answer.bodies.as_slice() else {
            return Err(wrong(format!("{} bodies of state, not 5", answer.bodies.len())));
        };
        let (keys, values) = (cut(key_lengths, keys)?, cut(value_lengths, values)?);
        if keys.len() != values.len() || keys.len() != are_puts.len() {
            return Err(wrong(format!("state with {} keys and {} values", keys.len(), values.len())));
        }
        for ((key, value), is_put) in keys.iter().zip(values).zip(are_puts) {
            match is_put {
                0 => changes.delete(key),
                _ => changes.put(key, &[self.state_version.to_le_bytes().as_slice(), &value].concat()),
            }
        }
        Ok(())
    }

    fn held(&self) -> u64 {
        self.held
    }
}

fn wrong(what: impl std::fmt::Display) -> StageError {
    StageError::fatal(format!("the Python process gave {what}"))
}

fn checked_row(row: Option<&Value>, n_rows: usize) -> Result<usize> {
    let number = row.and_then(Value::as_u64).filter(|row| *row < n_rows as u64);
    number.map(|row| row as usize).ok_or_else(|| wrong(format!("the row {row:?} of a batch of {n_rows} rows")))
}

fn origins(bytes: &[u8], expected: usize, n_rows: usize) -> Result<Vec<u32>> {
    let origins: Vec<u32> = bytes.as_chunks().0.iter().map(|row| u32::from_le_bytes(*row)).collect();
    if origins.len() != expected || origins.iter().any(|row| n_rows <= *row as usize) {
        return Err(wrong(format!("{} origins for {expected} rows of a batch of {n_rows}", origins.len())));
    }
    Ok(origins)
}

fn count(header: &Map<String, Value>, name: &str) -> Result<u64> {
    let found = header.get(name).unwrap_or(&Value::Null);
    let number = found.as_u64().filter(|count| *count <= MAX_COUNT);
    number.ok_or_else(|| wrong(format!("{found} for the number of rows that are {name}")))
}
