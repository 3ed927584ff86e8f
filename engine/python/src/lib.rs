//! Stages written in Python: a plugin is a file that runs in a process of its own, and what it describes becomes
//! [`StageType`](pipeline_stage::StageType)s.
//!
//! The other side is the package in `sdk/`. Both sides speak in frames over the child's standard input and output, one
//! question and one answer at a time ([`frame`]); `docs/decisions/0010-stages-in-python.md` has the reasons.

mod columns;
mod detector;
mod frame;
mod interpreter;
mod messages;
mod plugin;
mod process;
mod revived;
mod sink;
mod source;
mod stage_type;
mod stderr;
mod transform;

pub use interpreter::Interpreter;
pub use plugin::{Plugin, is_plugin};

/// The package that plugins import, by path below its folder: for kits that hand it to plugin authors.
pub const SDK: [(&str, &str); 17] = [
    ("README.md", include_str!("../sdk/README.md")),
    ("pyproject.toml", include_str!("../sdk/pyproject.toml")),
    ("pipeline_plugin/__init__.py", include_str!("../sdk/pipeline_plugin/__init__.py")),
    ("pipeline_plugin/__main__.py", include_str!("../sdk/pipeline_plugin/__main__.py")),
    ("pipeline_plugin/batch.py", include_str!("../sdk/pipeline_plugin/batch.py")),
    ("pipeline_plugin/detector.py", include_str!("../sdk/pipeline_plugin/detector.py")),
    ("pipeline_plugin/errors.py", include_str!("../sdk/pipeline_plugin/errors.py")),
    ("pipeline_plugin/logs.py", include_str!("../sdk/pipeline_plugin/logs.py")),
    ("pipeline_plugin/options.py", include_str!("../sdk/pipeline_plugin/options.py")),
    ("pipeline_plugin/plugin.py", include_str!("../sdk/pipeline_plugin/plugin.py")),
    ("pipeline_plugin/py.typed", include_str!("../sdk/pipeline_plugin/py.typed")),
    ("pipeline_plugin/serve.py", include_str!("../sdk/pipeline_plugin/serve.py")),
    ("pipeline_plugin/sink.py", include_str!("../sdk/pipeline_plugin/sink.py")),
    ("pipeline_plugin/source.py", include_str!("../sdk/pipeline_plugin/source.py")),
    ("pipeline_plugin/stage.py", include_str!("../sdk/pipeline_plugin/stage.py")),
    ("pipeline_plugin/transform.py", include_str!("../sdk/pipeline_plugin/transform.py")),
    ("pipeline_plugin/wire.py", include_str!("../sdk/pipeline_plugin/wire.py")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_package_is_handed_out() {
        let sdk = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
        let mut files: Vec<String> = std::fs::read_dir(sdk.join("pipeline_plugin"))
            .expect("the package is there")
            .map(|entry| entry.expect("it can be read").path())
            .filter(|path| path.is_file())
            .map(|path| path.strip_prefix(&sdk).expect("it is below").display().to_string())
            .collect();
        files.extend(["README.md".into(), "pyproject.toml".into()]);
        files.sort();
        let mut handed_out = SDK.map(|(path, _)| path.to_owned());
        handed_out.sort();
        assert_eq!(files, handed_out);
    }
}
