//! Cuts a source into tokens, as far as the plan needs to know them.

/// A name, `::`, or a single character of punctuation.
#[derive(Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    /// A word, not punctuation.
    pub fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a source, without comments, literals, and modules that are only compiled for tests.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut next_line = 1;
    while let Some(first) = rest.chars().next() {
        let line = next_line;
        let length = length_of_next(rest, first);
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        next_line += piece.matches('\n').count();
        let literal = piece.len() > 1 && piece.ends_with(['"', '\'', '#']) || piece.starts_with('\'');
        let comment = piece.starts_with("//") || piece.starts_with("/*");
        if !literal && !comment && !first.is_whitespace() {
            found.push(Token { text: piece.to_owned(), line });
        }
    }
    without_tests(found)
}

/// How many bytes the piece at the beginning of `rest` has.
fn length_of_next(rest: &str, first: char) -> usize {
    let end = |found: Option<usize>| found.unwrap_or(rest.len());
    let name = end(rest.find(|c: char| !c.is_alphanumeric() && c != '_'));
    if rest.starts_with("//") {
        return end(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with("::") {
        return 2;
    }
    // `r"`, `br#"`, `c"` and the like.
    let hashes = rest[name..].chars().take_while(|c| *c == '#').count();
    if rest[name + hashes..].starts_with('"') && name <= 2 && (hashes == 0 || name > 0) {
        let open = name + hashes + 1;
        if rest[..name].contains('r') {
            let close = format!("\"{}", "#".repeat(hashes));
            return end(rest[open..].find(&close).map(|at| open + at + close.len()));
        }
        return quoted(rest, open, '"');
    }
    if first == '\'' {
        // `'a'` and `'\n'` are characters, `'a` is a lifetime.
        let mut characters = rest.chars().skip(1);
        let (second, third) = (characters.next(), characters.next());
        if second == Some('\\') || third == Some('\'') {
            return quoted(rest, 1, '\'');
        }
        return 1 + end(rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_'));
    }
    name.max(first.len_utf8())
}

/// The length of a literal whose content begins at `open`, up to and with the closing quote.
fn quoted(rest: &str, open: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest[open..].char_indices() {
        if character == quote && !escaped {
            return open + at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    rest.len()
}

/// The length of a block comment, with those inside it.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Leaves out every item that `#[cfg(test)]` stands before.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        kept.push(token);
        let tail = kept.len().saturating_sub(MARK.len());
        if kept[tail..].iter().map(|token| token.text.as_str()).eq(MARK) {
            kept.truncate(tail);
            // The item ends with the brace that closes it, or with a semicolon.
            let mut depth = 0_usize;
            for token in tokens.by_ref() {
                match token.text.as_str() {
                    "{" | "(" | "[" => depth += 1,
                    "}" | ")" | "]" => depth -= 1,
                    _ => {}
                }
                if depth == 0 && matches!(token.text.as_str(), "}" | ";") {
                    break;
                }
            }
        }
    }
    kept
}
