//! The values of word parameters, for the OpenAPI description only. The handlers map the words to their meaning; `texts`
//! describes parameters that are other text.

#![expect(dead_code, reason = "the OpenAPI description uses their names only")]

use utoipa::ToSchema;

/// Values of `order`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OrderWord {
    Desc,
    Asc,
}

/// Values of `format`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum FormatWord {
    Json,
    Csv,
}

/// Values of `window`.
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
