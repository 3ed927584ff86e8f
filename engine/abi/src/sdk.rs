//! The plugin's side: what [`export_plugin!`](crate::export_plugin) makes of ordinary stages.

use std::any::Any;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Schema, SchemaRef};
use pipeline_stage::{
    ErrorKind, Kind, Make, NoConsole, Origin, Output, Result, SavedState, StageContext, StageError, StageType,
    StateWriter, Times, Timestamp, Transform,
};

use crate::memory::{c_text, slice, text, write_text};
use crate::raw::*;

/// Makes a shared library of stages: `export_plugin!([StageType::detector::<HeartbeatOptions>()]);`
///
/// The expression gives something that can be iterated over, of [`StageType`]s.
#[macro_export]
macro_rules! export_plugin {
    ($stages:expr) => {
        /// What the engine looks for in this library.
        #[allow(unsafe_code, reason = "a symbol with this name is how a library is known to be a plugin")]
        #[unsafe(no_mangle)]
        pub extern "C" fn pipeline_plugin(engine: *const $crate::raw::RawEngine) -> *const $crate::raw::RawPlugin {
            $crate::sdk::plugin(engine, env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), || {
                ::std::iter::IntoIterator::into_iter($stages).collect()
            })
        }
    };
}

/// A library's answer, made once and kept for the life of the process.
struct Plugin {
    raw: RawPlugin,
    _texts: [CString; 2],
    _stages: Vec<*const RawStage>,
}

// SAFETY: it is never changed once it is made.
unsafe impl Send for Plugin {}
// SAFETY: it is never changed once it is made.
unsafe impl Sync for Plugin {}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// What the exported function does.
pub fn plugin(
    _engine: *const RawEngine,
    name: &str,
    version: &str,
    stages: impl FnOnce() -> Vec<StageType>,
) -> *const RawPlugin {
    // A panic must not cross the boundary (rule 5); the engine says that NULL is no answer.
    let made = catch_unwind(AssertUnwindSafe(|| {
        &PLUGIN
            .get_or_init(|| {
                let stages: Vec<*const RawStage> = stages().into_iter().filter_map(export).collect();
                let texts = [c_text(name), c_text(version)];
                let raw = RawPlugin {
                    abi_major: ABI_MAJOR,
                    abi_minor: ABI_MINOR,
                    struct_size: size_of::<RawPlugin>() as u32,
                    name: texts[0].as_ptr(),
                    version: texts[1].as_ptr(),
                    stages: stages.as_ptr(),
                    n_stages: stages.len(),
                };
                Plugin { raw, _texts: texts, _stages: stages }
            })
            .raw
    }));
    made.map_or(std::ptr::null(), std::ptr::from_ref)
}

/// A stage's descriptor with what its functions need; they get a pointer to the first field, which is one to all.
#[repr(C)]
struct Exported {
    raw: RawStage,
    stage: StageType,
    texts: [CString; 3],
}

/// The descriptor of a stage; none for kinds that this version of the ABI does not have.
fn export(stage: StageType) -> Option<*const RawStage> {
    let kind = match stage.kind {
        Kind::Transform => TRANSFORM,
        Kind::Detector => DETECTOR,
        Kind::Source | Kind::Sink | Kind::Format => return None,
    };
    let texts = [c_text(&stage.name), c_text(&stage.example), c_text(&stage.schema.as_value().to_string())];
    let raw = RawStage {
        struct_size: size_of::<RawStage>() as u32,
        kind,
        name: texts[0].as_ptr(),
        example: texts[1].as_ptr(),
        schema: texts[2].as_ptr(),
        build: Some(build),
        destroy: Some(destroy),
        process: Some(process),
        tick: Some(tick),
        save: Some(save),
        held: Some(held),
        start: None,
        observe: None,
        load: None,
        statistic: std::ptr::null(),
        state_version: 0,
    };
    // For the life of the process, as rule 1 wants it.
    let exported: &'static Exported = Box::leak(Box::new(Exported { raw, stage, texts }));
    debug_assert!(!exported.texts[0].is_empty());
    Some((exported as *const Exported).cast())
}

/// A stage that the engine holds.
struct Stage {
    transform: Box<dyn Transform>,
    inputs: Vec<SchemaRef>,
}

