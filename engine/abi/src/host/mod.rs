//! The engine's side: shared libraries become stage types.

mod above;
mod binary;
mod build;
mod call;
mod changes;
mod epochs;
mod file;
mod found;
mod given;
mod guard;
mod mapped;
mod measure;
mod options;
mod output;
mod rows;
mod said;
mod series;
mod sink;
mod source;
mod stage_type;
mod transform;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::mem::ManuallyDrop;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_stage::{Result, StageError, StageType};

use crate::memory::{c_text, sized, slice};
use crate::raw::{ABI_MAJOR, ABI_MINOR, RawEngine, RawPlugin, RawStage};
use file::LibraryFile;
pub use measure::{inside_of_libraries, measure_calls};
use stage_type::read_stage;

/// A library that was loaded; it stays so for the life of the process.
#[derive(Clone)]
pub struct Library {
    /// What it calls itself.
    pub name: String,
    /// The version it says it has.
    pub version: String,
    /// The ABI it was built for, major and minor.
    pub abi: (u32, u32),
    /// Its stages, in its order.
    pub stages: Vec<StageType>,
}

/// The function that a library exports.
type Entry = unsafe extern "C-unwind" fn(*const RawEngine) -> *const RawPlugin;

/// More would be a length that is none.
const MAX_STAGES: usize = 1_024;

/// What was loaded, by its real path.
static LOADED: Mutex<BTreeMap<PathBuf, (Library, LibraryFile)>> = Mutex::new(BTreeMap::new());

impl Library {
    /// Loads a library and reads its descriptors; a second time gives what the first one gave.
    ///
    /// With `sha256`, 64 hexadecimal digits, a file that has another one is refused before anything of it runs, and what
    /// runs is what was hashed, whatever becomes of the file (on Linux). Of a library that is loaded already it is the
    /// hash of the file that it was loaded from, also when another one has taken its place.
    ///
    /// # Errors
    /// Of kind `Config`, in words, when it is no library of this machine, no plugin, of another version of the ABI,
    /// or says what cannot be. `option` is `sha256` when that is what does not fit.
    pub fn load(path: &Path, sha256: Option<&str>) -> Result<Library> {
        let real = path.canonicalize().map_err(|error| about(path, format!("cannot be read: {error}")))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((library, file)) = loaded.get_mut(&real) {
            let checked = sha256.map_or(Ok(()), |expected| file.check_sha256(expected));
            checked.map_err(|why| about(path, format!("is loaded already and {why}")).at_option("sha256"))?;
            return Ok(library.clone());
        }
        let mut file = LibraryFile::open(&real).map_err(|why| about(path, why))?;
        let library = match sha256 {
            // SAFETY: loading runs the library's own start, which is what a plugin is for; whoever names it trusts it.
            None => unsafe { file.load() },
            Some(expected) => {
                let bytes = file.bytes_of(expected).map_err(|why| about(path, why).at_option("sha256"))?;
                // SAFETY: as above.
                unsafe { file.load_sealed(&bytes) }
            }
        };
        let library = library.and_then(|library| start(&real, library)).map_err(|why| about(path, why))?;
        loaded.insert(real, (library.clone(), file));
        Ok(library)
    }
}

fn about(path: &Path, why: impl std::fmt::Display) -> StageError {
    StageError::config(format!("`{}` {why}", path.display()))
}

/// Calls what was loaded. It is never unloaded: its functions are called as long as the process lives, and its threads
/// may run on, also when it turns out to be no plugin.
fn start(path: &Path, library: libloading::Library) -> Result<Library, String> {
    let library = ManuallyDrop::new(library);
    // SAFETY: the header says what the type of this symbol is.
    let entry = unsafe { library.get::<Entry>(b"pipeline_plugin\0") };
    let entry = *entry.map_err(|_| "is no plugin: it does not export `pipeline_plugin`".to_owned())?;
    let engine = std::ptr::from_ref(&*ENGINE.0);
    // SAFETY: the engine's description lives as long as the process.
    let plugin = guard::guarded(|| unsafe { entry(engine) });
    describe(path, plugin.map_err(|words| format!("threw an exception while it was loaded: {words}"))?)
}

