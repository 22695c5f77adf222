//! The queries on one connection type; diesel needs it by name.

/// Implements [`super::History`] for `$history`, which has the fields `connection` and `site`, and `begin`.
macro_rules! history_queries {
    ($history:ty, $reads:ident, $by_row:ty, $latest:path, $dialect:expr) => {
        impl History for $history {
            fn check_place(&self) -> Result<(), StoreError> {
                self.is_in_place()
            }

            fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
                let begun = self.begin();
                reads::$reads::load_machines(&mut self.connection, &self.site, &self.unreadable)
                    .map_err(begun.unread("the machines"))
            }

            fn latest(&mut self, each: EachRow<'_, (MachineId, LatestReading)>) -> Result<(), StoreError> {
                let begun = self.begin();
                let rows = sql_query($latest())
                    .bind::<Text, _>(&self.site)
                    .load_iter::<LatestColumns, $by_row>(&mut self.connection);
                hand_on(rows, LatestColumns::into_latest, &self.unreadable, each)
                    .map(drop)
                    .map_err(begun.unread("the newest readings"))
            }

            fn latest_of(&mut self, machine_id: &MachineId) -> Result<Option<LatestReading>, StoreError> {
                let begun = self.begin();
                let rows = sql_query(sql::latest_of())
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(machine_id.as_str())
                    .load::<LatestColumns>(&mut self.connection)
                    .map_err(begun.unread("the newest reading of a machine"))?;
                let latest = self.unreadable.pass_over(rows.into_iter().map(LatestColumns::into_latest));
                Ok(latest.into_iter().next().map(|(_, reading)| reading))
            }

            fn readings(
                &mut self,
                query: &ReadingsQuery,
                each: EachRow<'_, StoredReading>,
            ) -> Result<(), StoreError> {
                let mut query = query.clone();
                loop {
                    let begun = self.begin();
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
                    let handed = hand_on(rows, read, &self.unreadable, &mut |row| {
                        last = Some(row.key);
                        readable += 1;
                        each(row)
                    });
                    let handed = handed.map_err(begun.unread("readings"))?;
                    let is_last = handed.rows < query.limit;
                    query.limit -= readable;
                    // A short page would look like the last one: what was passed over is made up for.
                    match last {
                        Some(last) if !handed.is_enough && !is_last && query.limit > 0 => query.advance(last),
                        _ => return Ok(()),
                    }
                }
            }

            fn buckets(&mut self, query: &BucketsQuery, each: EachRow<'_, Bucket>) -> Result<(), StoreError> {
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
                hand_on(rows, read, &self.unreadable, each)
                    .map(drop)
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
                    .bind::<Instant, _>(SqlInstant(query.from))
                    .bind::<Instant, _>(SqlInstant(query.to))
                    .bind::<BigInt, _>(i64::from(readings_max))
                    .get_result::<InstantColumn>(&mut self.connection)
                    .optional()
                    .map_err(begun.unread("how many readings there are"))?;
                let one_too_many = one_too_many.and_then(|row| row.recorded_at.get("recorded_at").ok());
                Ok(one_too_many.map_or(query.to, |at| bucket_page::end_before(query, at.0)))
            }

            fn trends(&mut self, query: &TrendsQuery) -> Result<Vec<TrendPoint>, StoreError> {
                let begun = self.begin();
                let ids: Vec<_> = query.machine_ids.iter().map(MachineId::as_str).collect();
                let ids = serde_json::to_string(&ids).expect("texts are always JSON");
                let rows = sql_query(sql::trends(&$dialect, query.step_seconds))
                    .bind::<Text, _>(&self.site)
                    .bind::<Text, _>(ids)
                    .bind::<Instant, _>(SqlInstant(query.from))
                    .bind::<Instant, _>(SqlInstant(query.to))
                    .load::<TrendColumns>(&mut self.connection)
                    .map_err(begun.unread("the newest minutes"))?;
                Ok(self.unreadable.pass_over(rows.into_iter().map(TrendColumns::into_point)))
            }

            fn events(&mut self, query: &EventsQuery) -> Result<Vec<StoredEvent>, StoreError> {
                let (mut query, mut found) = (query.clone(), Vec::new());
                loop {
                    let begun = self.begin();
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
                        .map_err(begun.unread("events"))?;
                    let is_last = rows.len() < query.limit as usize;
                    let last_id = rows.last().and_then(EventColumns::id);
                    let events = self.unreadable.pass_over(rows.into_iter().map(EventColumns::into_event));
                    let last = events.last().map(|event| event.key);
                    query.limit -= events.len() as u32;
                    if !query.which.go_on_after(last, last_id) {
                        found.extend(events);
                        return Ok(found);
                    }
                    found.extend(events);
                    if is_last || query.limit == 0 {
                        return Ok(found);
                    }
                }
            }

            fn outages(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<LinkOutage>, StoreError> {
                let begun = self.begin();
                outages::$reads::load(&mut self.connection, &self.site, from, to, &self.unreadable)
                    .map_err(begun.unread("our own outages"))
            }
        }
    };
}

pub(super) use history_queries;
