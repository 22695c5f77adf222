//! The schemas of parameters that are text, for the OpenAPI description only: exactly what [`crate::http::query`] accepts.
//! A test holds the two together.

use utoipa::openapi::schema::{
    AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::machines::CURSOR_CHARS_MAX;
use super::readings::FIELD_CHARS_MAX;
use crate::domain::{MACHINE_ID_CHARS_MAX, MachineId};

/// Whole numbers from 1 to 86400, as a regular expression.
const SECONDS_OF_A_DAY: &str = "([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)";
/// Whole numbers from 1 to 1440.
const MINUTES_OF_A_DAY: &str = "([1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)";
/// Whole numbers from 1 to 24.
const HOURS_OF_A_DAY: &str = "([1-9]|1[0-9]|2[0-4])";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

macro_rules! text_schema {
    ($(#[$doc:meta])* $name:ident => $schema:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::from($schema))
            }
        }

        impl ToSchema for $name {}
    };
}

text_schema! {
    /// The id of a machine.
    MachineIdText => text()
        .min_length(Some(1))
        .max_length(Some(MACHINE_ID_CHARS_MAX))
        .pattern(Some(MachineId::pattern()))
        .examples(["press-01"])
        .build()
}

text_schema! {
    /// An instant, or a date.
    InstantText => {
        let of = |format| -> Object { text().format(Some(SchemaFormat::KnownFormat(format))).build() };
        AnyOfBuilder::new().item(of(KnownFormat::DateTime)).item(of(KnownFormat::Date)).build()
    }
}

text_schema! {
    /// A position in readings or events.
    CursorText => text().pattern(Some("^[0-9A-Fa-f]{32}$")).build()
}

text_schema! {
    /// A position in the list of machines.
    MachineCursorText => {
        text().pattern(Some(format!("^([0-9A-Fa-f]{{2}}){{1,{}}}$", CURSOR_CHARS_MAX / 2))).build()
    }
}

text_schema! {
    /// The length of a bucket.
    BucketText => text()
        .pattern(Some(format!("^({SECONDS_OF_A_DAY}s|{MINUTES_OF_A_DAY}m|{HOURS_OF_A_DAY}h|1d)$")))
        .build()
}

text_schema! {
    /// The name of a field of `extra`.
    FieldText => text()
        .min_length(Some(1))
        .max_length(Some(FIELD_CHARS_MAX))
        .pattern(Some("^[^\\u0000]*$"))
        .build()
}
