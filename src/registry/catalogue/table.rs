//! Reads a table of a dump: CSV, its columns by name, in bounded memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use super::dump::DumpError;

/// The longest row, in bytes: a row of crates may hold a README.
const MAX_ROW: u64 = 16 << 20;

/// Hands every row of a table to `row`, as the fields of these columns.
pub(super) fn rows<const N: usize>(
    file: &str,
    table: impl Read,
    columns: [&str; N],
    mut row: impl FnMut([&[u8]; N]) -> Result<(), String>,
) -> Result<(), DumpError> {
    let since_row = Rc::new(Cell::new(0));
    let bounded = Bounded { table, since_row: Rc::clone(&since_row) };
    let mut reader = ReaderBuilder::new().has_headers(true).from_reader(bounded);
    let broken = |error: csv::Error| broken(file, error);
    let header = reader.byte_headers().map_err(broken)?.clone();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        let found = header.iter().position(|name| name == column.as_bytes());
        *place = found.ok_or_else(|| DumpError::Column { file: file.to_owned(), column: column.to_owned() })?;
    }
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(broken)? {
        since_row.set(0);
        // Rows are as long as the header, or the reader would have complained.
        row(places.map(|place| &record[place])).map_err(|reason| {
            let line = record.position().map_or(0, csv::Position::line);
            DumpError::Row { file: file.to_owned(), line, reason }
        })?;
    }
    Ok(())
}

fn broken(file: &str, error: csv::Error) -> DumpError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DumpError::Read { file: file.to_owned(), source },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            DumpError::Row { file: file.to_owned(), line, reason: format!("{len} fields, not {expected_len}") }
        }
        other => DumpError::Row { file: file.to_owned(), line, reason: format!("{other:?}") },
    }
}

/// A number as PostgreSQL writes it.
pub(super) fn number(field: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(field).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("`{}` is not a number", quoted(field)))
}

/// The part of a field that a message may quote.
pub(super) fn quoted(field: &[u8]) -> String {
    String::from_utf8_lossy(field).escape_debug().take(80).collect()
}

/// Fails once a single row has taken too much, which would otherwise fill the memory.
struct Bounded<R> {
    table: R,
    since_row: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.table.read(buffer)?;
        self.since_row.set(self.since_row.get() + read as u64);
        if self.since_row.get() > MAX_ROW {
            return Err(io::Error::other("a row is longer than 16 MiB"));
        }
        Ok(read)
    }
}
