//! The Kafka source and sink as a shared library: `plugins: [{ path: pipeline_kafka_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_kafka::stages());