unsafe extern "C-unwind" fn build(
    stage_type: *const RawStage,
    build: *const RawBuild,
    built: *mut RawBuilt,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: the engine hands back the descriptor that `export` has made, which lives for ever.
        let exported = unsafe { &*stage_type.cast::<Exported>() };
        // SAFETY: valid during the call (rule 1).
        let build = unsafe { &*build };
        // SAFETY: as above.
        let (context, options, inputs, state) = unsafe { read_build(build) }?;
        let Make::Transform(make) = &exported.stage.make else {
            return Err(StageError::fatal("it is not a transform"));
        };
        let transform = make(options, &context, &inputs, state)?;
        let schema = FFI_ArrowSchema::try_from(transform.schema().as_ref())?;
        let bytes_per_series = transform.bytes_per_series().unwrap_or(0) as u64;
        let stage = Box::into_raw(Box::new(Stage { transform, inputs }));
        // SAFETY: the engine's, for this call, and as large as this version of it (rule 1, rule 6).
        let built = unsafe { &mut *built };
        built.stage = stage.cast();
        built.schema = schema;
        built.bytes_per_series = bytes_per_series;
        Ok(())
    })
}

type Read = (StageContext, serde_json::Value, Vec<SchemaRef>, SavedState);

/// # Safety
/// It is what the engine passes to `build`.
unsafe fn read_build(build: &RawBuild) -> Result<Read> {
    // SAFETY: for each field, rule 1 and rule 2.
    let read = |from| unsafe { text(from) }.ok().flatten().unwrap_or_default();
    // SAFETY: rule 1.
    let key = unsafe { slice(build.key, build.n_key) };
    // SAFETY: rule 1.
    let options = unsafe { &*build.options };
    let context = StageContext {
        pipeline: read(build.pipeline).into(),
        id: read(build.id).into(),
        directory: PathBuf::from(read(build.directory)),
        key: key.iter().map(|name| read(*name).to_owned()).collect(),
        once: build.once != 0,
        cold_start: false,
        console: Arc::new(NoConsole),
    };
    let options = serde_json::from_str(read(options.json))
        .map_err(|error| StageError::fatal("the engine's options are no JSON").because(error))?;
    // SAFETY: rule 1.
    let schemas = unsafe { slice(build.inputs, build.n_inputs) };
    // SAFETY: rule 1.
    let inputs = schemas.iter().map(|schema| Ok(Arc::new(Schema::try_from(unsafe { &**schema })?)));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    // SAFETY: rule 1.
    let entries = unsafe { slice(build.state, build.n_state) };
    let entries = entries.iter().map(|entry| {
        // SAFETY: rule 1.
        let key = unsafe { slice(entry.key, entry.key_length) };
        // SAFETY: rule 1.
        let value = unsafe { slice(entry.value, entry.value_length) };
        (key.to_vec(), value.to_vec())
    });
    Ok((context, options, inputs, SavedState { entries: entries.collect() }))
}

unsafe extern "C-unwind" fn destroy(stage: *mut c_void) {
    // SAFETY: made by `build`, and not used after this call.
    let stage = unsafe { Box::from_raw(stage.cast::<Stage>()) };
    // A panic while it is dropped has nobody to be told to.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(stage)));
}

unsafe extern "C-unwind" fn process(
    stage: *mut c_void,
    input: u32,
    rows: *mut FFI_ArrowArray,
    output: *const RawOutput,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        let schema = stage.inputs.get(input as usize).ok_or_else(|| StageError::fatal("there is no such input"))?;
        // SAFETY: rows of the schema that `build` was told, to be taken (rule 3).
        let batch = unsafe { take_rows(rows, schema) }?;
        let mut out = Output::default();
        stage.transform.process(input as usize, &batch, &mut out)?;
        // SAFETY: valid during the call (rule 1).
        unsafe { hand_over(&mut out, &*output) }
    })
}

