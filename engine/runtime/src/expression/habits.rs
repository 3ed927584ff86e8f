//! Signs from other languages and from word processors that are no SQL, and what to write instead.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::error::ExpressionError;
use super::tokens::Tokens;

/// All that stand in the expression, in order.
pub(super) fn find(text: &str, tokens: &Tokens) -> Vec<ExpressionError> {
    let tokens = tokens.all();
    let mut found = Vec::new();
    for (index, (token, span)) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        let is_first_of_many = index == 0 && next.is_some();
        let habit = match (token, next) {
            (Token::Word(word), _) if is_first_of_many => leading_word(word.keyword).map(|help| (span.end, help)),
            (Token::Eq, Some((Token::Lt, after))) if after.start == span.end => Some((after.end, "write `<=`")),
            _ => sign(token).map(|help| (span.end, help)),
        };
        if let Some((end, help)) = habit {
            let message = format!("`{}` is not part of the language", &text[span.start..end]);
            found.push(ExpressionError::new(span.start..end, message).with_help(help));
        }
    }
    found
}

fn leading_word(keyword: Keyword) -> Option<&'static str> {
    match keyword {
        Keyword::WHERE | Keyword::WHEN => Some("write the condition alone: `value > 50`"),
        Keyword::SELECT => Some("write one expression over the columns of a row, not a query"),
        _ => None,
    }
}

fn sign(token: &Token) -> Option<&'static str> {
    Some(match token {
        Token::DoubleEq => "write `=` to compare",
        Token::Overlap => "write `AND`",
        Token::ExclamationMark | Token::DoubleExclamationMark => "write `NOT`, or `<>` for unequal",
        Token::RArrow => "write `>=`",
        Token::Caret => "write `POWER(base, exponent)`",
        Token::Tilde | Token::TildeAsterisk | Token::ExclamationMarkTilde | Token::ExclamationMarkTildeAsterisk => {
            "there are no regular expressions; write `LIKE 'sensor-%'`"
        }
        Token::SemiColon => "leave it out: there is only one expression",
        Token::Ampersand | Token::Pipe | Token::ShiftLeft | Token::ShiftRight => {
            "there is no arithmetic of bits; conditions are joined by `AND` and `OR`"
        }
        Token::Char('‘' | '’' | '“' | '”' | '„' | '´') => "write text in straight quotes: 'text'",
        Token::Char('≥') => "write `>=`",
        Token::Char('≤') => "write `<=`",
        Token::Char('≠') => "write `<>`",
        Token::Char('×' | '·') => "write `*`",
        Token::Char('÷') => "write `/`",
        Token::Char('−' | '–') => "write `-`",
        Token::Placeholder(_) => "there are no parameters; to use a column, write its name alone",
        _ => return None,
    })
}

/// Words that cannot be columns without quotes.
const RESERVED: [&str; 20] = [
    "all",
    "any",
    "case",
    "distinct",
    "else",
    "end",
    "exists",
    "false",
    "interval",
    "not",
    "null",
    "returning",
    "select",
    "some",
    "struct",
    "trim",
    "true",
    "when",
    "where",
    "with",
];

/// Adds to errors of syntax that a reserved word which is also a column needs quotes.
pub(super) fn suggest_quotes(
    text: &str,
    mut errors: Vec<ExpressionError>,
    is_column: impl Fn(&str) -> bool,
) -> Vec<ExpressionError> {
    let words = || text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let is_meant = |word: &&str| RESERVED.contains(&word.to_lowercase().as_str()) && is_column(word);
    if let Some(column) = words().find(is_meant) {
        for error in &mut errors {
            error.help = Some(format!("to use the column `{column}`, write it in double quotes: \"{column}\""));
        }
    }
    errors
}
