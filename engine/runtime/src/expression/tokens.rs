//! The words and signs of an expression, with their places in bytes.
//!
//! The syntax tree knows only the places of names and literals; the ends of calls, casts and `IS NULL` are found here.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::error::ExpressionError;

/// All tokens but white space, in order.
pub(super) struct Tokens(Vec<(Token, Range<usize>)>);

/// Cuts the text into tokens. Comments are refused: `5--3` is meant as arithmetic.
pub(super) fn tokenize(text: &str) -> Result<Tokens, ExpressionError> {
    let mut cursor = Cursor { rest: text.char_indices().peekable(), end: text.len(), line: 1, column: 1 };
    let tokens = match Tokenizer::new(&GenericDialect, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            let start = cursor.advance_to(error.location);
            return Err(unreadable(text, &error.message, start));
        }
    };
    let mut placed = Vec::with_capacity(tokens.len());
    let mut end = 0;
    for token in tokens {
        let span = cursor.advance_to(token.span.start)..cursor.advance_to(token.span.end);
        if text[end..].starts_with("/*") || text[end..].starts_with("--") {
            return Err(comment(end..text.len()));
        }
        end = span.end;
        let is_space = matches!(token.token, Token::Whitespace(_));
        if !is_space {
            placed.push((token.token, span));
        }
    }
    // sqlparser gives no token for `/*!*/`, which may stand at the end.
    if end < text.len() {
        return Err(comment(end..text.len()));
    }
    Ok(Tokens(placed))
}

fn comment(span: Range<usize>) -> ExpressionError {
    ExpressionError::new(span, "comments are not allowed in an expression")
        .with_help("to subtract a negative number, put a space between the signs: `a - -b`")
}

fn unreadable(text: &str, words: &str, start: usize) -> ExpressionError {
    let quote = text[start..].chars().next();
    if words.contains("comment") {
        return comment(start..text.len());
    }
    match quote {
        Some('\'') => ExpressionError::new(start..text.len(), "the text that begins here has no end")
            .with_help("close it with `'`; a quote inside a text is written twice: 'it''s'"),
        Some('"') | Some('`') => ExpressionError::new(start..text.len(), "the column name that begins here has no end")
            .with_help("close it with the same quote"),
        _ => ExpressionError::new(start..text.len(), format!("this cannot be read: {}", words.to_lowercase())),
    }
}

impl Tokens {
    /// In the order of the text.
    pub fn all(&self) -> &[(Token, Range<usize>)] {
        &self.0
    }

    /// The place of the token that begins at this byte.
    pub fn at(&self, start: usize) -> Option<Range<usize>> {
        let index = self.0.binary_search_by_key(&start, |(_, span)| span.start).ok()?;
        Some(self.0[index].1.clone())
    }

    /// Where the nesting of parentheses, `CASE` and `NOT` first exceeds a number of levels.
    pub fn deeper_than(&self, n_levels: usize) -> Option<Range<usize>> {
        let mut level = 0;
        let mut opened_at = Vec::new();
        for (token, span) in &self.0 {
            let keyword = match token {
                Token::Word(word) => word.keyword,
                _ => Keyword::NoKeyword,
            };
            match (token, keyword) {
                (Token::LParen, _) | (_, Keyword::CASE) => {
                    level += 1;
                    opened_at.push(level);
                }
                (Token::RParen, _) | (_, Keyword::END) => {
                    opened_at.pop();
                    level = opened_at.last().copied().unwrap_or(0);
                }
                (_, Keyword::NOT) => level += 1,
                // What a `NOT` belongs to ends here.
                (Token::Comma, _) | (_, Keyword::AND | Keyword::OR | Keyword::WHEN | Keyword::THEN | Keyword::ELSE) => {
                    level = opened_at.last().copied().unwrap_or(0);
                }
                _ => {}
            }
            if n_levels < level {
                return Some(span.clone());
            }
        }
        None
    }

    /// The last `CASE` without an `END`.
    pub fn open_case(&self) -> Option<Range<usize>> {
        let mut open = Vec::new();
        for (token, span) in &self.0 {
            match token {
                Token::Word(word) if word.keyword == Keyword::CASE => open.push(span.clone()),
                Token::Word(word) if word.keyword == Keyword::END => _ = open.pop(),
                _ => {}
            }
        }
        open.pop()
    }

    /// Where the token before this byte begins, or the byte itself.
    pub fn start_before(&self, start: usize) -> usize {
        let index = self.0.partition_point(|(_, span)| span.start < start);
        match index.checked_sub(1) {
            Some(before) => self.0[before].1.start,
            None => start,
        }
    }

    /// Where the `count`th token after this byte ends.
    pub fn end_after(&self, end: usize, count: usize) -> usize {
        let after = self.0.partition_point(|(_, span)| span.start < end);
        match (after + count).checked_sub(1).and_then(|last| self.0.get(last)) {
            Some((_, span)) => span.end,
            None => end,
        }
    }

    /// Where the token after this byte ends, and those that follow it while `continues` says so.
    pub fn end_while(&self, end: usize, continues: impl Fn(&Token) -> bool) -> usize {
        let after = self.0.partition_point(|(_, span)| span.start < end);
        let following = self.0[after..].iter().take_while(|(token, _)| continues(token));
        following.last().map_or(end, |(_, span)| span.end)
    }

    /// Where the parenthesis closes that opens first at or after this byte.
    pub fn end_of_parentheses(&self, start: usize) -> usize {
        let after = self.0.partition_point(|(_, span)| span.start < start);
        let mut depth = 0_usize;
        for (token, span) in &self.0[after..] {
            match token {
                Token::LParen => depth += 1,
                Token::RParen if depth <= 1 => return span.end,
                Token::RParen => depth -= 1,
                _ => {}
            }
        }
        start
    }

    /// The call whose arguments this place is among: from its name to its parenthesis.
    pub fn enclosing_call(&self, inner: &Range<usize>) -> Range<usize> {
        let before = self.0.partition_point(|(_, span)| span.start < inner.start);
        let mut depth = 0_usize;
        for (token, span) in self.0[..before].iter().rev() {
            match token {
                Token::RParen => depth += 1,
                Token::LParen if depth == 0 => {
                    return self.start_before(span.start)..self.end_of_parentheses(span.start);
                }
                Token::LParen => depth -= 1,
                _ => {}
            }
        }
        inner.clone()
    }
}

/// Walks through the text once, counting as sqlparser does: lines from 1, columns in characters from 1.
struct Cursor<'a> {
    rest: Peekable<CharIndices<'a>>,
    end: usize,
    line: u64,
    column: u64,
}

impl Cursor<'_> {
    /// Goes on to a place, which must not lie before the last one, and gives its byte.
    fn advance_to(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.rest.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.rest.peek().map_or(self.end, |(byte, _)| *byte)
    }
}