/// # Safety
/// The engine's rows have the columns of the schema.
unsafe fn take_rows(rows: *mut FFI_ArrowArray, schema: &SchemaRef) -> Result<RecordBatch> {
    // SAFETY: the engine's, valid during the call; what is left has no `release` (rule 3).
    let taken = unsafe { std::ptr::replace(rows, FFI_ArrowArray::empty()) };
    // SAFETY: the engine's rows have the columns that it has told.
    let data = unsafe { from_ffi_and_data_type(taken, DataType::Struct(schema.fields().clone())) }?;
    let (_, columns, _) = StructArray::from(data).into_parts();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// # Safety
/// The output is the engine's, for this call.
unsafe fn hand_over(out: &mut Output, output: &RawOutput) -> Result<()> {
    let outcome = out.take();
    let context = output.context;
    let missing = || StageError::fatal("the engine's output lacks a function");
    for (batch, origin) in outcome.emitted {
        let mut rows = FFI_ArrowArray::new(&StructArray::from(batch).into_data());
        let (emit, created) = (output.emit.ok_or_else(missing)?, output.emit_created.ok_or_else(missing)?);
        let status = match origin {
            // SAFETY: the engine takes the rows; no origins means the same ones.
            Origin::Same => unsafe { emit(context, &mut rows, std::ptr::null(), 0) },
            // SAFETY: as above, with as many origins as are said.
            Origin::Rows(origins) => unsafe { emit(context, &mut rows, origins.as_ptr(), origins.len()) },
            // SAFETY: as above.
            Origin::Created => unsafe { created(context, &mut rows) },
        };
        if status != OK {
            return Err(StageError::fatal("the engine has refused the rows"));
        }
    }
    let (reject, late) = (output.reject.ok_or_else(missing)?, output.late.ok_or_else(missing)?);
    for (row, why) in outcome.rejected {
        // SAFETY: the text is copied during the call (rule 1).
        unsafe { reject(context, row, c_text(&why).as_ptr()) };
    }
    for row in outcome.late {
        // SAFETY: numbers only.
        unsafe { late(context, row) };
    }
    // SAFETY: numbers only.
    unsafe { (output.filtered.ok_or_else(missing)?)(context, outcome.filtered) };
    // SAFETY: numbers only.
    unsafe { (output.created.ok_or_else(missing)?)(context, outcome.created) };
    Ok(())
}

unsafe extern "C-unwind" fn tick(
    stage: *mut c_void,
    now: i64,
    watermark: i64,
    output: *const RawOutput,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        let watermark = (watermark != NO_TIME).then_some(Timestamp(watermark));
        let mut out = Output::default();
        stage.transform.tick(Times { now: Timestamp(now), watermark }, &mut out)?;
        // SAFETY: valid during the call (rule 1).
        unsafe { hand_over(&mut out, &*output) }
    })
}

unsafe extern "C-unwind" fn save(stage: *mut c_void, state: *const RawState, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        // SAFETY: valid during the call (rule 1).
        let mut writer = Writer { state: unsafe { &*state }, is_refused: false };
        stage.transform.save(&mut writer)?;
        match writer.is_refused {
            true => Err(StageError::fatal("the engine has refused the state")),
            false => Ok(()),
        }
    })
}

struct Writer<'a> {
    state: &'a RawState,
    is_refused: bool,
}

impl StateWriter for Writer<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let Some(put) = self.state.put else { return self.is_refused = true };
        // SAFETY: both are copied during the call (rule 1).
        let status = unsafe { put(self.state.context, key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
        self.is_refused |= status != OK;
    }
    fn delete(&mut self, key: &[u8]) {
        let Some(forget) = self.state.forget else { return self.is_refused = true };
        // SAFETY: copied during the call (rule 1).
        let status = unsafe { forget(self.state.context, key.as_ptr(), key.len()) };
        self.is_refused |= status != OK;
    }
}

unsafe extern "C-unwind" fn held(stage: *mut c_void) -> u64 {
    // SAFETY: made by `build`; one call at a time (rule 4).
    let stage = unsafe { &mut *stage.cast::<Stage>() };
    catch_unwind(AssertUnwindSafe(|| stage.transform.held())).unwrap_or(0)
}

/// Runs a call: its error or panic becomes a status with words.
///
/// The words of an error and its end run code of the stage, too: what panics there has no words left.
fn answer(error: *mut RawError, call: impl FnOnce() -> Result<()>) -> i32 {
    catch_unwind(AssertUnwindSafe(|| answer_in_words(error, call))).unwrap_or_else(|panic| {
        // To drop it could panic again.
        std::mem::forget(panic);
        FATAL
    })
}

fn answer_in_words(error: *mut RawError, call: impl FnOnce() -> Result<()>) -> i32 {
    let failed = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return OK,
        Ok(Err(failed)) => failed,
        Err(panic) => StageError::fatal(format!("it panicked: {}", words_of(&*panic))),
    };
    // SAFETY: the engine's, valid during the call (rule 1), or NULL.
    if let Some(error) = unsafe { error.as_ref() } {
        // SAFETY: as large as it says.
        unsafe { write_text(&failed.chain(), error.message, error.message_size) };
        // SAFETY: as large as it says.
        unsafe { write_text(failed.option().unwrap_or_default(), error.option, error.option_size) };
    }
    match failed.kind() {
        ErrorKind::Config => CONFIG,
        ErrorKind::Data => DATA,
        ErrorKind::Transient => TRANSIENT,
        ErrorKind::Lost => LOST,
        ErrorKind::Fatal => FATAL,
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
