//! A chart of one measurement over time, as SVG that takes its colours and font from the page.
//!
//! Pure: points and states in, text out. The colours here are roles; `andon.css` maps each role to a colour of the
//! current theme. Labels stay text, so people can select and screen readers can read them.
//!
//! Invariants
//! - **CHT-1** Where there was no data, there is no line: points further apart than usual are not joined.
//! - **CHT-2** A chart contains only numbers and times, never text from a machine.

mod axis;
mod runs;

use std::ops::Range;
use std::time::Duration;

use chrono::TimeZone;
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints as _;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use crate::domain::{DisplayStatus, Timestamp};

pub use runs::{Point, merge_into_buckets};

/// Roles; see `.chart` in `andon.css`.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const MEAN: RGBColor = RGBColor(3, 3, 3);
const EXTREMES: RGBColor = RGBColor(4, 4, 4);
const ONLINE: RGBColor = RGBColor(5, 5, 5);
const OFFLINE: RGBColor = RGBColor(6, 6, 6);
const UNKNOWN: RGBColor = RGBColor(7, 7, 7);

/// Pixels left of the plot, for the labels of the values, and right of it.
const LEFT: u32 = 76;
const RIGHT: u32 = 14;
/// Pixels below the plot, for the labels of the times.
const UNDER: u32 = 24;
/// Height of the status timeline below those.
const TIMELINE: u32 = 18;
/// Pixels between two strokes of a hatched area.
const HATCH_EVERY: usize = 5;

/// The chart cannot be drawn. This is a bug: charts are drawn into memory only.
#[derive(Debug, Error)]
#[error("the chart cannot be drawn: {0}")]
pub struct ChartError(String);

/// The size of a chart and its letters, in pixels of its viewBox.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    width: u32,
    height: u32,
    font: f64,
    time_labels: u32,
}

impl Shape {
    /// For a screen on a desk or a wall.
    pub const WIDE: Self = Self { width: 900, height: 250, font: 15.0, time_labels: 9 };
    /// For a phone.
    pub const NARROW: Self = Self { width: 380, height: 230, font: 14.0, time_labels: 5 };
}

/// A period with one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Start, inclusive.
    pub from: Timestamp,
    /// End, exclusive.
    pub to: Timestamp,
    /// The status in it.
    pub status: DisplayStatus,
}

/// What a chart shows.
#[derive(Debug)]
pub struct Chart<'a, Z> {
    /// Start, inclusive.
    pub from: Timestamp,
    /// End, exclusive.
    pub to: Timestamp,
    /// Length of the bucket behind each point.
    pub bucket: Duration,
    /// In order of time.
    pub points: &'a [Point],
    /// In order of time.
    pub spans: &'a [Span],
    /// The site's time zone.
    pub zone: &'a Z,
}

