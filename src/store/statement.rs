//! Statements with a fixed text, each prepared once a connection.
//!
//! diesel caches a prepared statement by the type of its query, but never one of `sql_query`, nor an
//! `UPDATE`. [`cached_statement`] makes a type that is a query: fixed SQL with bind parameters between.

/// Makes a query type: pieces of SQL, each but the last followed by the fields bound after it, separated by
/// commas. A query that returns rows names their types after `returning`.
macro_rules! cached_statement {
    (
        $(#[$doc:meta])*
        $name:ident on $backend:ty, $connection:ty $(, returning $columns:ty)?:
        $($sql:literal $([$($field:ident: $sql_type:ty = $type:ty),+ $(,)?])?)+
    ) => {
        $(#[$doc])*
        pub struct $name<'a> {
            $($($(pub $field: $type,)+)?)+
        }

        impl diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::QueryFragment<$backend> for $name<'_> {
            #[allow(unused_assignments)]
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, $backend>,
            ) -> diesel::QueryResult<()> {
                $(
                    out.push_sql($sql);
                    $(
                        let mut separator = "";
                        $(
                            out.push_sql(separator);
                            out.push_bind_param::<$sql_type, _>(&self.$field)?;
                            separator = ", ";
                        )+
                    )?
                )+
                Ok(())
            }
        }

        impl diesel::RunQueryDsl<$connection> for $name<'_> {}

        $(
            impl diesel::query_builder::Query for $name<'_> {
                type SqlType = $columns;
            }
        )?
    };
}

pub(super) use cached_statement;
