//! `andon rejected list`: rejected messages, newest first, with counts by reason.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::filter::Filter;
use super::{Failure, Output};
use crate::cli::arguments::whole_number;
use crate::cli::{counted, table};
use crate::store::{RejectedCount, RejectedPage, RejectedRow, Store};
use crate::terminal;

/// Rows in one query.
const PAGE_ROWS: u32 = 500;
/// Bytes of a payload that a preview needs.
const PREVIEW_BYTES: u32 = 256;
/// Characters of a preview.
const PREVIEW_CHARS: usize = 60;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    filter: Filter,
    /// Show at most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = whole_number::<usize>)]
    limit: usize,
    /// Show the rows before this id: the next page
    #[arg(long, value_name = "ID", value_parser = whole_number::<i64>)]
    before: Option<i64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, store: &mut dyn Store) -> Result<Output, Failure> {
    let counts = by_reason(store.rejected_counts(&options.filter.store_filter())?, &options.filter);
    let (rows, next) = page(options, store)?;
    Ok(Output::clean(if options.json {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        let object = json!({ "counts": counts, "rejected": rows, "next": next });
        format!("{}\n", terminal::json(&format!("{object:#}")))
    } else {
        text(&counts, &rows, next)
    }))
}

fn by_reason(counts: Vec<RejectedCount>, filter: &Filter) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for count in counts.into_iter().filter(|count| filter.matches_topic(&count.topic)) {
        *sums.entry(count.reason).or_default() += count.elements;
    }
    sums
}

/// Returns the rows, and if there are more, the id before which the next page begins.
fn page(options: &Options, store: &mut dyn Store) -> Result<(Vec<RejectedRow>, Option<i64>), Failure> {
    let filter = options.filter.store_filter();
    let mut rows: Vec<RejectedRow> = Vec::new();
    let mut before = options.before.unwrap_or(i64::MAX);
    loop {
        let found = store.rejected(&filter, RejectedPage::Before(before), PAGE_ROWS, PREVIEW_BYTES)?;
        let Some(last) = found.last().map(|row| row.id) else { return Ok((rows, None)) };
        before = last;
        for row in found.into_iter().filter(|row| options.filter.matches_topic(&row.topic)) {
            if rows.len() == options.limit {
                let next = rows.last().map(|row| row.id);
                return Ok((rows, next));
            }
            rows.push(row);
        }
    }
}

fn text(counts: &BTreeMap<String, u64>, rows: &[RejectedRow], next: Option<i64>) -> String {
    if counts.is_empty() {
        return "no rejected messages\n".to_owned();
    }
    let mut sums: Vec<Vec<String>> =
        counts.iter().map(|(reason, count)| vec![reason.clone(), count.to_string()]).collect();
    sums.push(vec!["all".to_owned(), counts.values().sum::<u64>().to_string()]);
    let cells: Vec<Vec<String>> = rows.iter().map(row_cells).collect();
    let headings = [">id", "received", "reason", "topic", ">bytes", "detail", "payload"];
    let mut text = format!("{}\n{}", table(&["reason", ">elements"], &sums), table(&headings, &cells));
    if let Some(next) = next {
        text.push_str(&format!(
            "\n{} shown; continue with --before {next}\n",
            counted(rows.len() as u64, "row")
        ));
    }
    text
}

fn row_cells(row: &RejectedRow) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.received_at.to_string(),
        terminal::one_line(row.reason.as_bytes(), PREVIEW_CHARS),
        terminal::one_line(row.topic.as_bytes(), PREVIEW_CHARS),
        row.payload_bytes.to_string(),
        terminal::one_line(row.detail.as_bytes(), PREVIEW_CHARS),
        preview(row),
    ]
}

fn preview(row: &RejectedRow) -> String {
    let mut shown = terminal::one_line(&row.payload, PREVIEW_CHARS);
    if (row.payload.len() as u64) < row.payload_bytes && !shown.ends_with('…') {
        shown.push('…');
    }
    shown
}

fn row_json(row: &RejectedRow) -> Value {
    let mut object = super::show::as_json(row);
    object["payload_preview"] = preview(row).into();
    object
}