impl<Z: TimeZone> Chart<'_, Z>
where
    Z::Offset: std::fmt::Display,
{
    /// Draws the chart as an `<svg>` element without style attributes and scripts.
    ///
    /// # Errors
    /// [`ChartError`] reports a bug of the library.
    pub fn svg(&self, shape: Shape) -> Result<String, ChartError> {
        let mut svg = String::with_capacity(16 * 1024);
        let area = SVGBackend::with_string(&mut svg, (shape.width, shape.height)).into_drawing_area();
        let (above, below) = area.split_vertically(shape.height - TIMELINE);
        self.draw_plot(&above, shape).map_err(|error| ChartError(error.to_string()))?;
        self.draw_timeline(&below, shape).map_err(|error| ChartError(error.to_string()))?;
        area.present().map_err(|error| ChartError(error.to_string()))?;
        drop((area, above, below));
        Ok(svg)
    }

    fn times(&self) -> Range<i64> {
        self.from.as_micros()..self.to.as_micros().max(self.from.as_micros() + 1)
    }

    fn draw_plot<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        shape: Shape,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let labels = axis::time_labels(self.from, self.to, self.zone, shape.time_labels);
        let instants: Vec<_> = labels.iter().map(|(at, _)| at.as_micros()).collect();
        let values = axis::value_range(self.points);
        let mut chart = ChartBuilder::on(area)
            .margin_right(RIGHT)
            .margin_top(10)
            .set_label_area_size(LabelAreaPosition::Left, LEFT)
            .set_label_area_size(LabelAreaPosition::Bottom, UNDER)
            .build_cartesian_2d(self.times().with_key_points(instants), values.clone())?;
        let text = ("sans-serif", shape.font).into_font().color(&INK);
        let label_of = |at: &i64| {
            let label = labels.iter().find(|(instant, _)| instant.as_micros() == *at);
            label.map(|(_, text)| text.clone()).unwrap_or_default()
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(text.clone())
            .x_label_style(text.pos(Pos::new(HPos::Center, VPos::Top)))
            .x_label_formatter(&label_of)
            .y_labels(5)
            .y_label_formatter(&|value| axis::value_label(*value, &values))
            .draw()?;
        self.draw_points(&mut chart)
    }

    /// Draws an area between the extremes and a line through the means. A point alone becomes a dot.
    fn draw_points<DB, CT>(
        &self,
        chart: &mut ChartContext<'_, DB, CT>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
    where
        DB: DrawingBackend,
        CT: CoordTranslate<From = (i64, f64)>,
    {
        let gap_max = runs::gap_max(self.points, self.bucket);
        // Draw a bucket at its middle.
        let half = i64::try_from(self.bucket.as_micros() / 2).unwrap_or(0);
        let time = |point: &Point| (point.at.as_micros() + half).clamp(self.times().start, self.times().end);
        for run in runs::runs(self.points, gap_max) {
            if let [alone] = run {
                let dot = Circle::new((time(alone), alone.mean), 2.5, MEAN.filled());
                chart.draw_series(std::iter::once(dot))?;
                continue;
            }
            let upper = run.iter().map(|point| (time(point), point.max));
            let lower = run.iter().rev().map(|point| (time(point), point.min));
            let between = Polygon::new(upper.chain(lower).collect::<Vec<_>>(), EXTREMES.filled());
            chart.draw_series(std::iter::once(between))?;
            let line = run.iter().map(|point| (time(point), point.mean)).collect::<Vec<_>>();
            chart.draw_series(std::iter::once(PathElement::new(line, MEAN.stroke_width(2))))?;
        }
        Ok(())
    }

    /// Draws the states as bars of different heights: offline high, unknown medium, online low.
    fn draw_timeline<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        shape: Shape,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let times = self.times();
        let pixels = f64::from(shape.width - LEFT - RIGHT);
        let x_of = |at: Timestamp| {
            let part = (at.as_micros() - times.start) as f64 / (times.end - times.start) as f64;
            LEFT as i32 + (part.clamp(0.0, 1.0) * pixels).round() as i32
        };
        for span in self.spans {
            let (left, right) = (x_of(span.from), x_of(span.to));
            let (color, top) = match span.status {
                DisplayStatus::Online => (ONLINE, 11),
                DisplayStatus::Offline => (OFFLINE, 2),
                DisplayStatus::Unknown | DisplayStatus::NeverSeen => (UNKNOWN, 7),
            };
            // Show even the shortest period.
            let right = right.max(left + 1);
            let bottom = TIMELINE as i32 - 2;
            if span.status == DisplayStatus::Unknown {
                hatch(area, (left, top), (right, bottom))?;
            } else {
                area.draw(&Rectangle::new([(left, top), (right, bottom)], color.filled()))?;
            }
        }
        Ok(())
    }
}

