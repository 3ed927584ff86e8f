//! Makes a stage of a library: its options, columns and state as C sees them.

use std::ffi::{CString, c_char, c_void};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipeline_blocking::InFlight;
use pipeline_stage::{Console, DetectorAbove, Framing, Result, Role, SavedState, StageContext, StageError};
use serde_json::Value;

use super::above::Above;
use super::call::call;
use super::given::Given;
use super::guard::guarded;
use super::options::Options;
use super::stage_type::Descriptor;
use crate::memory::{c_text, slice, text};
use crate::raw::{CSV, FFI_ArrowArray, FFI_ArrowSchema, LINES, NO_FRAMING, RawBuild, RawBuilt, RawEntry, RawError};

/// More than any table has; a larger number is none, and reading so many would end the process.
const MAX_COLUMNS: i64 = 16_384;

/// A stage that a library has made; destroyed with this.
pub struct Handle {
    descriptor: Descriptor,
    stage: *mut c_void,
    calls: Arc<InFlight>,
    given: Arc<Given>,
    /// Where the stage prints, until it is destroyed.
    _console: Arc<Arc<dyn Console>>,
}

// SAFETY: a stage may be called from any thread, one at a time (rule 4).
unsafe impl Send for Handle {}
// SAFETY: readers share it with their source only to outlive it: none but the source calls the stage.
unsafe impl Sync for Handle {}

impl Handle {
    /// What every function of the stage gets.
    pub fn stage(&self) -> *mut c_void {
        self.stage
    }

    /// Runs a call that may fail, watched and guarded.
    pub fn call(&self, body: impl FnOnce(*mut RawError) -> i32) -> Result<()> {
        let called = call(&self.calls, body);
        self.given.check()?;
        called
    }

    /// Rows for the library, counted.
    pub fn export(&self, rows: &RecordBatch) -> FFI_ArrowArray {
        self.given.export(rows)
    }

    /// Its calls, for those that cannot fail.
    pub fn calls(&self) -> &InFlight {
        &self.calls
    }

    /// Its functions.
    pub fn raw(&self) -> &crate::raw::RawStage {
        &self.descriptor.raw
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(destroy) = self.descriptor.raw.destroy {
            // SAFETY: `build` has made it, and nobody calls it after this.
            let destroyed = self.calls.watch(|| guarded(|| unsafe { destroy(self.stage) }));
            if let Err(words) = destroyed {
                tracing::warn!("{}: the plugin threw an exception when it was to go: {words}", self.calls.stage());
            }
        }
    }
}

/// What a stage is made of.
pub struct BuildCall<'a> {
    pub options: &'a Value,
    pub context: &'a StageContext,
    pub inputs: &'a [SchemaRef],
    pub state: &'a SavedState,
    /// Of a source.
    pub role: Role,
    /// Of a source.
    pub framing: Option<Framing>,
    /// Of a sink.
    pub detector: Option<&'a DetectorAbove>,
}

impl<'a> BuildCall<'a> {
    /// Of a stage that is neither source nor sink and has no state.
    pub fn new(options: &'a Value, context: &'a StageContext, inputs: &'a [SchemaRef]) -> Self {
        const NONE: &SavedState = &SavedState { entries: Vec::new() };
        BuildCall { options, context, inputs, state: NONE, role: Role::Leader, framing: None, detector: None }
    }
}

