//! The sources `http` and `http_push` and the sinks `slack` and `webhook` as a shared library: `plugins: [{ path: pipeline_http_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_http::stages());
