//! How values become colours, and the bar that says so.

use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::Ramp;
use crate::scale::Scale;
use crate::scene::{Anchor, Color, INK, Line, Path, Text};

/// Values as colours.
#[derive(Debug, Clone, PartialEq)]
pub struct Colors {
    /// The ends and ticks.
    pub scale: Scale,
    ramp: Ramp,
}

impl Colors {
    /// Colours for values: a ramp from 0 up, or one to both sides of 0 where a value is negative.
    pub fn of(values: impl IntoIterator<Item = f64> + Clone) -> Self {
        Self::with_steps(values, 5)
    }

    /// The same with at most so many steps between ticks.
    pub fn with_steps(values: impl IntoIterator<Item = f64> + Clone, most: usize) -> Self {
        let negative = values.clone().into_iter().any(|value| value < 0.0);
        if negative {
            let reach = values.into_iter().map(f64::abs).fold(0.0, f64::max);
            return Self {
                scale: Scale::around([-reach, reach], most.next_multiple_of(2)),
                ramp: Ramp::Diverging,
            };
        }
        Self {
            scale: Scale::around(values, most),
            ramp: Ramp::Sequential,
        }
    }

    /// The colour of a value.
    pub fn at(&self, value: f64) -> Color {
        let place = match self.ramp {
            Ramp::Sequential => self.scale.place(value),
            // Symmetric, so that 0 is always white.
            Ramp::Diverging => {
                let reach = self.scale.low.abs().max(self.scale.high.abs());
                (value / reach + 1.0) / 2.0
            }
        };
        self.ramp.at(place)
    }

    /// The colour of the band between two ticks.
    pub fn band(&self, low: f64, high: f64) -> Color {
        self.at((low + high) / 2.0)
    }
}

/// Draws the bar at the page's place, `name` before it; `stepped` in the bands between its ticks.
pub fn draw(page: &mut Page<'_>, colors: &Colors, name: &str, stepped: bool) {
    const HEIGHT: f64 = 6.0;
    let font = page.font;
    let start = MARGIN + font.width(name, TEXT) + 7.0;
    let wide = (page.scene.width - start - MARGIN - 8.0).clamp(40.0, 110.0);
    let y = page.y + 3.0;
    page.text(&Text::new(name, TEXT, Anchor::Start), [MARGIN, y + HEIGHT - 0.6]);
    let scale = &colors.scale;
    let stops: Vec<f64> = if stepped {
        scale.ticks.clone()
    } else {
        let step = |index: usize| scale.low + (scale.high - scale.low) * index as f64 / 64.0;
        (0..=64).map(step).collect()
    };
    for pair in stops.windows(2) {
        // Each reaches to the end, so that no seam shows between two.
        let x = start + scale.place(pair[0]) * wide;
        let rest = Path::rect(x, y, start + wide - x, HEIGHT);
        page.scene.fill(rest, colors.band(pair[0], pair[1]));
    }
    page.scene
        .stroke(Path::rect(start, y, wide, HEIGHT), Line::solid(INK, 0.4));
    let mut free = f64::NEG_INFINITY;
    for tick in &scale.ticks {
        let x = start + scale.place(*tick) * wide;
        page.scene.stroke(
            Path::line(&[[x, y + HEIGHT], [x, y + HEIGHT + 1.8]]),
            Line::solid(INK, 0.5),
        );
        let label = scale.label(*tick);
        let half = font.width(&label, SMALL) / 2.0;
        if x - half >= free {
            page.text(&Text::new(&label, SMALL, Anchor::Middle), [x, y + HEIGHT + 2.2 + SMALL]);
            free = x + half + 2.0;
        }
    }
    page.y = y + HEIGHT + SMALL + 5.0;
}