/// Calls `build`.
pub fn build(descriptor: Descriptor, of: &BuildCall<'_>) -> Result<(Handle, RawBuilt)> {
    let BuildCall { context, inputs, state, .. } = *of;
    inputs.iter().try_for_each(|columns| check_columns(columns))?;
    let options = Options::new(of.options);
    let raw_options = options.raw();
    // An empty path is the working directory, which only those know who join it with care.
    let directory = if context.directory.as_os_str().is_empty() { Path::new(".") } else { &context.directory };
    let texts = [&context.pipeline, &context.id, &directory.display().to_string()].map(|text| c_text(text));
    let key_texts: Vec<CString> = context.key.iter().map(|name| c_text(name)).collect();
    let key: Vec<*const c_char> = key_texts.iter().map(|name| name.as_ptr()).collect();
    let above = of.detector.map(Above::new);
    let schemas = inputs.iter().map(|schema| Ok(FFI_ArrowSchema::try_from(schema.as_ref())?));
    let exported = schemas.collect::<Result<Vec<_>>>()?;
    let schemas: Vec<*const FFI_ArrowSchema> = exported.iter().map(std::ptr::from_ref).collect();
    let entries: Vec<RawEntry> = state.entries.iter().map(|(key, value)| entry(key, value)).collect();
    // Shared, so that it may be moved while the library has its address.
    let console = Arc::new(context.console.clone());
    let (framing, delimiter, quote, has_header) = match of.framing {
        None => (NO_FRAMING, 0, 0, false),
        Some(Framing::Lines) => (LINES, 0, 0, false),
        Some(Framing::Csv { delimiter, quote, has_header }) => (CSV, delimiter, quote, has_header),
    };
    let build = RawBuild {
        struct_size: size_of::<RawBuild>() as u32,
        pipeline: texts[0].as_ptr(),
        id: texts[1].as_ptr(),
        directory: texts[2].as_ptr(),
        key: key.as_ptr(),
        n_key: key.len(),
        once: i32::from(context.once),
        options: &raw_options,
        inputs: schemas.as_ptr(),
        n_inputs: schemas.len(),
        state: entries.as_ptr(),
        n_state: entries.len(),
        cold_start: i32::from(context.cold_start),
        console: Arc::as_ptr(&console).cast(),
        print: Some(print),
        console_is_terminal: i32::from(console.is_terminal()),
        is_follower: i32::from(of.role == Role::Follower),
        framing,
        delimiter,
        quote,
        has_header: u8::from(has_header),
        detector: Above::id(above.as_ref()),
        detector_key: Above::key(above.as_ref()).as_ptr(),
        n_detector_key: Above::key(above.as_ref()).len(),
        detector_time: Above::time(above.as_ref()),
    };
    let mut built = RawBuilt {
        struct_size: size_of::<RawBuilt>() as u32,
        stage: std::ptr::null_mut(),
        schema: FFI_ArrowSchema::empty(),
        bytes_per_series: 0,
        series_size: 0,
        flags: 0,
        delivery: 0,
        at_most_every_ms: 0,
        timeout_ms: 0,
        max_pending: 0,
        when_full: 0,
        looks_back: 0,
    };
    let function = descriptor.raw.build.ok_or_else(|| StageError::fatal("it has no `build`"))?;
    let calls = InFlight::new(&context.id);
    // SAFETY: everything `build` points to lives until after the call.
    call(&calls, |error| unsafe { function(descriptor.place, &build, &mut built, error) })?;
    Ok((Handle { descriptor, stage: built.stage, calls, given: Given::new(&context.id), _console: console }, built))
}

/// Writes whole lines for a stage. 0, -1 when nobody reads any more, 1 when it failed.
unsafe extern "C" fn print(console: *const c_void, lines: *const u8, length: usize) -> i32 {
    // SAFETY: the handle's console, which lives until `destroy` has come back.
    let Some(console) = (unsafe { console.cast::<Arc<dyn Console>>().as_ref() }) else { return 1 };
    // SAFETY: as many bytes as it says, for the time of the call (rule 1).
    let lines = unsafe { slice(lines, length) };
    match std::panic::catch_unwind(AssertUnwindSafe(|| console.write(lines))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => -1,
        _ => 1,
    }
}

/// The header promises columns of five types: a library that believes it must never see another one.
fn check_columns(columns: &Schema) -> Result<()> {
    let is_other = |field: &&Arc<Field>| pipeline_stage::ColumnType::of(field.data_type()).is_none();
    match columns.fields().iter().find(is_other) {
        None => Ok(()),
        Some(field) => Err(StageError::config(format!(
            "column `{}` is {}, a plugin takes Utf8, Int64, Float64, Boolean and Timestamp(Microsecond)",
            field.name(),
            field.data_type()
        ))),
    }
}

