//! Prometheus's text format 0.0.4: a comment and a type for each metric, a line for each value.

use std::fmt::Display;

use crate::http::body::BodyWriter;
use crate::metrics::Distribution;

/// Writes metrics, one after the other.
pub(super) struct Page<'a> {
    body: &'a mut BodyWriter,
}

impl<'a> Page<'a> {
    pub(super) fn new(body: &'a mut BodyWriter) -> Self {
        Self { body }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, "", [("", value)]);
    }

    /// One counter for each value of a label.
    pub(super) fn counters<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, u64)>,
    ) {
        self.family(name, help, "counter");
        values.into_iter().for_each(|(value, count)| self.line(name, &[(label, value)], count));
    }

    pub(super) fn whole(&mut self, name: &str, help: &str, value: u64) {
        self.wholes(name, help, "", [("", value)]);
    }

    /// One whole number for each value of a label.
    pub(super) fn wholes<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, u64)>,
    ) {
        self.family(name, help, "gauge");
        values.into_iter().for_each(|(value, number)| self.line(name, &[(label, value)], number));
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, "", [("", value)]);
    }

    /// One number for each value of a label.
    pub(super) fn gauges<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, f64)>,
    ) {
        self.family(name, help, "gauge");
        values.into_iter().for_each(|(value, number)| self.line(name, &[(label, value)], in_digits(number)));
    }

    /// A metric that always has the value 1 and says something in its labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, help, "gauge");
        self.line(name, labels, 1);
    }

    /// A number that only grows and has a fraction.
    pub(super) fn total(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, "counter");
        self.line(name, &[], in_digits(value));
    }

    pub(super) fn distribution(&mut self, distribution: &Distribution) {
        let name = distribution.name();
        self.family(name, distribution.help(), "histogram");
        let observed = distribution.observed();
        let bucket = format!("{name}_bucket");
        for (bound, count) in observed.at_most {
            self.line(&bucket, &[("le", &in_digits(bound))], count);
        }
        self.line(&format!("{name}_sum"), &[], in_digits(observed.sum));
        self.line(&format!("{name}_count"), &[], observed.count);
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        self.body.text(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A label without a name is none.
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.body.text(name);
        let named = labels.iter().filter(|(label, _)| !label.is_empty());
        let pairs: Vec<String> =
            named.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        if !pairs.is_empty() {
            self.body.text(&format!("{{{}}}", pairs.join(",")));
        }
        self.body.text(&format!(" {value}\n"));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Rust writes `inf`, which is no number to every reader of the format.
fn in_digits(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Budget, IN_FLIGHT_BYTES_MAX};

    #[test]
    fn every_kind_of_value_is_written_as_the_format_wants_it() {
        static BOUNDS: [f64; 2] = [0.5, 1.0];
        let distribution = Distribution::new("d", "Of some.", &BOUNDS);
        [0.5, 0.75, 7.0].iter().for_each(|value| distribution.observe(*value));
        let mut body = BodyWriter::new(&Budget::new(IN_FLIGHT_BYTES_MAX));
        let mut page = Page::new(&mut body);
        page.counters("c", "Counted.", "why", [("a", 1), ("\"\\\n", 2)]);
        page.gauge("never", "Not at this rate.", f64::INFINITY);
        page.gauges("g", "Each.", "of", [("x", 0.25), ("y", f64::NEG_INFINITY), ("z", f64::NAN)]);
        page.info("i", "One.", &[("a", "1"), ("b", "2")]);
        page.distribution(&distribution);
        let written = body.finish().unwrap().next_piece().unwrap();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            "# HELP c Counted.\n# TYPE c counter\nc{why=\"a\"} 1\nc{why=\"\\\"\\\\\\n\"} 2\n\
             # HELP never Not at this rate.\n# TYPE never gauge\nnever +Inf\n\
             # HELP g Each.\n# TYPE g gauge\ng{of=\"x\"} 0.25\ng{of=\"y\"} -Inf\ng{of=\"z\"} NaN\n\
             # HELP i One.\n# TYPE i gauge\ni{a=\"1\",b=\"2\"} 1\n\
             # HELP d Of some.\n# TYPE d histogram\nd_bucket{le=\"0.5\"} 1\nd_bucket{le=\"1\"} 2\n\
             d_bucket{le=\"+Inf\"} 3\nd_sum 8.25\nd_count 3\n"
        );
    }
}
