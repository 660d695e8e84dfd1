//! One chart of lines: scales, grid, legend. How it looks, and nothing of what it says.

use anyhow::{Result, anyhow, ensure};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::limits::show_time;

const SIZE: (u32, u32) = (860, 460);
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', sans-serif";
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const FAINT: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
/// Told apart by people who see few colours as well (Okabe and Ito).
const COLORS: [RGBColor; 5] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x8a, 0x6d, 0x00),
];

/// A scale, with what it counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Axis {
    /// Linear, from zero.
    Number(&'static str),
    /// Milliseconds, logarithmic.
    LogTime(&'static str),
    /// How many nines: 2 is 99 %.
    Nines(&'static str),
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
    /// For comparison only.
    pub(super) dotted: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

impl Chart<'_> {
    pub(super) fn draw(&self) -> Result<String> {
        let all = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        ensure!(all().next().is_some(), "there is nothing to draw in these reports");
        let mut svg = String::new();
        self.draw_on(
            SVGBackend::with_string(&mut svg, SIZE),
            Scale::new(self.x, all().map(|(x, _)| x)),
            Scale::new(self.y, all().map(|(_, y)| y)),
        )
        .map_err(|error| anyhow!("the chart cannot be drawn: {error}"))?;
        Ok(svg)
    }

    fn draw_on<'b>(
        &self,
        backend: SVGBackend<'b>,
        x: Scale,
        y: Scale,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'b> as DrawingBackend>::ErrorType>> {
        let root = backend.into_drawing_area();
        root.fill(&WHITE)?;
        let text = |size: u32| (FONT, size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, text(23))
            .margin(16)
            .margin_right(28)
            .x_label_area_size(54)
            .y_label_area_size(80)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(FAINT)
            .label_style(text(16))
            .axis_desc_style(text(16))
            .x_labels(12)
            .y_labels(10)
            .x_desc(self.x.name())
            .y_desc(self.y.name())
            .draw()?;
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            let points = || line.points.iter().copied();
            let style = color.stroke_width(2);
            let drawn = match line.dotted {
                true => chart.draw_series(DashedLineSeries::new(points(), 6, 5, style))?,
                false => chart.draw_series(LineSeries::new(points(), style))?,
            };
            drawn.label(line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3)));
            // Each is a measurement of its own, not a step of a curve.
            if let Axis::Number(_) = self.x {
                chart.draw_series(points().map(|point| Circle::new(point, 4, color.filled())))?;
            }
        }
        // Where lines that grow to the right leave room, and those that begin high do not.
        let legend = match self.x {
            Axis::Nines(_) => SeriesLabelPosition::LowerRight,
            Axis::Number(_) | Axis::LogTime(_) => SeriesLabelPosition::UpperLeft,
        };
        chart
            .configure_series_labels()
            .position(legend)
            .margin(14)
            .legend_area_size(34)
            .background_style(WHITE.mix(0.9))
            .border_style(FAINT)
            .label_font(text(16))
            .draw()?;
        root.present()
    }
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Number(name) | Self::LogTime(name) | Self::Nines(name) => name,
        }
    }
}

/// A scale and its ends.
#[derive(Debug, Clone)]
struct Scale {
    axis: Axis,
    from: f64,
    to: f64,
}

impl Scale {
    /// One on which all the values are, with round ends.
    fn new(axis: Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let largest = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        let (from, to) = match axis {
            Axis::Number(_) => (0.0, largest * 1.08),
            Axis::LogTime(_) => {
                let smallest = values.filter(|value| *value > 0.0).fold(largest, f64::min);
                let decade = |value: f64| 10_f64.powf(value);
                (decade(smallest.log10().floor()), decade(largest.log10().ceil()))
            }
            Axis::Nines(_) => (0.0, largest.max(1.0)),
        };
        Self { axis, from, to }
    }

    /// Where a value is between the ends, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.axis {
            Axis::LogTime(_) => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            Axis::Number(_) | Axis::Nines(_) => (value - self.from) / (self.to - self.from),
        }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (self.place(*value) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match self.axis {
            Axis::Number(_) => {
                // 1, 2 or 5 times a power of ten: the first that needs no more points than there is room for.
                let least = self.to / hint.max_num_points().max(1) as f64;
                let decade = 10_f64.powf(least.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade);
                let step = step.into_iter().find(|step| *step >= least).unwrap_or(self.to);
                (0..=(self.to / step) as u32).map(|at| f64::from(at) * step).collect()
            }
            Axis::LogTime(_) => {
                let (first, last) = (self.from.log10().round() as i32, self.to.log10().round() as i32);
                (first..=last).map(|decade| 10_f64.powi(decade)).collect()
            }
            Axis::Nines(_) => {
                let half = 2_f64.log10();
                std::iter::once(half).chain((0..=self.to as u32).map(f64::from)).collect()
            }
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        match self.axis {
            Axis::Number(_) if self.to < 10.0 => format!("{value:.1}"),
            Axis::Number(_) => format!("{value:.0}"),
            Axis::LogTime(_) => show_time(value * 1e6).replace(".00", "").replace(".0", ""),
            Axis::Nines(_) => {
                let digits = (*value as usize).saturating_sub(2);
                format!("{:.digits$}%", 100.0 * (1.0 - 10_f64.powf(-value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_ends_and_words() {
        let time = Scale::new(Axis::LogTime(""), [0.3, 45.0].into_iter());
        assert!((time.from - 0.1).abs() < 1e-9 && (time.to - 100.0).abs() < 1e-9, "{time:?}");
        assert_eq!([0.1, 1.0, 100.0].map(|value| time.format_ext(&value)), ["100 µs", "1 ms", "100 ms"]);
        assert_eq!((time.map(&0.1, (0, 300)), time.map(&1.0, (0, 300)), time.map(&100.0, (300, 0))), (0, 100, 0));
        let nines = Scale::new(Axis::Nines(""), [0.0, 4.0].into_iter());
        let words: Vec<String> = nines.key_points(12).iter().map(|value| nines.format_ext(value)).collect();
        assert_eq!(words, ["50%", "0%", "90%", "99%", "99.9%", "99.99%"]);
        let number = Scale::new(Axis::Number(""), [3000.0].into_iter());
        assert_eq!(number.key_points(12).first_chunk(), Some(&[0.0, 500.0]));
    }
}
