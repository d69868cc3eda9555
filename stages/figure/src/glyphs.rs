//! Small marks that several plots share: swatches, hatching, points, whiskers, arrow heads, and what stands for them in a
//! legend.

use crate::page::TEXT;
use crate::palette;
use crate::scene::{Color, GREY, INK, Line, Path, Point, Scene, WHITE};

/// Size of a swatch in a legend.
const SWATCH: f64 = 6.0;

/// A point's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A disc.
    Disc,
    /// A ring, white inside.
    Ring,
    /// A diamond.
    Diamond,
}

/// What stands before a legend's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    /// Nothing: a name of what follows.
    Name,
    /// A series of bars: its index and how many there are.
    Series(usize, usize),
    /// A line.
    Line(Line),
    /// A filled square.
    Filled(Color),
    /// A hatched cell.
    Hatched,
    /// A point.
    Point(Shape, Color),
    /// An arrow.
    Arrow(Line),
}

impl Key {
    /// How much room it takes before its text.
    pub fn width(self) -> f64 {
        match self {
            Self::Name => 0.0,
            Self::Series(..) | Self::Filled(_) | Self::Hatched | Self::Point(..) => SWATCH + 3.0,
            Self::Line(_) | Self::Arrow(_) => 2.0 * SWATCH + 3.0,
        }
    }
}

/// Draws a key beside text whose baseline is at `at`.
pub fn draw_key(scene: &mut Scene, key: Key, [x, y]: Point) {
    let middle = y - TEXT * 0.33;
    match key {
        Key::Name => {}
        Key::Series(index, count) => swatch(scene, index, count, [x, y - SWATCH + 0.5, SWATCH, SWATCH]),
        Key::Line(line) => scene.stroke(Path::line(&[[x, middle], [x + 2.0 * SWATCH, middle]]), line),
        Key::Filled(color) => {
            let path = Path::rect(x, y - SWATCH + 0.5, SWATCH, SWATCH);
            scene.fill(path.clone(), color);
            scene.stroke(path, Line::solid(GREY, 0.3));
        }
        Key::Hatched => hatched(scene, [x, y - SWATCH + 0.5, SWATCH, SWATCH]),
        Key::Point(shape, color) => point(scene, shape, [x + SWATCH / 2.0, middle], 2.4, color),
        Key::Arrow(line) => arrow(scene, [x, middle + 1.5], [x + 2.0 * SWATCH, middle - 1.5], line),
    }
}

/// A filled rectangle in a series' colour, hatched where colours alone would be too near in grey.
pub fn swatch(scene: &mut Scene, index: usize, series: usize, [x, y, width, height]: [f64; 4]) {
    let (color, hatched): (Color, bool) = palette::series(index, series);
    let path = Path::rect(x, y, width, height);
    scene.fill(path.clone(), color);
    if hatched {
        for line in hatch([x, y, width, height], 2.6) {
            scene.stroke(Path::line(&line), Line::solid(WHITE, 0.7));
        }
    }
    scene.stroke(path, Line::solid(INK, 0.4));
}

/// A cell without a value.
pub fn hatched(scene: &mut Scene, [x, y, width, height]: [f64; 4]) {
    let path = Path::rect(x, y, width, height);
    scene.fill(path.clone(), WHITE);
    for line in hatch([x, y, width, height], 2.2) {
        scene.stroke(Path::line(&line), Line::solid([0x99, 0x99, 0x99], 0.5));
    }
    scene.stroke(path, Line::solid([0x99, 0x99, 0x99], 0.4));
}

/// Lines at 45 degrees inside a rectangle.
pub fn hatch([x, y, width, height]: [f64; 4], step: f64) -> Vec<[Point; 2]> {
    let count = ((width + height) / step) as usize;
    let line = |index: usize| {
        // The points of the line are those whose distances from the left and the lower edge add up to `sum`.
        let sum = (index as f64 + 0.5) * step;
        let right = sum.min(width);
        let left = (sum - height).max(0.0);
        [
            [x + left, y + height - (sum - left)],
            [x + right, y + height - (sum - right)],
        ]
    };
    (0..count).map(line).collect()
}

/// A point on a rim of white.
pub fn point(scene: &mut Scene, shape: Shape, [x, y]: Point, radius: f64, color: Color) {
    let outline = |radius: f64| match shape {
        Shape::Disc | Shape::Ring => Path::circle([x, y], radius),
        Shape::Diamond => {
            let reach = radius * 1.25;
            Path::polygon(&[[x, y - reach], [x + reach, y], [x, y + reach], [x - reach, y]])
        }
    };
    scene.fill(outline(radius + 0.8), WHITE);
    if shape == Shape::Ring {
        scene.fill(outline(radius - 0.4), WHITE);
        scene.stroke(outline(radius - 0.4), Line::solid(color, 0.8));
    } else {
        scene.fill(outline(radius), color);
    }
}

/// A cross where there is no value.
pub fn cross(scene: &mut Scene, [x, y]: Point, arm: f64) {
    for side in [-1.0, 1.0] {
        let points = [[x - arm, y - side * arm], [x + arm, y + side * arm]];
        scene.stroke(Path::line(&points), Line::solid(GREY, 0.8));
    }
}

/// A whisker from `one` to `other`, upright or level, with caps of half-width `cap`, on a rim of white.
pub fn whisker(scene: &mut Scene, one: Point, other: Point, cap: f64) {
    let level = one[1] == other[1];
    let across = if level { [0.0, cap] } else { [cap, 0.0] };
    let end = |[x, y]: Point| [[x - across[0], y - across[1]], [x + across[0], y + across[1]]];
    let lines = [[one, other], end(one), end(other)];
    for (color, width) in [(WHITE, 2.0), (INK, 0.8)] {
        for line in &lines {
            scene.stroke(Path::line(line), Line::solid(color, width));
        }
    }
}

/// An arrow with a filled head; one that is too short for a head is a dot.
pub fn arrow(scene: &mut Scene, from: Point, to: Point, line: Line) {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy);
    let head = 2.2 + 1.6 * line.width;
    if length < 0.6 {
        scene.fill(Path::circle(to, line.width * 0.9), line.color);
        return;
    }
    let head = head.min(length * 0.8);
    let (ux, uy) = (dx / length, dy / length);
    let neck = [to[0] - ux * head, to[1] - uy * head];
    let half = head * 0.42;
    scene.stroke(
        Path::line(&[from, [to[0] - ux * head * 0.7, to[1] - uy * head * 0.7]]),
        line,
    );
    let wings = [
        to,
        [neck[0] - uy * half, neck[1] + ux * half],
        [neck[0] + uy * half, neck[1] - ux * half],
    ];
    scene.fill(Path::polygon(&wings), line.color);
}