fn entry(key: &[u8], value: &[u8]) -> RawEntry {
    RawEntry { key: key.as_ptr(), key_length: key.len(), value: value.as_ptr(), value_length: value.len() }
}

/// The columns that a stage says it gives.
pub fn schema(built: &RawBuilt) -> Result<SchemaRef> {
    let schema = any_schema(built)?;
    for field in schema.fields() {
        if pipeline_stage::ColumnType::of(field.data_type()).is_none() {
            return Err(StageError::fatal(format!(
                "the plugin gives a column `{}` of type {}, it must be Utf8, Int64, Float64, Boolean or Timestamp(Microsecond)",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(schema)
}

/// The columns that a stage says it gives, of any type.
pub fn any_schema(built: &RawBuilt) -> Result<SchemaRef> {
    let raw = layout(&built.schema);
    // An empty structure has no format, which every other one has.
    if raw.format.is_null() {
        return Err(StageError::fatal("the plugin has not said which columns it gives: `schema` is empty"));
    }
    if raw.n_children < 0 || MAX_COLUMNS < raw.n_children {
        let message = format!("the plugin's `schema` has {} columns, it may have up to {MAX_COLUMNS}", raw.n_children);
        return Err(StageError::fatal(message));
    }
    let no_struct = || StageError::fatal("the plugin's `schema` is no struct of columns");
    // SAFETY: NULL, or text that is valid as long as the schema (rule 2).
    let is_struct = unsafe { text(raw.format) } == Ok(Some("+s"));
    if !is_struct || (raw.children.is_null() && 0 < raw.n_children) || !raw.children.is_aligned() {
        return Err(no_struct());
    }
    let mut fields: Vec<Field> = Vec::new();
    for number in 0..raw.n_children as usize {
        // SAFETY: there are as many as it says.
        let place = unsafe { *raw.children.add(number) };
        // SAFETY: NULL or a schema of Arrow's.
        let field = unsafe { field(place) }.map_err(|why| no_struct().because(why))?;
        if fields.iter().any(|other| other.name() == field.name()) {
            return Err(StageError::fatal(format!("the plugin gives two columns called `{}`", field.name())));
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// One column. Its metadata are left out: they have no length that could be believed.
///
/// # Safety
/// NULL or a schema of Arrow's C data interface.
unsafe fn field(place: *const FFI_ArrowSchema) -> Result<Field, String> {
    if place.is_null() || !place.is_aligned() {
        return Err("a column is NULL".into());
    }
    // SAFETY: it is there, the caller says.
    let schema = unsafe { &*place };
    let raw = layout(schema);
    // SAFETY: NULL, or text that is valid as long as the schema (rule 2).
    let (name, format) = unsafe { (text(raw.name), text(raw.format)) };
    let name = name.map_err(|()| "a column has a name that is not UTF-8")?.unwrap_or_default();
    let Ok(Some(_)) = format else { return Err(format!("column `{name}` has no format")) };
    // Columns have no columns; one that is its own child would never end.
    if raw.n_children != 0 || !raw.dictionary.is_null() {
        return Err(format!("column `{name}` has children or a dictionary"));
    }
    let of = std::panic::catch_unwind(AssertUnwindSafe(|| DataType::try_from(schema)));
    let of =
        of.map_err(|_| format!("column `{name}` has a format that is none"))?.map_err(|error| error.to_string())?;
    Ok(Field::new(name, of, raw.flags & NULLABLE != 0))
}

/// The first fields of Arrow's structure, which its own type hides.
#[repr(C)]
struct Layout {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *const *const FFI_ArrowSchema,
    dictionary: *const FFI_ArrowSchema,
}

/// Arrow's `ARROW_FLAG_NULLABLE`.
const NULLABLE: i64 = 2;

fn layout(schema: &FFI_ArrowSchema) -> &Layout {
    // SAFETY: these are the first fields of the structure, in their order (Arrow's C data interface).
    unsafe { &*std::ptr::from_ref(schema).cast::<Layout>() }
}
