//! The queries on one connection type; diesel needs it by name.

/// Implements [`super::History`] for `$history`, which has the fields `connection` and `site`, and `begin`.
macro_rules! history_queries {
    ($history:ty, $reads:ident, $latest:path, $dialect:expr) => {
        impl History for $history {
            fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
                let begun = self.begin();
                reads::$reads::load_machines(&mut self.connection, &self.site)
                    .map_err(begun.unread("the machines"))
            }

            fn latest(&mut self) -> Result<Vec<(MachineId, LatestReading)>, StoreError> {
                let begun = self.begin();
                let rows = sql_query($latest())
                    .bind::<Text, _>(&self.site)
                    .load::<LatestColumns>(&mut self.connection)
                    .map_err(Cause::from);
                rows.and_then(|rows| rows.into_iter().map(LatestColumns::into_latest).collect())
                    .map_err(begun.unread("the newest readings"))
            }

            fn latest_of(&mut self, machine_id: &MachineId) -> Result<Option<LatestReading>, StoreError> {
                let begun = self.begin();
                let row = sql_query(sql::latest_of())
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(machine_id.as_str())
                    .get_result::<LatestColumns>(&mut self.connection)
                    .optional()
                    .map_err(Cause::from);
                let latest = row.and_then(|row| row.map(LatestColumns::into_latest).transpose());
                latest
                    .map(|latest| latest.map(|(_, reading)| reading))
                    .map_err(begun.unread("the newest reading of a machine"))
            }

            fn readings(&mut self, query: &ReadingsQuery) -> Result<Vec<StoredReading>, StoreError> {
                let begun = self.begin();
                let rows = sql_query(sql::readings(query.order))
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(query.machine_id.as_str())
                    .bind::<Instant, _>(Moment(query.from.at))
                    .bind::<BigInt, _>(query.from.digest)
                    .bind::<Instant, _>(Moment(query.to.at))
                    .bind::<BigInt, _>(query.to.digest)
                    .bind::<BigInt, _>(i64::from(query.limit))
                    .load::<ReadingColumns>(&mut self.connection)
                    .map_err(Cause::from);
                rows.map(|rows| rows.into_iter().map(StoredReading::from).collect())
                    .map_err(begun.unread("readings"))
            }

            fn buckets(&mut self, query: &BucketsQuery) -> Result<Vec<Bucket>, StoreError> {
                let begun = self.begin();
                let with_extra = query.extra.is_some();
                let whole = rolled::whole_buckets(query);
                let text = match whole {
                    Some(_) => rolled::buckets(&$dialect, query.bucket_seconds, with_extra),
                    None => sql::buckets(&$dialect, query.bucket_seconds, with_extra),
                };
                let statement = sql_query(text)
                    .into_boxed()
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(query.machine_id.as_str())
                    .bind::<Instant, _>(Moment(query.from));
                let statement = match whole {
                    Some((first, end)) => {
                        statement.bind::<Instant, _>(Moment(first)).bind::<Instant, _>(Moment(end))
                    }
                    None => statement,
                };
                let statement = statement.bind::<Instant, _>(Moment(query.to));
                let statement = match &query.extra {
                    Some(field) => statement.bind::<Text, _>(without_nul(field).into_owned()),
                    None => statement,
                };
                let rows = statement.load::<BucketColumns>(&mut self.connection).map_err(Cause::from);
                rows.map(|rows| rows.into_iter().map(Bucket::from).collect())
                    .map_err(begun.unread("figures of readings"))
            }

            fn bucket_page_end(
                &mut self,
                query: &BucketsQuery,
                readings_max: u32,
            ) -> Result<Timestamp, StoreError> {
                if bucket_page::is_undivided(query) {
                    return Ok(query.to);
                }
                let begun = self.begin();
                let one_too_many = sql_query(sql::ONE_TOO_MANY)
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(query.machine_id.as_str())
                    .bind::<Instant, _>(Moment(query.from))
                    .bind::<Instant, _>(Moment(query.to))
                    .bind::<BigInt, _>(i64::from(readings_max))
                    .get_result::<InstantColumn>(&mut self.connection)
                    .optional()
                    .map_err(Cause::from)
                    .map_err(begun.unread("how many readings there are"))?;
                let end = |row: InstantColumn| bucket_page::end_before(query, row.recorded_at.0);
                Ok(one_too_many.map_or(query.to, end))
            }

            fn trends(&mut self, query: &TrendsQuery) -> Result<Vec<TrendPoint>, StoreError> {
                let begun = self.begin();
                let ids: Vec<_> = query.machine_ids.iter().map(MachineId::as_str).collect();
                let ids = serde_json::to_string(&ids).expect("texts are always JSON");
                let rows = sql_query(sql::trends(&$dialect, query.step_seconds))
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(ids)
                    .bind::<Instant, _>(Moment(query.from))
                    .bind::<Instant, _>(Moment(query.to))
                    .load::<TrendColumns>(&mut self.connection)
                    .map_err(Cause::from);
                rows.and_then(|rows| rows.into_iter().map(TrendColumns::into_point).collect())
                    .map_err(begun.unread("the newest minutes"))
            }

            fn events(&mut self, query: &EventsQuery) -> Result<Vec<StoredEvent>, StoreError> {
                let begun = self.begin();
                let statement = sql_query(sql::events(query.machine_id.is_some(), query.limit))
                    .into_boxed()
                    .bind::<Text, _>(&self.site)
                    .bind::<Instant, _>(Moment(query.from))
                    .bind::<Instant, _>(Moment(query.before.at))
                    .bind::<BigInt, _>(query.before.id);
                let statement = match &query.machine_id {
                    Some(machine_id) => statement.bind::<Text, _>(machine_id.as_str().to_owned()),
                    None => statement,
                };
                let rows = statement.load::<EventColumns>(&mut self.connection).map_err(Cause::from);
                rows.and_then(|rows| rows.into_iter().map(EventColumns::into_event).collect())
                    .map_err(begun.unread("events"))
            }

            fn outages(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<LinkOutage>, StoreError> {
                let begun = self.begin();
                outages::$reads::load(&mut self.connection, &self.site, from, to)
                    .map_err(begun.unread("our own outages"))
            }
        }
    };
}

pub(super) use history_queries;
