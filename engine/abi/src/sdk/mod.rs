//! The plugin's side: what [`export_plugin!`](crate::export_plugin) makes of ordinary stages.

mod build;
mod log;
#[cfg(feature = "io")]
mod runtime;
#[cfg(feature = "io")]
mod sink;
#[cfg(feature = "io")]
mod source;
mod transform;

use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use pipeline_stage::{ErrorKind, Kind, Result, StageError, StageType};

use crate::memory::{c_text, write_text};
use crate::raw::*;

/// Makes a shared library of stages: `export_plugin!([StageType::detector::<HeartbeatOptions>()]);`
///
/// The expression gives something that can be iterated over, of [`StageType`]s. Sources and sinks need the feature
/// `io` of this crate.
#[macro_export]
macro_rules! export_plugin {
    ($stages:expr) => {
        /// What the engine looks for in this library.
        ///
        /// # Safety
        /// It is for the engine to call, with its own description.
        #[allow(unsafe_code, reason = "a symbol with this name is how a library is known to be a plugin")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn pipeline_plugin(
            engine: *const $crate::raw::RawEngine,
        ) -> *const $crate::raw::RawPlugin {
            let stages = || ::std::iter::IntoIterator::into_iter($stages).collect();
            // SAFETY: the engine's description, as the caller says.
            unsafe { $crate::sdk::plugin(engine, env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), stages) }
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
///
/// # Safety
/// The engine's description is NULL, or lives as long as the process.
pub unsafe fn plugin(
    engine: *const RawEngine,
    name: &str,
    version: &str,
    stages: impl FnOnce() -> Vec<StageType>,
) -> *const RawPlugin {
    // A panic must not cross the boundary (rule 5); the engine says that NULL is no answer.
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's.
        log::start(unsafe { engine.as_ref() });
        let plugin = PLUGIN.get_or_init(|| describe(name, version, stages()));
        std::ptr::from_ref(&plugin.raw)
    }));
    made.unwrap_or_else(|panic| {
        log::error(&format!("{name} cannot describe itself: it panicked: {}", words_of(&*panic)));
        std::mem::forget(panic);
        std::ptr::null()
    })
}

fn describe(name: &str, version: &str, stages: Vec<StageType>) -> Plugin {
    let stages: Vec<*const RawStage> = stages.into_iter().map(export).collect();
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
}

/// A stage's descriptor with what its functions need; they get a pointer to the first field, which is one to all.
#[repr(C)]
struct Exported {
    raw: RawStage,
    stage: StageType,
    texts: [CString; 3],
}

/// The descriptor of a stage.
fn export(stage: StageType) -> *const RawStage {
    let texts = [c_text(&stage.name), c_text(&stage.example), c_text(&stage.schema.as_value().to_string())];
    let functions = match stage.kind {
        Kind::Transform => transform::descriptor(TRANSFORM),
        Kind::Detector => transform::descriptor(DETECTOR),
        #[cfg(feature = "io")]
        Kind::Source => source::descriptor(),
        #[cfg(feature = "io")]
        Kind::Sink => sink::descriptor(),
        kind => panic!("`{}` is a {}: {}", stage.name, kind.name(), why_not(kind)),
    };
    let raw = RawStage { name: texts[0].as_ptr(), example: texts[1].as_ptr(), schema: texts[2].as_ptr(), ..functions };
    // For the life of the process, as rule 1 wants it.
    let exported: &'static Exported = Box::leak(Box::new(Exported { raw, stage, texts }));
    debug_assert!(!exported.texts[0].is_empty());
    (exported as *const Exported).cast()
}

fn why_not(kind: Kind) -> &'static str {
    match kind {
        Kind::Format => "formats cannot be exported, they are built in",
        _ => "to export it, build with the feature `io` of pipeline-abi",
    }
}

/// The stage that a descriptor was made of.
///
/// # Safety
/// The descriptor is one that `export` has made, handed back by the engine.
unsafe fn exported<'a>(descriptor: *const RawStage) -> &'a StageType {
    // SAFETY: the caller's; it lives for ever.
    let exported = unsafe { &*descriptor.cast::<Exported>() };
    &exported.stage
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
    if let Some(error) = unsafe { error.as_mut() } {
        // SAFETY: as large as it says.
        unsafe { write_text(&failed.chain(), error.message, error.message_size) };
        // SAFETY: as large as it says.
        unsafe { write_text(failed.option().unwrap_or_default(), error.option, error.option_size) };
        // Every engine of this major version has the field.
        error.retry_after_ms = failed.pause().map_or(0, |pause| pause.as_millis().clamp(1, u32::MAX as u128) as u32);
    }
    status_of(failed.kind())
}

fn status_of(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::Config => CONFIG,
        ErrorKind::Data => DATA,
        ErrorKind::Transient => TRANSIENT,
        ErrorKind::Lost | ErrorKind::TakenOver => LOST,
        ErrorKind::Fatal => FATAL,
    }
}

/// The problems that a `check` has found, told one by one.
#[cfg(feature = "io")]
fn tell(findings: *const RawFindings, problems: &[StageError]) -> Result<()> {
    // SAFETY: valid during the call (rule 1).
    let findings = unsafe { &*findings };
    let found = findings.found.ok_or_else(missing)?;
    for problem in problems {
        let (words, option) = (c_text(&problem.chain()), problem.option().map(c_text));
        let option = option.as_ref().map_or(std::ptr::null(), |option| option.as_ptr());
        // SAFETY: the texts are copied during the call (rule 1).
        unsafe { found(findings.context, status_of(problem.kind()), words.as_ptr(), option) };
    }
    Ok(())
}

/// Nothing of the engine's may be missing in its own version.
fn missing() -> StageError {
    StageError::fatal("the engine lacks a function that this version of the interface has")
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
