//! What a plugin logs with `tracing` reaches the engine's log.

use std::fmt::{self, Write};
use std::sync::OnceLock;

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};

use crate::memory::c_text;
use crate::raw::RawEngine;

/// The engine's functions, as far as logs need them.
#[derive(Clone, Copy)]
struct Engine {
    log: unsafe extern "C" fn(i32, *const std::ffi::c_char),
    log_level: unsafe extern "C" fn() -> i32,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Sends what is logged in this library to the engine. The first call counts.
pub fn start(engine: Option<&RawEngine>) {
    let functions = engine.and_then(|engine| Some(Engine { log: engine.log?, log_level: engine.log_level? }));
    let Some(functions) = functions else { return };
    ENGINE.get_or_init(|| {
        // A library that has a subscriber of its own keeps it.
        let _ = dispatcher::set_global_default(Dispatch::new(ToEngine));
        functions
    });
}

/// Logs an error where there is no other way to say it.
pub fn error(text: &str) {
    write(&Level::ERROR, text);
}

fn write(level: &Level, text: &str) {
    if let Some(engine) = ENGINE.get() {
        // SAFETY: text that ends with a NUL, copied during the call; any thread may log (rule 4).
        unsafe { (engine.log)(number(level), c_text(text).as_ptr()) };
    }
}

/// `PIPELINE_LOG_ERROR` to `PIPELINE_LOG_TRACE`.
fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Events become lines; spans are not kept.
struct ToEngine;

impl Subscriber for ToEngine {
    /// The engine's level may be set after the library is loaded: it is asked each time.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: a function of the engine, for any thread (rule 4).
        metadata.is_event()
            && ENGINE.get().is_some_and(|engine| number(metadata.level()) <= unsafe { (engine.log_level)() })
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        write(event.metadata().level(), &format!("{}{}", line.message, line.fields));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// `words name=value name=value`
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("text can always be written to");
    }
}
