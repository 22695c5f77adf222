//! The space that deleted rows leave behind in the file.
//!
//! New rows take it first. What is free beyond [`FREE_PART`] of the file is given back to the file system, in steps: each
//! moves pages from the end of the file. Without `auto_vacuum`, which only a new file can get, SQLite keeps it.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use diesel::sqlite::SqliteConnection;

use crate::store::from_bigint;
use crate::store::space::{FileSpace, SpaceReleased};

/// An eighth of the file may be free: retention deletes about as much as comes in.
const FREE_PART: u64 = 8;
/// So many pages may be free in any case.
const FREE_PAGES_MIN: u64 = 1_024;
/// `PRAGMA auto_vacuum`: free pages are given back on demand.
const INCREMENTAL: i64 = 2;

#[derive(QueryableByName)]
struct Pages {
    #[diesel(sql_type = BigInt)]
    page_size: i64,
    #[diesel(sql_type = BigInt)]
    all: i64,
    #[diesel(sql_type = BigInt)]
    free: i64,
    #[diesel(sql_type = BigInt)]
    auto_vacuum: i64,
}

impl Pages {
    /// Pages to give back.
    fn surplus(&self) -> u64 {
        let kept = (from_bigint(self.all) / FREE_PART).max(FREE_PAGES_MIN);
        from_bigint(self.free).saturating_sub(kept)
    }
}

fn pages(connection: &mut SqliteConnection) -> QueryResult<Pages> {
    sql_query(
        "SELECT page_size, page_count AS \"all\", freelist_count AS free, auto_vacuum \
         FROM pragma_page_size, pragma_page_count, pragma_freelist_count, pragma_auto_vacuum",
    )
    .get_result(connection)
}

/// Returns how large the file is.
pub fn file_space(connection: &mut SqliteConnection) -> QueryResult<Option<FileSpace>> {
    let pages = pages(connection)?;
    let bytes = |count: i64| from_bigint(count) * from_bigint(pages.page_size);
    Ok(Some(FileSpace {
        bytes: bytes(pages.all),
        free_bytes: bytes(pages.free),
        is_released: pages.auto_vacuum == INCREMENTAL,
    }))
}

/// Gives at most `pages_max` pages back, if too many are free.
pub fn release(connection: &mut SqliteConnection, pages_max: u32) -> QueryResult<SpaceReleased> {
    let before = pages(connection)?;
    let wanted = before.surplus().min(u64::from(pages_max));
    if wanted == 0 || before.auto_vacuum != INCREMENTAL {
        return Ok(SpaceReleased::default());
    }
    connection.batch_execute(&format!("PRAGMA incremental_vacuum({wanted})"))?;
    let after = pages(connection)?;
    let freed = from_bigint(before.all).saturating_sub(from_bigint(after.all));
    let bytes = freed * from_bigint(before.page_size);
    Ok(SpaceReleased { bytes, is_more: freed > 0 && after.surplus() > 0 })
}
