//! Makes a stage of a library: its options, columns and state as C sees them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use pipeline_stage::{Result, SavedState, StageContext, StageError};
use serde_json::Value;

use super::call::call;
use super::guard::guarded;
use super::stage_type::Descriptor;
use crate::memory::{c_text, text};
use crate::raw::{FFI_ArrowSchema, RawBuild, RawBuilt, RawEntry, RawError, RawOptions};
use pipeline_stage::InFlight;

/// More than any table has; a larger number is none, and reading so many would end the process.
const MAX_COLUMNS: i64 = 16_384;

/// A stage that a library has made; destroyed with this.
pub struct Handle {
    descriptor: Descriptor,
    stage: *mut c_void,
    calls: Arc<InFlight>,
}

// SAFETY: a stage may be called from any thread, one at a time (rule 4).
unsafe impl Send for Handle {}

impl Handle {
    /// What every function of the stage gets.
    pub fn stage(&self) -> *mut c_void {
        self.stage
    }

    /// Runs a call that may fail, watched and guarded.
    pub fn call(&self, body: impl FnOnce(*mut RawError) -> i32) -> Result<()> {
        call(&self.calls, body)
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

/// Calls `build`.
pub fn build(
    descriptor: Descriptor,
    options: &Value,
    context: &StageContext,
    inputs: &[SchemaRef],
    state: &SavedState,
) -> Result<(Handle, RawBuilt)> {
    let options = Options::new(options);
    let raw_options = options.raw();
    let texts = [&context.pipeline, &context.id, &context.directory.display().to_string()].map(|text| c_text(text));
    let key_texts: Vec<CString> = context.key.iter().map(|name| c_text(name)).collect();
    let key: Vec<*const c_char> = key_texts.iter().map(|name| name.as_ptr()).collect();
    let schemas = inputs.iter().map(|schema| Ok(FFI_ArrowSchema::try_from(schema.as_ref())?));
    let exported = schemas.collect::<Result<Vec<_>>>()?;
    let schemas: Vec<*const FFI_ArrowSchema> = exported.iter().map(std::ptr::from_ref).collect();
    let entries: Vec<RawEntry> = state.entries.iter().map(|(key, value)| entry(key, value)).collect();
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
    };
    let mut built = RawBuilt {
        struct_size: size_of::<RawBuilt>() as u32,
        stage: std::ptr::null_mut(),
        schema: FFI_ArrowSchema::empty(),
        bytes_per_series: 0,
        series_size: 0,
    };
    let function = descriptor.raw.build.ok_or_else(|| StageError::fatal("it has no `build`"))?;
    // SAFETY: everything `build` points to lives until after the call.
    let calls = InFlight::new(&context.id);
    call(&calls, |error| unsafe { function(descriptor.place, &build, &mut built, error) })?;
    Ok((Handle { descriptor, stage: built.stage, calls }, built))
}

fn entry(key: &[u8], value: &[u8]) -> RawEntry {
    RawEntry { key: key.as_ptr(), key_length: key.len(), value: value.as_ptr(), value_length: value.len() }
}

/// The columns that a stage says it gives.
pub fn schema(built: &RawBuilt) -> Result<SchemaRef> {
    let raw = layout(built);
    // An empty structure has no format, which every other one has.
    if raw.format.is_null() {
        return Err(StageError::fatal("the plugin has not said which columns it gives: `schema` is empty"));
    }
    if raw.n_children < 0 || MAX_COLUMNS < raw.n_children {
        let message = format!("the plugin's `schema` has {} columns, it may have up to {MAX_COLUMNS}", raw.n_children);
        return Err(StageError::fatal(message));
    }
    let no_struct = || StageError::fatal("the plugin's `schema` is no struct of columns");
    // Arrow panics at a format or a name that is not UTF-8, and at a child that is not there.
    let schema = std::panic::catch_unwind(AssertUnwindSafe(|| Schema::try_from(&built.schema)));
    let schema = schema.map_err(|_| no_struct())?.map_err(|error| no_struct().because(error))?;
    for (number, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..number].iter().any(|other| other.name() == field.name()) {
            return Err(StageError::fatal(format!("the plugin gives two columns called `{}`", field.name())));
        }
        if pipeline_stage::ColumnType::of(field.data_type()).is_none() {
            return Err(StageError::fatal(format!(
                "the plugin gives a column `{}` of type {}, it must be Utf8, Int64, Float64, Boolean or Timestamp(Microsecond)",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(Arc::new(schema))
}

/// The first fields of Arrow's structure, which its own type hides.
#[repr(C)]
struct Layout {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
}

fn layout(built: &RawBuilt) -> &Layout {
    // SAFETY: these are the first fields of the structure, in their order (Arrow's C data interface).
    unsafe { &*std::ptr::from_ref(&built.schema).cast::<Layout>() }
}

/// The options of a stage, by path.
struct Options {
    json: CString,
    values: HashMap<String, Value>,
    texts: RefCell<Vec<CString>>,
}

impl Options {
    fn new(options: &Value) -> Self {
        let mut values = HashMap::new();
        flatten("", options, &mut values);
        Options { json: c_text(&options.to_string()), values, texts: RefCell::default() }
    }

    fn raw(&self) -> RawOptions {
        RawOptions {
            struct_size: size_of::<RawOptions>() as u32,
            json: self.json.as_ptr(),
            context: std::ptr::from_ref(self).cast(),
            number: Some(number),
            integer: Some(integer),
            flag: Some(flag),
            text: Some(option_text),
        }
    }
}

/// Every value with its path: `window`, `columns.2.name`.
fn flatten(path: &str, value: &Value, values: &mut HashMap<String, Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| flatten(&below(name), value, values)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| flatten(&below(&number.to_string()), value, values));
        }
        _ => drop(values.insert(path.to_owned(), value.clone())),
    }
}

/// # Safety
/// The context is that of [`Options::raw`], and the path ends with a NUL.
unsafe fn find<'a>(context: *const c_void, path: *const c_char) -> Option<(&'a Options, &'a Value)> {
    // SAFETY: made by `raw`; the options live as long as the call of `build`.
    let options = unsafe { context.cast::<Options>().as_ref() }?;
    // SAFETY: rule 2.
    let path = unsafe { text(path) }.ok().flatten()?;
    Some((options, options.values.get(path)?))
}

/// Writes a value that was found. 1 when there is one.
///
/// # Safety
/// There is room for the value at `to`.
unsafe fn give<T>(value: Option<T>, to: *mut T) -> i32 {
    match value {
        Some(value) if !to.is_null() => {
            // SAFETY: the caller says that there is room.
            unsafe { to.write(value) };
            1
        }
        _ => 0,
    }
}

unsafe extern "C" fn number(context: *const c_void, path: *const c_char, to: *mut f64) -> i32 {
    // SAFETY: the library hands back what it got, and room for a number.
    unsafe { give(find(context, path).and_then(|(_, value)| value.as_f64()), to) }
}

unsafe extern "C" fn integer(context: *const c_void, path: *const c_char, to: *mut i64) -> i32 {
    // SAFETY: as above.
    unsafe { give(find(context, path).and_then(|(_, value)| value.as_i64()), to) }
}

unsafe extern "C" fn flag(context: *const c_void, path: *const c_char, to: *mut i32) -> i32 {
    // SAFETY: as above.
    unsafe { give(find(context, path).and_then(|(_, value)| value.as_bool()).map(i32::from), to) }
}

unsafe extern "C" fn option_text(context: *const c_void, path: *const c_char, to: *mut *const c_char) -> i32 {
    // SAFETY: as above.
    let found = unsafe { find(context, path) }.and_then(|(options, value)| Some((options, value.as_str()?)));
    let kept = found.map(|(options, value)| {
        let kept = c_text(value);
        let pointer = kept.as_ptr();
        options.texts.borrow_mut().push(kept);
        pointer
    });
    // SAFETY: as above; the text lives as long as the options.
    unsafe { give(kept, to) }
}
