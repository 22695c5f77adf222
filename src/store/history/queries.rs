//! The implementation of [`super::History`] for a connection type, which diesel needs by name.

/// Implements [`super::History`] for `$history`, which has the fields `connection`, `site` and `unreadable`,
/// and the methods `begin_query` and `check_identity`.
macro_rules! history_queries {
    ($history:ty, $database:ident, $by_row:ty, $latest:path, $dialect:expr) => {
        impl History for $history {
            fn check_file(&self) -> Result<(), StoreError> {
                self.check_identity()
            }

            fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
                let query_run = self.begin_query();
                machines::$database::load(&mut self.connection, &self.site, &self.unreadable)
                    .map_err(query_run.failed("the machines"))
            }

            fn machine_with_readings(&mut self, after: &str) -> Result<Option<String>, StoreError> {
                let query_run = self.begin_query();
                let row = sql_query(sql::MACHINE_WITH_READINGS)
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(after)
                    .get_result::<MachineIdColumn>(&mut self.connection)
                    .optional()
                    .map_err(query_run.failed("the machines that have readings"))?;
                Ok(row.map(|row| row.machine_id))
            }

            fn latest(&mut self, each: EachRow<'_, (MachineId, LatestReading)>) -> Result<(), StoreError> {
                let query_run = self.begin_query();
                let rows = sql_query($latest())
                    .bind::<Text, _>(&self.site)
                    .load_iter::<LatestColumns, $by_row>(&mut self.connection);
                pass_on(rows, LatestColumns::into_latest, &self.unreadable, each)
                    .map(drop)
                    .map_err(query_run.failed("the newest readings"))
            }

            fn latest_of(&mut self, machine_id: &MachineId) -> Result<Option<LatestReading>, StoreError> {
                let query_run = self.begin_query();
                let rows = sql_query(sql::latest_of())
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(machine_id.as_str())
                    .load::<LatestColumns>(&mut self.connection)
                    .map_err(query_run.failed("the newest reading of a machine"))?;
                let latest = self.unreadable.skip(rows.into_iter().map(LatestColumns::into_latest));
                Ok(latest.into_iter().next().map(|(_, reading)| reading))
            }

            fn readings(
                &mut self,
                query: &ReadingsQuery,
                each: EachRow<'_, StoredReading>,
            ) -> Result<(), StoreError> {
                let mut query = query.clone();
                loop {
                    let query_run = self.begin_query();
                    let rows = sql_query(sql::readings(query.order))
                        .bind::<Text, _>(&self.site)
                        .bind::<Text, _>(query.machine_id.as_str())
                        .bind::<Instant, _>(SqlInstant(query.from.at))
                        .bind::<BigInt, _>(query.from.digest)
                        .bind::<Instant, _>(SqlInstant(query.to.at))
                        .bind::<BigInt, _>(query.to.digest)
                        .bind::<BigInt, _>(i64::from(query.limit))
                        .load_iter::<ReadingColumns, $by_row>(&mut self.connection);
                    let (mut last, mut readable) = (None, 0);
                    let read = |row: ReadingColumns| row.into_reading(query.machine_id.as_str());
                    let passed = pass_on(rows, read, &self.unreadable, &mut |row| {
                        last = Some(row.key);
                        readable += 1;
                        each(row)
                    });
                    let passed = passed.map_err(query_run.failed("readings"))?;
                    let is_last = passed.rows < query.limit;
                    query.limit -= readable;
                    // A short page would look like the last one: more rows make up for the skipped ones.
                    match last {
                        Some(last) if !passed.is_enough && !is_last && query.limit > 0 => query.advance(last),
                        _ => return Ok(()),
                    }
                }
            }

            fn buckets(&mut self, query: &BucketsQuery, each: EachRow<'_, Bucket>) -> Result<(), StoreError> {
                let query_run = self.begin_query();
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
                    .bind::<Instant, _>(SqlInstant(query.from));
                let statement = match whole {
                    Some((first, end)) => {
                        statement.bind::<Instant, _>(SqlInstant(first)).bind::<Instant, _>(SqlInstant(end))
                    }
                    None => statement,
                };
                let statement = statement.bind::<Instant, _>(SqlInstant(query.to));
                let statement = match &query.extra {
                    Some(field) => statement.bind::<Text, _>(without_nul(field).into_owned()),
                    None => statement,
                };
                let rows = statement.load_iter::<BucketColumns, $by_row>(&mut self.connection);
                let read = |row: BucketColumns| row.into_bucket(query.machine_id.as_str());
                pass_on(rows, read, &self.unreadable, each)
                    .map(drop)
                    .map_err(query_run.failed("statistics of readings"))
            }

            fn bucket_page_end(
                &mut self,
                query: &BucketsQuery,
                readings_max: u32,
            ) -> Result<Timestamp, StoreError> {
                if bucket_page::is_one_page(query) {
                    return Ok(query.to);
                }
                let query_run = self.begin_query();
                let one_too_many = sql_query(sql::ONE_TOO_MANY)
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(query.machine_id.as_str())
                    .bind::<Instant, _>(SqlInstant(query.from))
                    .bind::<Instant, _>(SqlInstant(query.to))
                    .bind::<BigInt, _>(i64::from(readings_max))
                    .get_result::<InstantColumn>(&mut self.connection)
                    .optional()
                    .map_err(query_run.failed("the number of readings"))?;
                let one_too_many = one_too_many.and_then(|row| row.recorded_at.get("recorded_at").ok());
                Ok(one_too_many.map_or(query.to, |at| bucket_page::end_before(query, at.0)))
            }

            fn trends(&mut self, query: &TrendsQuery) -> Result<Vec<TrendPoint>, StoreError> {
                let query_run = self.begin_query();
                let ids: Vec<_> = query.machine_ids.iter().map(MachineId::as_str).collect();
                let ids = serde_json::to_string(&ids).expect("texts are always JSON");
                let rows = sql_query(sql::trends(&$dialect, query.step_seconds))
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(ids)
                    .bind::<Instant, _>(SqlInstant(query.from))
                    .bind::<Instant, _>(SqlInstant(query.to))
                    .load::<TrendColumns>(&mut self.connection)
                    .map_err(query_run.failed("trends"))?;
                Ok(self.unreadable.skip(rows.into_iter().map(TrendColumns::into_point)))
            }

            fn events(&mut self, query: &EventsQuery) -> Result<Vec<StoredEvent>, StoreError> {
                let (mut query, mut found) = (query.clone(), Vec::new());
                loop {
                    let query_run = self.begin_query();
                    let of_machine = query.machine_id.is_some();
                    let statement = match query.which {
                        Events::Recorded(before) => sql_query(sql::events_recorded(of_machine, query.limit))
                            .into_boxed()
                            .bind::<Text, _>(&self.site)
                            .bind::<BigInt, _>(before),
                        Events::Within { from, before } => {
                            sql_query(sql::events_within(of_machine, query.limit))
                                .into_boxed()
                                .bind::<Text, _>(&self.site)
                                .bind::<Instant, _>(SqlInstant(from))
                                .bind::<Instant, _>(SqlInstant(before.at))
                                .bind::<BigInt, _>(before.id)
                        }
                    };
                    let statement = match &query.machine_id {
                        Some(machine_id) => statement.bind::<Text, _>(machine_id.as_str().to_owned()),
                        None => statement,
                    };
                    let rows = statement
                        .load::<EventColumns>(&mut self.connection)
                        .map_err(query_run.failed("events"))?;
                    let is_last = rows.len() < query.limit as usize;
                    let last_id = rows.last().and_then(EventColumns::id);
                    let events = self.unreadable.skip(rows.into_iter().map(EventColumns::into_event));
                    let last = events.last().map(|event| event.key);
                    query.limit -= events.len() as u32;
                    let can_continue = query.which.advance_past(last, last_id);
                    found.extend(events);
                    if !can_continue || is_last || query.limit == 0 {
                        return Ok(found);
                    }
                }
            }

            fn outages(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<LinkOutage>, StoreError> {
                let query_run = self.begin_query();
                outages::$database::load(&mut self.connection, &self.site, from, to, &self.unreadable)
                    .map_err(query_run.failed("Andon's outages"))
            }
        }
    };
}

pub(super) use history_queries;
