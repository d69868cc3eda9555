//! Axes: frames, ticks, labels that never overlap, titles.

use crate::font::Font;
use crate::layout::Rect;
use crate::page::TEXT;
use crate::scale::Scale;
use crate::scene::{Anchor, GRID, INK, Line, Path, Scene, Text};

/// Lines behind the data.
const BEHIND: Line = Line::solid(GRID, 0.5);
/// Axes and ticks.
const AXIS: Line = Line::solid(INK, 0.6);
/// Length of a tick.
const TICK: f64 = 2.2;
/// Direction of labels that do not fit level, 60 degrees up.
pub const STEEP: [f64; 2] = [0.5, -0.866_025_4];
/// Upwards.
pub const UP: [f64; 2] = [0.0, -1.0];

/// The room that labels of a y axis take, with their ticks.
pub fn label_room(font: &Font, scale: &Scale) -> f64 {
    let widths = scale.ticks.iter().map(|tick| font.width(&scale.label(*tick), TEXT));
    widths.fold(0.0, f64::max) + TICK + 2.0
}

/// Where a value is on the x axis of a plot.
pub fn across(rect: &Rect, scale: &Scale, value: f64) -> f64 {
    rect.x + scale.place(value) * rect.w
}

/// Where a value is on the y axis of a plot.
pub fn up(rect: &Rect, scale: &Scale, value: f64) -> f64 {
    rect.bottom() - scale.place(value) * rect.h
}

/// Lines behind the data at the ticks of both axes.
pub fn grid(scene: &mut Scene, rect: &Rect, x: Option<&Scale>, y: Option<&Scale>) {
    for tick in x.map(|scale| scale.ticks.as_slice()).unwrap_or_default() {
        let at = x.map_or(0.0, |scale| across(rect, scale, *tick));
        scene.stroke(Path::line(&[[at, rect.y], [at, rect.bottom()]]), BEHIND);
    }
    for tick in y.map(|scale| scale.ticks.as_slice()).unwrap_or_default() {
        let at = y.map_or(0.0, |scale| up(rect, scale, *tick));
        scene.stroke(Path::line(&[[rect.x, at], [rect.right(), at]]), BEHIND);
    }
}

/// The x axis below a plot with ticks and labels; a label that would touch the one before it is left out.
pub fn below(scene: &mut Scene, font: &Font, rect: &Rect, scale: &Scale) {
    let y = rect.bottom();
    scene.stroke(Path::line(&[[rect.x, y], [rect.right(), y]]), AXIS);
    let mut free = f64::NEG_INFINITY;
    for tick in &scale.ticks {
        let x = across(rect, scale, *tick);
        scene.stroke(Path::line(&[[x, y], [x, y + TICK]]), AXIS);
        let label = scale.label(*tick);
        let half = font.width(&label, TEXT) / 2.0;
        if x - half >= free {
            let at = [x, y + TICK + TEXT + 0.5];
            scene.text(font, &Text::new(&label, TEXT, Anchor::Middle), at);
            free = x + half + 3.0;
        }
    }
}

/// The y axis left of a plot with ticks and, where asked for, labels.
pub fn left(scene: &mut Scene, font: &Font, rect: &Rect, scale: &Scale, labels: bool) {
    scene.stroke(Path::line(&[[rect.x, rect.y], [rect.x, rect.bottom()]]), AXIS);
    let mut free = f64::INFINITY;
    for tick in &scale.ticks {
        let y = up(rect, scale, *tick);
        scene.stroke(Path::line(&[[rect.x - TICK, y], [rect.x, y]]), AXIS);
        if labels && y + TEXT * 0.5 <= free {
            let text = scale.label(*tick);
            let at = [rect.x - TICK - 1.5, y + TEXT * 0.35];
            scene.text(font, &Text::new(&text, TEXT, Anchor::End), at);
            free = y - TEXT * 0.5 - 1.0;
        }
    }
}

/// A frame around a plot.
pub fn frame(scene: &mut Scene, rect: &Rect) {
    scene.stroke(Path::rect(rect.x, rect.y, rect.w, rect.h), AXIS);
}

/// A panel's title above its plot.
pub fn title(scene: &mut Scene, font: &Font, rect: &Rect, text: &str) {
    let cut = font.cut(text, TEXT, rect.w + 6.0);
    let at = [rect.x + rect.w / 2.0, rect.y - 4.0];
    scene.text(font, &Text::new(&cut, TEXT, Anchor::Middle), at);
}

/// The title of a y axis, its baseline at `x`, cut to the height it has.
pub fn side(scene: &mut Scene, font: &Font, x: f64, rect: &Rect, text: &str) {
    let cut = font.cut(text, TEXT, (rect.h + 16.0).max(40.0));
    let at = [x, rect.y + rect.h / 2.0];
    scene.text(font, &Text::new(&cut, TEXT, Anchor::Middle).along(UP), at);
}

/// The title of an x axis, centred at `x`.
pub fn foot(scene: &mut Scene, font: &Font, [x, y]: [f64; 2], text: &str) {
    scene.text(font, &Text::new(text, TEXT, Anchor::Middle), [x, y]);
}

/// How labels of categories are set along an x axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Categories {
    /// The labels, cut where they must be.
    pub labels: Vec<String>,
    /// Whether they are steep.
    pub steep: bool,
    /// How far they reach below the axis.
    pub height: f64,
    /// How far the first may reach left of its place.
    pub reach: f64,
}

impl Categories {
    /// Level labels where each fits into its slot, else steep ones.
    pub fn of(font: &Font, labels: &[String], slot: f64) -> Self {
        const LONGEST: f64 = 80.0;
        let labels: Vec<String> = labels.iter().map(|label| font.cut(label, TEXT, LONGEST)).collect();
        let longest = labels.iter().map(|label| font.width(label, TEXT)).fold(0.0, f64::max);
        if longest + 3.0 <= slot {
            return Self {
                labels,
                steep: false,
                height: TEXT + 4.0,
                reach: 0.0,
            };
        }
        Self {
            steep: true,
            height: longest * -STEEP[1] + TEXT + 2.0,
            reach: longest * STEEP[0],
            labels,
        }
    }

    /// Writes a label below the axis at `y`, centred at `x`.
    pub fn write(&self, scene: &mut Scene, font: &Font, index: usize, [x, y]: [f64; 2]) {
        let Some(label) = self.labels.get(index) else { return };
        if self.steep {
            let text = Text::new(label, TEXT, Anchor::End).along(STEEP);
            scene.text(font, &text, [x + TEXT * 0.3, y + TEXT * 0.75]);
        } else {
            scene.text(font, &Text::new(label, TEXT, Anchor::Middle), [x, y + TEXT + 2.0]);
        }
    }
}
