//! A link from an alert to its series on the dashboard.

use pipeline_stage::{Alert, ColumnType, Result, SinkContext, StageError, exact_in_browsers};
use reqwest::Url;
use serde_json::{Map, Value};

/// Where the dashboard is, and what it must be told of a row.
pub struct DashboardLink {
    page: Url,
    /// None: the page chooses.
    detector: Option<String>,
    key: Vec<String>,
    time: Option<String>,
}

impl DashboardLink {
    /// To the dashboard at an address, for the rows of a sink: the series of the detector that they come through, at its
    /// time. Without such a detector, that of the pipeline's key at the first time of a row.
    ///
    /// # Errors
    /// `Config` for what is no address of a page.
    pub fn new(url: &str, context: &SinkContext) -> Result<Self> {
        let page = Url::parse(url).ok().filter(|page| matches!(page.scheme(), "http" | "https"));
        let page = page.filter(|page| page.username().is_empty() && page.password().is_none());
        let page = page.ok_or_else(|| {
            // It is not repeated: somebody may have put a password into it.
            let message = "`dashboard_url` is no address of a page without a name and a password, it would be like \
                           `https://pipeline.example.com`";
            StageError::config(message).at_option("dashboard_url")
        })?;
        let (schema, detector) = (&context.schema, context.detector.as_ref());
        let fields = || schema.fields().iter();
        let first_time = || fields().find(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp));
        let time = match detector {
            Some(detector) => detector.time.clone(),
            None => first_time().map(|field| field.name().clone()),
        };
        let key = detector.map_or(&context.stage.key, |detector| &detector.key);
        let is_there = |name: &&String| schema.column_with_name(name).is_some();
        let key = key.iter().filter(is_there).cloned().collect();
        Ok(DashboardLink { page, detector: detector.map(|detector| detector.id.clone()), key, time })
    }

    /// The address of the row's series, at its time: the page's, if the row does not say its series. Whatever a sensor is
    /// called, it is encoded, so it can neither end the link nor begin another.
    pub fn of(&self, alert: &Alert) -> String {
        let part = |name: &String| Some((name.clone(), exact_in_browsers(alert.row.get(name)?.clone())));
        let series: Map<String, Value> = self.key.iter().filter_map(part).collect();
        let mut page = self.page.clone();
        if series.is_empty() {
            return page.into();
        }
        let mut query = Vec::with_capacity(3);
        query.extend(self.detector.iter().map(|detector| ("detector", detector.clone())));
        query.push(("series", Value::Object(series).to_string()));
        let at = self.time.as_ref().and_then(|time| alert.row.get(time)?.as_str());
        let at = at.and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
        query.extend(at.map(|at| ("at", at.timestamp_millis().to_string())));
        // Only for its encoding: what is behind `#` never leaves the browser.
        let mut encoder = self.page.clone();
        encoder.query_pairs_mut().clear().extend_pairs(query);
        page.set_fragment(Some(&format!("/series?{}", encoder.query().unwrap_or_default())));
        page.into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use pipeline_stage::{DetectorAbove, NoConsole, StageContext, timestamp_type};
    use serde_json::json;

    use super::*;

    fn context(detector: Option<DetectorAbove>) -> SinkContext {
        let columns = [
            ("received", timestamp_type()),
            ("sensor_id", DataType::Utf8),
            ("number", DataType::Int64),
            ("timestamp", timestamp_type()),
        ];
        let fields: Vec<Field> = columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec();
        let stage = StageContext {
            pipeline: "iot".into(),
            id: "alerts".into(),
            directory: PathBuf::new(),
            key: vec!["sensor_id".into()],
            once: false,
            cold_start: false,
            console: Arc::new(NoConsole),
        };
        SinkContext { stage, schema: Arc::new(Schema::new(fields)), detector }
    }

    fn link(url: &str) -> Result<DashboardLink> {
        DashboardLink::new(url, &context(None))
    }

    fn alert(sensor: &str) -> Alert {
        let row = json!({
            "received": "2025-07-20T08:19:16.412Z", "sensor_id": sensor, "number": i64::MAX,
            "timestamp": "2025-07-20T08:19:15Z",
        });
        Alert { id: "a".into(), row: row.as_object().unwrap().clone(), digest_of: None }
    }

    #[test]
    fn it_names_the_series_and_the_time() {
        let url = link("https://pipeline.example.com/").unwrap().of(&alert("sensor 4"));
        let expected =
            "https://pipeline.example.com/#/series?series=%7B%22sensor_id%22%3A%22sensor+4%22%7D&at=1752999556412";
        assert_eq!(url, expected);
    }

    #[test]
    fn it_names_the_detector_with_its_own_key_and_time_and_every_digit() {
        let detector = |time: Option<&str>| DetectorAbove {
            id: "spikes & co".into(),
            key: vec!["number".into()],
            time: time.map(str::to_owned),
        };
        let of = |time| {
            let link = DashboardLink::new("https://pipeline.example.com/", &context(Some(detector(time)))).unwrap();
            link.of(&alert("sensor 4"))
        };
        let series = "https://pipeline.example.com/#/series?detector=spikes+%26+co\
                      &series=%7B%22number%22%3A%229223372036854775807%22%7D";
        assert_eq!(of(Some("timestamp")), format!("{series}&at=1752999555000"));
        assert_eq!(of(None), series);
    }

    #[test]
    fn a_sensor_cannot_end_the_link() {
        let url = link("http://127.0.0.1:8080").unwrap().of(&alert("a|b>c<http://evil\" #"));
        assert!(!url[22..].contains(['|', '>', '<', '"', ' ']), "{url}");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for bad in ["", "pipeline.example.com", "javascript:alert(1)", "https://user:hush@example.com"] {
            let error = link(bad).err().expect("no address");
            assert_eq!(error.option(), Some("dashboard_url"), "{bad}");
        }
    }
}
