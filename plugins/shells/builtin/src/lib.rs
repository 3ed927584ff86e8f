//! What is built in as a shared library: `plugins: [{ path: pipeline_builtin_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_abi::without_formats(pipeline_builtin::stages()));
