//! The SQLite sink as a shared library: `plugins: [{ path: pipeline_sqlite_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_sqlite::stages());
