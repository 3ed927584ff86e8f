//! What each part of a row's way costs by itself, through the same calls as in a run. Rows are made up here, the same at
//! every run.
//!
//!     make bench-micro
//!     cargo bench -p pipeline-micro -- json          only what has `json` in its name
//!     cargo bench -p pipeline-micro -- --skip kafka  without a broker
//!
//! A figure is the time of one call; beside it stand rows per second. Most calls take a batch of 8,192 rows, as in a
//! run: their time divided by 8,192 is that of a row. `cargo test` runs each once, to see that it works.

mod copy;
mod decode;
mod detect;
mod kafka;
mod rows;
mod store;
mod when;

/// As in the binary: it decides much of what librdkafka costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}
