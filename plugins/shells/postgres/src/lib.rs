//! The PostgreSQL sink as a shared library: `plugins: [{ path: pipeline_postgres_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_postgres::stages());
