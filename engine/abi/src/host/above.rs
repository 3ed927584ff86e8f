//! The detector above a sink, as C sees it.

use std::ffi::{CString, c_char};

use pipeline_stage::DetectorAbove;

use crate::memory::c_text;

/// What a library is told of it; what is not there is NULL, or no columns.
pub struct Above {
    id: CString,
    time: Option<CString>,
    /// What `key` points to.
    _key_texts: Vec<CString>,
    key: Vec<*const c_char>,
}

impl Above {
    /// Of a detector.
    pub fn new(detector: &DetectorAbove) -> Self {
        let key_texts: Vec<CString> = detector.key.iter().map(|name| c_text(name)).collect();
        let key = key_texts.iter().map(|name| name.as_ptr()).collect();
        Above { id: c_text(&detector.id), time: detector.time.as_deref().map(c_text), _key_texts: key_texts, key }
    }

    /// Its id.
    pub fn id(above: Option<&Self>) -> *const c_char {
        above.map_or(std::ptr::null(), |above| above.id.as_ptr())
    }

    /// The columns of its key.
    pub fn key(above: Option<&Self>) -> &[*const c_char] {
        above.map_or(&[], |above| &above.key)
    }

    /// Its column of times.
    pub fn time(above: Option<&Self>) -> *const c_char {
        above.and_then(|above| above.time.as_ref()).map_or(std::ptr::null(), |time| time.as_ptr())
    }
}
