//! The option `headers`.

use std::collections::BTreeMap;

use pipeline_stage::{Result, Secret, StageError};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers that the option names.
///
/// # Errors
/// Of kind `Config`, at the header.
pub fn headers(options: &BTreeMap<String, Secret>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in options {
        let wrong = |what: &str| StageError::config(what).at_option(format!("headers.{name}"));
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| wrong(&format!("`{name}` is not the name of a header, it would be like `X-Api-Key`")))?;
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| wrong(&format!("the value of header `{name}` has characters that no header can have")))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}
