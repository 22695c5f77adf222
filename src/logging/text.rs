//! Log lines for people: `ts LEVEL message, key: value, key: value`.
//!
//! Messages are constant and keys are ours, but values come from anywhere: a machine's id, a broker's reason. A value that is
//! not one plain word is quoted and escaped, so that it cannot pass for another field or another line.

use std::fmt;
use std::io::{self, Write};

use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record, Serializer};
use slog_term::{Decorator, RecordDecorator};

use super::now;
use crate::terminal;

/// Writes log lines as text, with the decorator's colours.
pub(super) fn text_drain<D>(decorator: D) -> impl Drain<Ok = (), Err = Never> + Send + 'static
where
    D: Decorator + Send + 'static,
{
    TextDrain { decorator }.ignore_res()
}

struct TextDrain<D> {
    decorator: D,
}

impl<D: Decorator> Drain for TextDrain<D> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let fields = Fields::of(record, values)?;
        self.decorator.with_record(record, values, |line| {
            line.start_timestamp()?;
            write!(line, "{}", now())?;
            line.start_whitespace()?;
            write!(line, " ")?;
            line.start_level()?;
            write!(line, "{}", level_word(record.level()))?;
            line.start_whitespace()?;
            write!(line, " ")?;
            line.start_msg()?;
            write!(line, "{}", terminal::printable(&record.msg().to_string()))?;
            fields.0.iter().rev().try_for_each(|(key, value)| write_field(line, key, value))?;
            line.start_whitespace()?;
            writeln!(line)?;
            line.flush()
        })
    }
}

fn write_field(mut line: &mut dyn RecordDecorator, key: &Key, value: &str) -> io::Result<()> {
    line.start_comma()?;
    write!(line, ", ")?;
    line.start_key()?;
    write!(line, "{key}")?;
    line.start_separator()?;
    write!(line, ": ")?;
    line.start_value()?;
    write!(&mut line, "{}", terminal::field(value))
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Critical | Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

/// The values of the record and the logger, in slog's order: the last one first.
struct Fields(Vec<(Key, String)>);

impl Fields {
    fn of(record: &Record<'_>, values: &OwnedKVList) -> io::Result<Self> {
        let mut fields = Self(Vec::new());
        record.kv().serialize(record, &mut fields)?;
        values.serialize(record, &mut fields)?;
        Ok(fields)
    }
}

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key, value.to_string()));
        Ok(())
    }
}
