//! Values from outside as text that Slack shows as it is.

use pipeline_stage::printable;

use crate::template::escape_for_slack;

/// A value as mrkdwn of at most `limit` characters: `&`, `<` and `>` as Slack demands, which also makes mentions
/// (`<!channel>`) and links plain text. What Slack would format is shown as code, where nothing is formatted, and
/// characters that cannot be seen are spelled out. What is too long ends with `…`.
pub fn mrkdwn(value: &str, limit: usize) -> String {
    // One character can become ten (`\u{10ffff}`), so more than the limit is never needed.
    let value = printable(value, limit);
    match would_be_formatted(&value) {
        true => format!("`{}`", fit(&value.replace('`', "ˋ"), limit.saturating_sub(2))),
        false => fit(&value, limit),
    }
}

/// Escapes and cuts, never inside an entity. Slack counts as JavaScript does, in units of UTF-16.
fn fit(value: &str, limit: usize) -> String {
    let escaped = escape_for_slack(value);
    if escaped.encode_utf16().count() <= limit {
        return escaped;
    }
    let mut cut = String::new();
    let mut length = 1;
    for character in value.chars() {
        let piece = escape_for_slack(character.encode_utf8(&mut [0; 4]));
        length += piece.encode_utf16().count();
        if limit < length {
            break;
        }
        cut.push_str(&piece);
    }
    cut.push('…');
    cut
}

/// Whether Slack would see formatting: `*bold*`, `_italic_` at the edge of a word, `~struck~`, code, `:emoji:`, a
/// quotation (`>` at the start, even escaped), or a character that was spelled out.
fn would_be_formatted(value: &str) -> bool {
    value.contains(['*', '~', '`', '\\'])
        || value.starts_with('>')
        || value.matches(':').nth(1).is_some() && has_emoji(value)
        || has_underscore_at_edge(value)
}

fn has_emoji(value: &str) -> bool {
    let is_name = |text: &str| {
        let is_name_character = |character: char| character.is_alphanumeric() || "_+-'".contains(character);
        !text.is_empty()
            && text.chars().all(is_name_character)
            && !text.chars().all(|character| character.is_ascii_digit())
    };
    let mut parts = value.split(':').skip(1).peekable();
    while let Some(part) = parts.next() {
        // The last part has no colon behind it.
        if parts.peek().is_some() && is_name(part) {
            return true;
        }
    }
    false
}

fn has_underscore_at_edge(value: &str) -> bool {
    let is_word =
        |character: Option<char>| character.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let mut before = None;
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '_' && !(is_word(before) && is_word(characters.peek().copied())) {
            return true;
        }
        before = Some(character);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_they_are() {
        for (value, shown) in [
            ("sensor-04", "sensor-04"),
            ("air_temperature_2m", "air_temperature_2m"),
            ("a & b < c > d", "a &amp; b &lt; c &gt; d"),
            ("&amp;", "&amp;amp;"),
            ("<!channel> <@U1> <https://evil|ok>", "&lt;!channel&gt; &lt;@U1&gt; &lt;https://evil|ok&gt;"),
            ("*bold*", "`*bold*`"),
            ("_italic_", "`_italic_`"),
            ("~x~ `code`", "`~x~ ˋcodeˋ`"),
            (":warning:", "`:warning:`"),
            ("12:30:15 10:20", "12:30:15 10:20"),
            ("> quoted", "`&gt; quoted`"),
            ("a\nb\u{1b}\u{202e}", "`a\\nb\\u{1b}\\u{202e}`"),
            ("😀 é", "😀 é"),
            ("", ""),
        ] {
            assert_eq!(mrkdwn(value, 100), shown);
        }
    }

    #[test]
    fn long_values_are_cut_between_characters_and_entities() {
        assert_eq!(mrkdwn("abcdef", 6), "abcdef");
        assert_eq!(mrkdwn("abcdefg", 6), "abcde…");
        assert_eq!(mrkdwn("ab<>", 6), "ab…");
        assert_eq!(mrkdwn("😀😀😀", 5), "😀😀…");
        assert_eq!(mrkdwn("*bcdefghi", 6), "`*bc…`");
        for hostile in ["<", "&", "*", "\u{10ffff}", "\n", "😀", "a"] {
            let shown = mrkdwn(&hostile.repeat(5_000), 1_000);
            let length = shown.encode_utf16().count();
            assert!((990..=1_000).contains(&length), "{hostile:?}: {length}");
        }
    }
}
