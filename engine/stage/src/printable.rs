//! Text from outside, made safe to look at.

/// Text on one line that cannot move a cursor, recolour a terminal or turn the reading direction: such characters
/// are written as `\n`, `\t` or `\u{1b}`. What is longer than `limit` characters is cut, and `…` says so.
pub fn printable(text: &str, limit: usize) -> String {
    let mut printed = String::with_capacity(text.len().min(limit));
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            printed.push('…');
            break;
        }
        match is_harmless(character) {
            true => printed.push(character),
            false => printed.extend(character.escape_default()),
        }
    }
    printed
}

fn is_harmless(character: char) -> bool {
    let is_invisible = matches!(character,
        '\u{200b}'..='\u{200f}'     // zero width and direction marks
        | '\u{2028}'..='\u{202e}'   // line separators, direction overrides
        | '\u{2060}'..='\u{206f}'   // joiners, direction isolates
        | '\u{feff}' | '\u{61c}' | '\u{e0000}'..='\u{e007f}');
    !character.is_control() && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_a_cursor_is_spelled_out() {
        for (text, printed) in [
            ("sensor-04 é 😀 \\", "sensor-04 é 😀 \\"),
            ("a\nb\r\t\0", r"a\nb\r\t\u{0}"),
            ("\u{1b}[2J\u{9b}31m\u{7f}", r"\u{1b}[2J\u{9b}31m\u{7f}"),
            ("abc\u{202e}txt\u{2066}\u{2028}\u{200b}", r"abc\u{202e}txt\u{2066}\u{2028}\u{200b}"),
        ] {
            assert_eq!(printable(text, 100), printed);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(printable("äöü", 3), "äöü");
        assert_eq!(printable("äöüß", 3), "äöü…");
    }
}