fn describe(path: &Path, plugin: *const RawPlugin) -> Result<Library, String> {
    if plugin.is_null() || !plugin.is_aligned() {
        return Err("has not described itself: `pipeline_plugin` gave no description".into());
    }
    // SAFETY: it is there, and its first three fields are the same in every version.
    let (major, minor, struct_size) = unsafe { ((*plugin).abi_major, (*plugin).abi_minor, (*plugin).struct_size) };
    if major != ABI_MAJOR {
        return Err(format!(
            "is built for version {major}.{minor} of the plugin interface, this engine has {ABI_MAJOR}.{ABI_MINOR}"
        ));
    }
    // SAFETY: it has as many bytes as it says (rule 6).
    let plugin: RawPlugin = unsafe { sized(plugin, struct_size) };
    if plugin.n_stages == 0 || MAX_STAGES < plugin.n_stages {
        return Err(format!("says that it has {} stages, it may have 1 to {MAX_STAGES}", plugin.n_stages));
    }
    if plugin.stages.is_null() || !plugin.stages.is_aligned() {
        return Err(format!("says that it has {} stages, but not where: `stages` is NULL", plugin.n_stages));
    }
    // SAFETY: it has as many as it says (rule 1).
    let descriptors: &[*const RawStage] = unsafe { slice(plugin.stages, plugin.n_stages) };
    let library: Arc<str> = path.display().to_string().into();
    let mut stages: Vec<StageType> = Vec::new();
    for (number, descriptor) in descriptors.iter().enumerate() {
        let stage = read_stage(*descriptor, &library).map_err(|why| format!("has a stage {number} that {why}"))?;
        if stages.iter().any(|other| other.kind == stage.kind && other.name == stage.name) {
            return Err(format!("has two {}s called `{}`", stage.kind.name(), stage.name));
        }
        stages.push(stage);
    }
    Ok(Library {
        name: read_text(plugin.name, "name")?,
        version: read_text(plugin.version, "version")?,
        abi: (major, minor),
        stages,
    })
}

/// A text of a descriptor.
fn read_text(from: *const c_char, what: &str) -> Result<String, String> {
    // SAFETY: NULL, or text that stays (rule 1, rule 2).
    match unsafe { crate::memory::text(from) } {
        Ok(Some(text)) => Ok(text.to_owned()),
        Ok(None) => Err(format!("has no {what}")),
        Err(()) => Err(format!("has a {what} that is not UTF-8")),
    }
}

/// The engine as plugins see it.
struct Engine(Box<RawEngine>);

// SAFETY: it is never changed.
unsafe impl Send for Engine {}
// SAFETY: it is never changed.
unsafe impl Sync for Engine {}

static ENGINE: std::sync::LazyLock<Engine> = std::sync::LazyLock::new(|| {
    Engine(Box::new(RawEngine {
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        struct_size: size_of::<RawEngine>() as u32,
        version: c_text(env!("CARGO_PKG_VERSION")).into_raw(),
        log: Some(log),
        log_level: Some(log_level),
    }))
});

unsafe extern "C" fn log(level: i32, text: *const c_char) {
    if text.is_null() {
        return;
    }
    // SAFETY: text that ends with a NUL (rule 2).
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // Whoever writes the log may panic, and nothing may unwind into the library; there is nobody to tell.
    let _ = catch_unwind(|| match level {
        1 => tracing::error!("{text}"),
        2 => tracing::warn!("{text}"),
        3 => tracing::info!("{text}"),
        4 => tracing::debug!("{text}"),
        _ => tracing::trace!("{text}"),
    });
}

/// The last level that is written; 0 when none is.
unsafe extern "C" fn log_level() -> i32 {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}
