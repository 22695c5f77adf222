//! A set of telemetry filters, by their place in the configuration.

use super::TopicFilter;

/// A set of filter places. From the 64th on, all filters share one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterSet(u64);

/// A filter's place in the configuration. One byte, because each machine stores one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPlace(u8);

const LAST_PLACE: usize = 63;

impl FilterPlace {
    /// The filter is not known.
    pub const UNKNOWN: Self = Self(u8::MAX);
}

impl FilterSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the places of the `filters` for which `is_in` holds.
    #[must_use]
    pub fn of(filters: &[TopicFilter], is_in: impl Fn(&TopicFilter) -> bool) -> Self {
        let places = filters.iter().enumerate().filter(|(_, filter)| is_in(filter));
        Self(places.fold(0, |set, (place, _)| set | 1 << place.min(LAST_PLACE)))
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set contains `place`. An unknown place may be any, so every set but the empty one contains it.
    #[must_use]
    pub fn contains(self, place: FilterPlace) -> bool {
        if place == FilterPlace::UNKNOWN { !self.is_empty() } else { self.0 >> place.0 & 1 == 1 }
    }

    /// Returns the places that are not in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns the places in either set.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns the first place; unknown if the set is empty.
    #[must_use]
    pub fn first(self) -> FilterPlace {
        let place = u8::try_from(self.0.trailing_zeros()).unwrap_or(u8::MAX);
        if self.is_empty() { FilterPlace::UNKNOWN } else { FilterPlace(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_its_places_and_an_unknown_one_may_be_any() {
        let filters: Vec<TopicFilter> =
            (0..70).map(|number| TopicFilter::parse(&format!("f/{number}")).expect("valid")).collect();
        let of = |topic: &str| FilterSet::of(&filters, |filter| filter.matches(topic));
        let (second, last, none) = (of("f/1"), of("f/69"), of("g"));
        assert_eq!(last, of("f/63"), "they share the last place");
        assert!(second.contains(second.first()) && !last.contains(second.first()));
        assert!(none.is_empty() && none.first() == FilterPlace::UNKNOWN);
        assert!(second.contains(FilterPlace::UNKNOWN) && !none.contains(FilterPlace::UNKNOWN));
        assert_eq!(second.with(last).without(second), last);
        assert_eq!(last.with(second).first(), second.first());
    }
}
