//! The MQTT source as a shared library: `plugins: [{ path: pipeline_mqtt_plugin, replaces: true }]`.

pipeline_abi::export_plugin!(pipeline_mqtt::stages());
