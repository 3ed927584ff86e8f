//! The built-in transforms and detectors as a shared library: `plugins: [{ path: pipeline_builtin_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_builtin::stages());
