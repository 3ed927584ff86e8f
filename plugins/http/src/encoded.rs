//! Texts as they stand in a URL.

use reqwest::Url;

/// In its query, as forms have it: a space is `+`.
pub fn in_query(text: &str) -> String {
    let with_text = Url::parse_with_params("http://host", [("", text)]).ok();
    with_text.and_then(|url| url.query().map(|query| query[1..].to_owned())).unwrap_or_default()
}

/// In a part of its path: there `+` would be a plus.
pub fn in_path(text: &str) -> String {
    in_query(text).replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_within_its_part_of_a_url() {
        for (text, query, path) in [
            ("plain-1.5_x", "plain-1.5_x", "plain-1.5_x"),
            ("a+b c", "a%2Bb+c", "a%2Bb%20c"),
            ("../é?&=#/", "..%2F%C3%A9%3F%26%3D%23%2F", "..%2F%C3%A9%3F%26%3D%23%2F"),
            ("", "", ""),
        ] {
            assert_eq!((in_query(text).as_str(), in_path(text).as_str()), (query, path));
        }
    }
}
