//! Compresses Plotly.js, so that the binary carries it as it is sent: 1.4 MB instead of 4.7 MB, and without the library
//! for formulas that the crate `plotly` holds in the same text.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let scripts = plotly::Plot::offline_js_sources();
    let script = scripts.split_once('>').and_then(|(_, rest)| rest.split_once("</script>")).map(|(first, _)| first);
    // Plotly.js is the first of the scripts, and says who it is.
    let script = script.filter(|script| script[..script.len().min(200)].contains("plotly.js v"));
    let script = script.ok_or("the crate `plotly` does not hold Plotly.js as its first script")?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(script.as_bytes())?;
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("plotly.js.gz");
    std::fs::write(path, encoder.finish()?)?;
    Ok(())
}
