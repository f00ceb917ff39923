//! Quoting in specs. One rule for values and for the words in them: a text that begins with `"` or `'` ends at the same
//! quote, anywhere else quotes are ordinary characters, as in `RUSTFLAGS`.
//!
//! Between `"`, `\` stands before a `"` or `\` that is meant; between `'`, everything means itself.

/// Why a quoted text can't be read, and its place in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unquotable {
    pub(super) at: usize,
    pub(super) what: String,
}

/// Reads a value that begins at byte `start`, up to a `+` outside of quotes. Returns the byte behind it, too.
pub(super) fn value(text: &str, start: usize) -> Result<(String, usize), Unquotable> {
    let rest = &text[start..];
    if !begins_quoted(rest) {
        let end = rest.find('+').map_or(text.len(), |length| start + length);
        return Ok((text[start..end].to_owned(), end));
    }
    let (value, end) = quoted(text, start)?;
    match text[end..].chars().next() {
        None | Some('+') => Ok((value, end)),
        Some(next) => Err(Unquotable {
            at: end,
            what: format!("`{next}` follows a closing quote, which ends a value: quote all of the value"),
        }),
    }
}

/// Splits a text at its blanks.
pub(super) fn words(text: &str) -> Result<Vec<String>, Unquotable> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if at == text.len() {
            return Ok(words);
        }
        let (word, end) = if begins_quoted(&text[at..]) {
            quoted(text, at)?
        } else {
            let end = text[at..].find(char::is_whitespace).map_or(text.len(), |length| at + length);
            (text[at..end].to_owned(), end)
        };
        if text[end..].starts_with(|next: char| !next.is_whitespace()) {
            let what = "a closing quote ends a word: quote all of the word".to_owned();
            return Err(Unquotable { at: end, what });
        }
        words.push(word);
        at = end;
    }
}

/// Writes a value so that [`value`] reads it back.
pub(super) fn of_value(value: &str) -> String {
    if value.is_empty() || value.contains('+') || begins_quoted(value) { quote(value) } else { value.to_owned() }
}

/// Writes words so that [`words`] reads them back.
pub(super) fn of_words(words: &[String]) -> String {
    let word = |word: &String| {
        let is_plain = !word.is_empty() && !word.contains(char::is_whitespace) && !begins_quoted(word);
        if is_plain { word.clone() } else { quote(word) }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn begins_quoted(text: &str) -> bool {
    text.starts_with(['"', '\''])
}

fn quote(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') {
        return format!("'{text}'");
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads what begins with a quote at byte `start`. Returns the byte behind the closing one, too.
fn quoted(text: &str, start: usize) -> Result<(String, usize), Unquotable> {
    let mut chars = text[start..].char_indices();
    let mark = chars.next().map_or('"', |(_, mark)| mark);
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        if c == mark {
            return Ok((value, start + at + c.len_utf8()));
        }
        let escaped = || text[start + at + 1..].chars().next().filter(|next| matches!(next, '"' | '\\'));
        match (mark, c, if c == '\\' { escaped() } else { None }) {
            ('"', '\\', Some(next)) => {
                value.push(next);
                chars.next();
            }
            _ => value.push(c),
        }
    }
    Err(Unquotable { at: start, what: format!("the quote `{mark}` is not closed") })
}
