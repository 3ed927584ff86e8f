//! The options of a stage as C sees them: as JSON, and one by one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};

use serde_json::Value;

use crate::memory::{c_text, text};
use crate::raw::RawOptions;

/// The options of a stage, by path.
pub struct Options {
    json: CString,
    values: HashMap<String, Value>,
    texts: RefCell<Vec<CString>>,
}

impl Options {
    pub fn new(options: &Value) -> Self {
        let mut values = HashMap::new();
        flatten("", options, &mut values);
        Options { json: c_text(&options.to_string()), values, texts: RefCell::default() }
    }

    /// As the library sees it; valid as long as this.
    pub fn raw(&self) -> RawOptions {
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
