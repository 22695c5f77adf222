//! The words that parameters take, for the description alone: the handlers know them by what they mean.

#![expect(dead_code, reason = "only their names are used, by the description")]

use utoipa::ToSchema;

/// The words of `order`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OrderWord {
    Desc,
    Asc,
}

/// The words of `format`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum FormatWord {
    Json,
    Csv,
}

/// The words of `window`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum WindowWord {
    #[schema(rename = "1m")]
    LastMinute,
    #[schema(rename = "1h")]
    LastHour,
    #[schema(rename = "24h")]
    LastDay,
    Today,
    Yesterday,
}