/// Draws a hatched frame, so that unknown periods differ without colour, too. A narrow one is filled instead.
fn hatch<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    (left, top): (i32, i32),
    (right, bottom): (i32, i32),
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let narrow = right - left < 2 * HATCH_EVERY as i32;
    let style = if narrow { UNKNOWN.filled() } else { UNKNOWN.stroke_width(1) };
    area.draw(&Rectangle::new([(left, top), (right, bottom)], style))?;
    if narrow {
        return Ok(());
    }
    let high = bottom - top;
    for foot in (left - high..right).step_by(HATCH_EVERY) {
        // From the lower left to the upper right, cut at both sides.
        let (from, to) = (foot.max(left), (foot + high).min(right));
        let stroke = vec![(from, bottom - (from - foot)), (to, bottom - (to - foot))];
        area.draw(&PathElement::new(stroke, UNKNOWN.stroke_width(1)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;

    const MINUTE: i64 = 60_000_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_micros(1_795_000_000_000_000 + minute * MINUTE)
    }

    fn svg(points: &[Point], spans: &[Span], shape: Shape) -> String {
        let bucket = Duration::from_secs(60);
        Chart { from: at(0), to: at(60), bucket, points, spans, zone: &Berlin }.svg(shape).unwrap()
    }

    fn points(minutes: impl IntoIterator<Item = i64>) -> Vec<Point> {
        let point = |minute: i64| {
            let mean = (minute % 7) as f64;
            Point { at: at(minute), min: mean - 1.0, mean, max: mean + 1.0, count: 60 }
        };
        minutes.into_iter().map(point).collect()
    }

    fn lines(svg: &str) -> usize {
        svg.lines().filter(|line| line.starts_with("<polyline") && line.contains("#030303")).count()
    }

    /// Proves CHT-1.
    #[test]
    fn where_there_was_no_data_there_is_no_line() {
        assert_eq!(lines(&svg(&points(0..60), &[], Shape::WIDE)), 1);
        let with_gaps = points((0..10).chain(20..30).chain(45..46));
        let drawn = svg(&with_gaps, &[], Shape::WIDE);
        assert_eq!(lines(&drawn), 2);
        assert_eq!(drawn.matches("<circle").count(), 1, "a point alone is a dot");
        assert_eq!(lines(&svg(&[], &[], Shape::WIDE)), 0);
    }

    #[test]
    fn states_differ_in_height_as_well_as_in_colour() {
        let span = |from, to, status| Span { from: at(from), to: at(to), status };
        let spans = [
            span(0, 20, DisplayStatus::Online),
            span(20, 40, DisplayStatus::Offline),
            span(40, 60, DisplayStatus::Unknown),
        ];
        let drawn = svg(&points(0..60), &spans, Shape::NARROW);
        let height = |colour: &str| {
            let bar = drawn.lines().find(|line| line.starts_with("<rect") && line.contains(colour)).unwrap();
            let (_, rest) = bar.split_once("height=\"").unwrap();
            rest.split('"').next().unwrap().parse::<u32>().unwrap()
        };
        assert!(height("#050505") < height("#070707") && height("#070707") < height("#060606"));
    }

    #[test]
    fn only_unknown_periods_are_hatched() {
        let strokes = |from, to, status| {
            let drawn = svg(&[], &[Span { from: at(from), to: at(to), status }], Shape::WIDE);
            drawn.lines().filter(|line| line.starts_with("<polyline") && line.contains("#070707")).count()
        };
        assert!(strokes(0, 60, DisplayStatus::Unknown) > 100);
        assert_eq!(strokes(0, 60, DisplayStatus::Offline), 0);
        assert_eq!(strokes(0, 60, DisplayStatus::NeverSeen), 0);
        // Ten seconds are three pixels: filled instead of hatched.
        let drawn = svg(
            &[],
            &[Span { from: at(0), to: at(0).plus(Duration::from_secs(10)), status: DisplayStatus::Unknown }],
            Shape::WIDE,
        );
        assert!(drawn.lines().any(|line| line.starts_with("<rect") && line.contains("fill=\"#070707\"")));
    }

    #[test]
    fn every_role_that_is_drawn_has_a_colour_in_the_style_sheet() {
        let style = include_str!("../assets/andon.css");
        let span = |from, to, status| Span { from: at(from), to: at(to), status };
        let spans = [
            span(0, 20, DisplayStatus::Online),
            span(20, 40, DisplayStatus::Offline),
            span(40, 60, DisplayStatus::Unknown),
        ];
        let drawn = svg(&points((0..10).chain(20..21)), &spans, Shape::WIDE);
        // Labels have one colour, whatever their role.
        for element in drawn.lines().filter(|line| line.starts_with('<') && !line.starts_with("<text")) {
            for attribute in element.split(' ').filter(|part| part.contains("=\"#0")) {
                let attribute = attribute.trim_end_matches("/>").trim_end_matches('>');
                assert!(style.contains(&format!("[{attribute}]")), "{attribute} in {element}");
            }
        }
    }

    /// Proves CHT-2.
    #[test]
    fn a_chart_needs_no_inline_style_or_script_and_its_labels_are_text() {
        for shape in [Shape::WIDE, Shape::NARROW] {
            let drawn = svg(&points(0..60), &[], shape);
            assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
            for forbidden in ["style=", "<style", "<script", "href", "NaN", "inf"] {
                assert!(!drawn.contains(forbidden), "{forbidden} in {drawn}");
            }
            assert!(drawn.matches("<text").count() >= 6, "{drawn}");
        }
    }

    #[test]
    fn extreme_values_are_drawn() {
        let mut extreme = points(0..3);
        extreme[0].min = -1e150;
        extreme[1].max = 1e150;
        extreme[2].mean = 1e-300;
        assert_eq!(lines(&svg(&extreme, &[], Shape::WIDE)), 1);
    }
}
