//! What the engine tells `build`, as `pipeline-stage` has it.

use std::ffi::c_void;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use pipeline_stage::{Console, DetectorAbove, Framing, Result, Role, SavedState, StageContext, StageError};

use crate::memory::{sized, slice, text};
use crate::raw::*;

/// All that `build` is told.
pub struct BuildCall {
    pub context: StageContext,
    pub options: serde_json::Value,
    pub inputs: Vec<SchemaRef>,
    pub state: SavedState,
    /// Of a source.
    #[cfg_attr(not(feature = "io"), expect(dead_code, reason = "only sources ask for it"))]
    pub role: Role,
    /// Of a source.
    #[cfg_attr(not(feature = "io"), expect(dead_code, reason = "only sources ask for it"))]
    pub framing: Option<Framing>,
    /// Of a sink.
    #[cfg_attr(not(feature = "io"), expect(dead_code, reason = "only sinks ask for it"))]
    pub detector: Option<DetectorAbove>,
}

/// Reads what the engine passes.
///
/// # Safety
/// It is what the engine passes to `build`.
pub unsafe fn read_build(build: *const RawBuild) -> Result<BuildCall> {
    // SAFETY: valid during the call (rule 1).
    let struct_size = unsafe { (*build).struct_size };
    // SAFETY: it has as many bytes as it says: an older engine knows fewer fields (rule 6).
    let build: &RawBuild = &unsafe { sized(build, struct_size) };
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
        cold_start: build.cold_start != 0,
        console: Arc::new(EngineConsole {
            console: build.console,
            print: build.print,
            is_terminal: build.console_is_terminal != 0,
        }),
    };
    let options = serde_json::from_str(read(options.json))
        .map_err(|error| StageError::fatal("the engine's options are no JSON").because(error))?;
    // SAFETY: rule 1.
    let (inputs, state) = unsafe { (read_inputs(build)?, read_state(build)) };
    let role = if build.is_follower == 0 { Role::Leader } else { Role::Follower };
    // SAFETY: rule 1.
    let detector = unsafe { read_detector(build) };
    Ok(BuildCall { context, options, inputs, state, role, framing: read_framing(build)?, detector })
}

/// # Safety
/// It is what the engine passes to `build`.
unsafe fn read_detector(build: &RawBuild) -> Option<DetectorAbove> {
    // SAFETY: for each field, rule 1 and rule 2.
    let read = |from| unsafe { text(from) }.ok().flatten().map(str::to_owned);
    // SAFETY: rule 1.
    let key = unsafe { slice(build.detector_key, build.n_detector_key) };
    Some(DetectorAbove {
        id: read(build.detector)?,
        key: key.iter().filter_map(|name| read(*name)).collect(),
        time: read(build.detector_time),
    })
}

/// # Safety
/// It is what the engine passes to `build`.
unsafe fn read_inputs(build: &RawBuild) -> Result<Vec<SchemaRef>> {
    // SAFETY: rule 1.
    let schemas = unsafe { slice(build.inputs, build.n_inputs) };
    // SAFETY: rule 1.
    schemas.iter().map(|schema| Ok(Arc::new(Schema::try_from(unsafe { &**schema })?))).collect()
}

/// # Safety
/// It is what the engine passes to `build`.
unsafe fn read_state(build: &RawBuild) -> SavedState {
    // SAFETY: rule 1.
    let entries = unsafe { slice(build.state, build.n_state) };
    let entries = entries.iter().map(|entry| {
        // SAFETY: rule 1.
        let key = unsafe { slice(entry.key, entry.key_length) };
        // SAFETY: rule 1.
        let value = unsafe { slice(entry.value, entry.value_length) };
        (key.to_vec(), value.to_vec())
    });
    SavedState { entries: entries.collect() }
}

fn read_framing(build: &RawBuild) -> Result<Option<Framing>> {
    let (delimiter, quote) = (build.delimiter, build.quote);
    match build.framing {
        NO_FRAMING => Ok(None),
        LINES => Ok(Some(Framing::Lines)),
        CSV => Ok(Some(Framing::Csv { delimiter, quote, has_header: build.has_header != 0 })),
        other => Err(StageError::fatal(format!("the engine has a framing {other}, which this plugin does not know"))),
    }
}

/// The engine's standard output.
struct EngineConsole {
    console: *const c_void,
    print: Option<unsafe extern "C" fn(*const c_void, *const u8, usize) -> i32>,
    is_terminal: bool,
}

// SAFETY: `print` may be called from any thread (rule 4), until `destroy`.
unsafe impl Send for EngineConsole {}
// SAFETY: as above.
unsafe impl Sync for EngineConsole {}

impl Console for EngineConsole {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        let Some(print) = self.print else { return Err(io::ErrorKind::Unsupported.into()) };
        // SAFETY: the lines are there during the call; the console is until `destroy`, and the stage has this no longer.
        match unsafe { print(self.console, lines.as_ptr(), lines.len()) } {
            0 => Ok(()),
            -1 => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Err(io::Error::other("the engine cannot write to it")),
        }
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}
