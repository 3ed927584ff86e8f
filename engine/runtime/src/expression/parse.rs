//! From text to sqlparser's syntax tree, with places counted in bytes.
//!
//! The dialect is sqlparser's generic one. It reads all of the language, and it is the default of DataFusion, so an
//! expression will read the same in a query there. PostgreSQL's dialect is no choice: it takes `value>-1` for the
//! unknown operator `>-`.

use std::ops::Range;

use sqlparser::ast::Expr;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::error::ExpressionError;
use super::habits;
use super::tokens::{Tokens, tokenize};

/// How deep sqlparser may recurse, which is its own default: `a AND (b OR (c AND d))` takes 5 levels. More would need
/// more stack (see `STACK_BYTES`).
const MAX_PARSER_DEPTH: usize = 50;

/// How deep parentheses, `CASE` and `NOT` may be nested: less than what sqlparser can take, more than anybody reads.
const MAX_LEVELS: usize = 40;

/// The longest expression: a chain of operators makes a tree as deep as it is long, which is dropped recursively.
/// Enough for a list of a thousand names.
const MAX_TOKENS: usize = 3_000;

/// An expression's syntax; its places are bytes: sqlparser sees one line whose columns are byte offsets plus one.
pub(super) struct Parsed {
    pub syntax: Expr,
    pub tokens: Tokens,
}

/// Reads one expression and nothing after it.
pub(super) fn parse(text: &str) -> Result<Parsed, Vec<ExpressionError>> {
    if text.trim().is_empty() {
        let error = ExpressionError::new(0..text.len(), "the expression is empty");
        return Err(vec![error.with_help("write one such as `value > 50`")]);
    }
    let tokens = tokenize(text).map_err(|error| vec![error])?;
    if let Some((_, span)) = tokens.all().get(MAX_TOKENS) {
        let message = format!("the expression is too long, it may have at most {MAX_TOKENS} words and signs");
        return Err(vec![ExpressionError::new(span.clone(), message)]);
    }
    // Here sqlparser's own error would be hidden: at its limit it reads `NOT` and `CASE` as columns.
    if let Some(span) = tokens.deeper_than(MAX_LEVELS) {
        return Err(vec![too_deep(span)]);
    }
    let habits = habits::find(text, &tokens);
    if !habits.is_empty() {
        return Err(habits);
    }
    let syntax = parse_tokens(text, &tokens).map_err(|error| vec![error])?;
    Ok(Parsed { syntax, tokens })
}

fn parse_tokens(text: &str, tokens: &Tokens) -> Result<Expr, ExpressionError> {
    let with_bytes = tokens.all().iter().map(|(token, span)| TokenWithSpan::new(token.clone(), as_columns(span)));
    let mut parser = Parser::new(&GenericDialect)
        .with_recursion_limit(MAX_PARSER_DEPTH)
        .with_tokens_with_locations(with_bytes.collect());
    let error = match parser.parse_expr() {
        Ok(syntax) if parser.peek_token().token == Token::EOF => return Ok(syntax),
        Ok(_) => trailing(text, tokens, as_bytes(parser.peek_token().span)),
        Err(error) => explain(error, text, tokens),
    };
    // A word that cannot be read as what it stands for is read as a column, which hides the reason.
    match tokens.open_case() {
        Some(span) => Err(ExpressionError::new(span, "this `CASE` has no `END`")),
        None => Err(error),
    }
}

/// Something that follows a whole expression.
fn trailing(text: &str, tokens: &Tokens, first: Range<usize>) -> ExpressionError {
    // `value > 5 OR OR …`: a word that joins is read as a column if it cannot join.
    let before = tokens.at(tokens.start_before(first.start)).unwrap_or(first.clone());
    let is_misplaced = ["AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "THEN", "ELSE"]
        .iter()
        .any(|word| text[before.clone()].eq_ignore_ascii_case(word));
    if is_misplaced {
        let message = format!("`{}` is not expected here", &text[before.clone()]);
        return ExpressionError::new(before, message).with_help("a value is missing before it");
    }
    let word = &text[first.clone()];
    let message = format!("`{word}` is not expected here, the expression has ended before it");
    let error = ExpressionError::new(first, message);
    match word {
        ")" => error.with_help("no `(` is open"),
        "," => error.with_help("there is only one expression; conditions are joined by `AND` and `OR`"),
        _ => error.with_help("an operator such as `AND` may be missing before it"),
    }
}

/// Turns sqlparser's words into ours.
fn explain(error: ParserError, text: &str, tokens: &Tokens) -> ExpressionError {
    let words = match error {
        ParserError::ParserError(words) | ParserError::TokenizerError(words) => words,
        ParserError::RecursionLimitExceeded => return too_deep(0..text.len()),
    };
    // "Expected: an expression, found: ) at Line: 1, Column: 8"; the end of the text has no place.
    let (said, place) = match words.rsplit_once(" at Line: 1, Column: ") {
        Some((said, column)) => (said, column.parse::<usize>().ok()),
        None => (words.as_str(), None),
    };
    let span = match place {
        Some(column) => tokens.at(column - 1).unwrap_or(text.len()..text.len()),
        None if said.ends_with("found: EOF") => text.len()..text.len(),
        None => 0..text.len(),
    };
    let Some((expected, _)) = said.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) else {
        return ExpressionError::new(span, lower_first(said));
    };
    let found = match &text[span.clone()] {
        "" => "the end".to_owned(),
        token => format!("`{token}`"),
    };
    let expected = match expected {
        _ if expected.ends_with("after IS") => "NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS".to_owned(),
        phrase if phrase.contains(' ') => phrase.to_owned(),
        sign => format!("`{sign}`"),
    };
    ExpressionError::new(span, format!("expected {expected}, found {found}"))
}

/// Also said by the binder, which counts the levels of what the parser reads without recursion.
pub(super) fn too_deep(span: Range<usize>) -> ExpressionError {
    ExpressionError::new(span, "the expression is nested too deeply").with_help("split it over several stages")
}

fn lower_first(words: &str) -> String {
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn as_columns(bytes: &Range<usize>) -> Span {
    let column = |byte: usize| Location::new(1, byte as u64 + 1);
    Span::new(column(bytes.start), column(bytes.end))
}

/// The bytes of a span of the syntax tree; `0..0` for one that sqlparser has not filled in.
pub(super) fn as_bytes(span: Span) -> Range<usize> {
    let byte = |place: Location| place.column.saturating_sub(1) as usize;
    byte(span.start)..byte(span.end)
}
