//! A link from an alert to its series on the dashboard.

use arrow::datatypes::Schema;
use pipeline_stage::{Alert, ColumnType, Result, StageError};
use reqwest::Url;
use serde_json::{Map, Value};

/// Where the dashboard is, and what it must be told of a row.
pub struct DashboardLink {
    page: Url,
    key: Vec<String>,
    time: Option<String>,
}

impl DashboardLink {
    /// To the dashboard at an address, for rows of these columns.
    ///
    /// # Errors
    /// `Config` for what is no address of a page.
    pub fn new(url: &str, key: &[String], schema: &Schema) -> Result<Self> {
        let page = Url::parse(url).ok().filter(|page| matches!(page.scheme(), "http" | "https"));
        let page = page.filter(|page| page.username().is_empty() && page.password().is_none());
        let page = page.ok_or_else(|| {
            // It is not repeated: somebody may have put a password into it.
            let message = "`dashboard_url` is no address of a page without a name and a password, it would be like \
                           `https://pipeline.example.com`";
            StageError::config(message).at_option("dashboard_url")
        })?;
        let is_time = |column: &&String| {
            schema
                .field_with_name(column)
                .is_ok_and(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp))
        };
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let key = key.iter().filter(|name| names.contains(name)).cloned().collect();
        Ok(DashboardLink { page, key, time: names.iter().find(is_time).cloned() })
    }

    /// The address of the row's series, at its time: the page's, if the row does not say its series. Whatever a sensor is
    /// called, it is encoded, so it can neither end the link nor begin another.
    pub fn of(&self, alert: &Alert) -> String {
        let series: Map<String, Value> =
            self.key.iter().filter_map(|name| Some((name.clone(), alert.row.get(name)?.clone()))).collect();
        let mut page = self.page.clone();
        if series.is_empty() {
            return page.into();
        }
        let mut query = vec![("series", Value::Object(series).to_string())];
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
    use arrow::datatypes::{DataType, Field};
    use pipeline_stage::timestamp_type;
    use serde_json::json;

    use super::*;

    fn link(url: &str) -> Result<DashboardLink> {
        let schema = Schema::new(vec![
            Field::new("sensor_id", DataType::Utf8, true),
            Field::new("timestamp", timestamp_type(), true),
        ]);
        DashboardLink::new(url, &["sensor_id".into()], &schema)
    }

    fn alert(sensor: &str) -> Alert {
        let row = json!({ "sensor_id": sensor, "timestamp": "2025-07-20T08:19:16.412Z" });
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
