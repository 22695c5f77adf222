//! Prometheus's text format 0.0.4: a help text and a type for each metric, then a line for each value.

use crate::http::body::BodyWriter;
use crate::metrics::{Family, Histogram, Kind, Metric, Number};

/// Writes metrics into a response body.
pub(super) struct Exposition<'a> {
    body: &'a mut BodyWriter,
}

impl<'a> Exposition<'a> {
    pub(super) fn new(body: &'a mut BodyWriter) -> Self {
        Self { body }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.heading(name, help, Kind::Counter);
        self.line(name, &[], value);
    }

    /// Writes one counter for each value of a label.
    pub(super) fn counters<'b, V: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, V)>,
    ) {
        self.heading(name, help, Kind::Counter);
        values.into_iter().for_each(|(value, count)| self.line(name, &[(label, value)], count));
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.heading(name, help, Kind::Gauge);
        self.line(name, &[], value);
    }

    /// Writes one gauge for each value of a label.
    pub(super) fn gauges<'b, V: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, V)>,
    ) {
        self.heading(name, help, Kind::Gauge);
        values.into_iter().for_each(|(value, number)| self.line(name, &[(label, value)], number));
    }

    /// Writes one counter for each set of labels.
    pub(super) fn counters_of<'b, V: Into<Number>, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'b str, &'b str); N], V)>,
    ) {
        self.heading(name, help, Kind::Counter);
        values.into_iter().for_each(|(labels, count)| self.line(name, &labels, count));
    }

    /// Writes one histogram for each value of a label.
    pub(super) fn histograms<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, &'b Histogram)>,
    ) {
        self.heading(name, help, Kind::Histogram);
        for (value, histogram) in values {
            for sample in histogram.samples() {
                let own = sample.label.as_ref().map(|(label, value)| (*label, value.as_str()));
                let labels: Vec<_> = std::iter::once((label, value)).chain(own).collect();
                self.line(&format!("{name}{}", sample.suffix), &labels, sample.number);
            }
        }
    }

    /// Writes a metric whose labels are its content. Its value is always 1.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.heading(name, help, Kind::Gauge);
        self.line(name, labels, 1_u64);
    }

    /// Writes a metric of the table.
    pub(super) fn family(&mut self, family: &Family) {
        self.heading(family.name, family.help, family.kind);
        for sample in &family.samples {
            let name = format!("{}{}", family.name, sample.suffix);
            let labels = sample.label.as_ref().map(|(label, value)| (*label, value.as_str()));
            self.line(&name, labels.as_slice(), sample.number);
        }
    }

    fn heading(&mut self, name: &str, help: &str, kind: Kind) {
        self.body.text(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.body.text(name);
        if !labels.is_empty() {
            let pairs: Vec<_> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            self.body.text(&format!("{{{}}}", pairs.join(",")));
        }
        self.body.text(&format!(" {}\n", value.into()));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Budget, IN_FLIGHT_BYTES_MAX};

    #[test]
    fn every_kind_of_value_is_written_as_the_format_wants_it() {
        static BOUNDS: [f64; 2] = [0.5, 1.0];
        let histogram = Histogram::new(&BOUNDS);
        [0.5, 0.75, 7.0].iter().for_each(|value| histogram.observe(*value));
        let mut body = BodyWriter::new(&Budget::new(IN_FLIGHT_BYTES_MAX));
        let mut out = Exposition::new(&mut body);
        out.counters("c", "Counted.", "why", [("a", 1_u64), ("\"\\\n", 2)]);
        out.gauge("never", "Not at this rate.", f64::INFINITY);
        out.gauges("g", "Each.", "of", [("x", 0.25), ("y", f64::NEG_INFINITY), ("z", f64::NAN)]);
        out.info("i", "One.", &[("a", "1"), ("b", "2")]);
        let (kind, samples) = (Histogram::KIND, histogram.samples());
        out.family(&Family { name: "d", help: "Of some.", kind, samples });
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
