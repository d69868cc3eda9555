//! Drawing a panel of a flow.

use super::{Fate, Flow};
use crate::axes;
use crate::glyphs::arrow;
use crate::layout::Rect;
use crate::page::{Page, SMALL, TEXT};
use crate::palette::{BLUE, VERMILION};
use crate::scale::Scale;
use crate::scene::{Anchor, Color, INK, Line, Path, Point, Text, WHITE};

/// The most arrows that are drawn one by one; more are averaged over cells.
pub const MOST: usize = 400;
/// Cells along each side for that.
const CELLS: usize = 14;

/// What becomes of an item, the mean of all, and the boundary.
pub const STAYS: Line = Line::solid([0xA8, 0xA8, 0xA8], 0.5);
pub const ENTERS: Line = Line::solid(VERMILION, 0.9);
pub const EXITS: Line = Line::solid(BLUE, 1.0).dashed(2.4, 1.0);
pub const MEAN: Line = Line::solid(INK, 1.8);
pub const BOUNDARY: Line = Line::solid(INK, 0.9).dashed(4.0, 2.0);
/// The unsafe side.
pub const UNSAFE: Color = [0xFB, 0xEE, 0xE6];

/// The plane of a panel: equal scales on both axes.
struct Plane {
    rect: Rect,
    middle: Point,
    unit: f64,
}

impl Plane {
    fn of(flow: &Flow, rect: &Rect) -> Self {
        let points = flow.arrows.iter().flat_map(|(_, from, to)| [*from, *to]);
        let mut ends = [[f64::INFINITY, f64::NEG_INFINITY]; 2];
        for point in points {
            for (axis, end) in ends.iter_mut().enumerate() {
                end[0] = end[0].min(point[axis]);
                end[1] = end[1].max(point[axis]);
            }
        }
        let extent = ends.map(|[low, high]| (high - low).max(1e-9));
        let room = [rect.w - 14.0, rect.h - 14.0];
        Self {
            rect: *rect,
            middle: ends.map(|[low, high]| (low + high) / 2.0),
            unit: (room[0] / extent[0]).min(room[1] / extent[1]).min(1e9),
        }
    }

    fn at(&self, [x, y]: Point) -> Point {
        [
            self.rect.x + self.rect.w / 2.0 + (x - self.middle[0]) * self.unit,
            self.rect.y + self.rect.h / 2.0 - (y - self.middle[1]) * self.unit,
        ]
    }

    /// The coordinates at the corners, from the left upper one around.
    fn corners(&self) -> [(Point, Point); 4] {
        let rect = self.rect;
        let corners = [
            [rect.x, rect.y],
            [rect.right(), rect.y],
            [rect.right(), rect.bottom()],
            [rect.x, rect.bottom()],
        ];
        corners.map(|at| {
            let x = self.middle[0] + (at[0] - rect.x - rect.w / 2.0) / self.unit;
            let y = self.middle[1] - (at[1] - rect.y - rect.h / 2.0) / self.unit;
            (at, [x, y])
        })
    }
}

/// Draws a panel.
pub fn contents(page: &mut Page<'_>, flow: &Flow, rect: &Rect) {
    let font = page.font;
    if !flow.panel.title.is_empty() {
        axes::title(&mut page.scene, font, rect, &flow.panel.title);
    }
    let plane = Plane::of(flow, rect);
    let boundary = boundary(flow, &plane);
    if let Some((unsafe_side, _)) = &boundary {
        page.scene.fill(Path::polygon(unsafe_side), UNSAFE);
    }
    for (fate, line) in [(Fate::Stays, STAYS), (Fate::Exits, EXITS), (Fate::Enters, ENTERS)] {
        let own = flow.arrows.iter().filter(|(one, ..)| *one == fate);
        let own: Vec<(Point, Point)> = own.map(|(_, from, to)| (plane.at(*from), plane.at(*to))).collect();
        let own = if flow.arrows.len() > MOST {
            averaged(&own, rect)
        } else {
            own
        };
        for (from, to) in own {
            arrow(&mut page.scene, from, to, line);
            if fate != Fate::Stays {
                page.scene.fill(Path::circle(from, 1.3), WHITE);
                page.scene.stroke(Path::circle(from, 1.3), Line::solid(line.color, 0.7));
            }
        }
    }
    if let Some((_, Some([from, to]))) = &boundary {
        page.scene.stroke(Path::line(&[*from, *to]), Line::solid(WHITE, 2.0));
        page.scene.stroke(Path::line(&[*from, *to]), BOUNDARY);
    }
    if let Some((from, to)) = mean(&flow.arrows) {
        let (from, to) = (plane.at(from), plane.at(to));
        page.scene
            .stroke(Path::line(&[from, to]), Line::solid(WHITE, 2.8).rounded());
        arrow(&mut page.scene, from, to, MEAN);
    }
    axes::frame(&mut page.scene, rect);
    let name = |axis: usize| {
        let share = flow.shares[axis].map_or_else(String::new, |share| {
            format!(" ({}% of variance)", (share * 100.0).round())
        });
        format!("PC {}{share}", axis + 1)
    };
    axes::side(&mut page.scene, font, rect.x - 5.0, rect, &name(1));
    let at = [rect.x + rect.w / 2.0, rect.bottom() + TEXT + 3.0];
    axes::foot(&mut page.scene, font, at, &name(0));
    yardstick(page, &plane);
}

fn mean(arrows: &[(Fate, Point, Point)]) -> Option<(Point, Point)> {
    let count = arrows.len() as f64;
    let sum = arrows.iter().fold([0.0; 4], |sum, (_, from, to)| {
        [sum[0] + from[0], sum[1] + from[1], sum[2] + to[0], sum[3] + to[1]]
    });
    let [x, y, to_x, to_y] = sum.map(|part| part / count);
    (!arrows.is_empty()).then_some(([x, y], [to_x, to_y]))
}

/// Mean arrows of those that start in each cell of the plot.
fn averaged(arrows: &[(Point, Point)], rect: &Rect) -> Vec<(Point, Point)> {
    let mut cells = vec![(0usize, [0.0f64; 4]); CELLS * CELLS];
    for (from, to) in arrows {
        let cell = |at: f64, start: f64, size: f64| (((at - start) / size * CELLS as f64) as usize).min(CELLS - 1);
        let column = cell(from[0], rect.x, rect.w);
        let row = cell(from[1], rect.y, rect.h);
        let (count, sum) = &mut cells[row * CELLS + column];
        *count += 1;
        for (part, value) in sum.iter_mut().zip([from[0], from[1], to[0], to[1]]) {
            *part += value;
        }
    }
    let full = cells.into_iter().filter(|(count, _)| *count > 0);
    full.map(|(count, sum)| {
        let [x, y, to_x, to_y] = sum.map(|part| part / count as f64);
        ([x, y], [to_x, to_y])
    })
    .collect()
}

/// The outline of the unsafe side and the ends of the boundary, clipped to the plot.
fn boundary(flow: &Flow, plane: &Plane) -> Option<(Vec<Point>, Option<[Point; 2]>)> {
    let [a, b, c] = flow.boundary?;
    let corners = plane.corners();
    let side = |[x, y]: Point| a * x + b * y + c;
    let (mut inside, mut cut) = (Vec::new(), Vec::new());
    for index in 0..4 {
        let ((one, from), (other, to)) = (corners[index], corners[(index + 1) % 4]);
        let (here, there) = (side(from), side(to));
        if here >= 0.0 {
            inside.push(one);
        }
        if (here >= 0.0) != (there >= 0.0) {
            let share = here / (here - there);
            let at = [
                one[0] + (other[0] - one[0]) * share,
                one[1] + (other[1] - one[1]) * share,
            ];
            inside.push(at);
            cut.push(at);
        }
    }
    let ends = match cut[..] {
        [from, to] => Some([from, to]),
        _ => None,
    };
    Some((inside, ends))
}

/// A round length in the plane's unit, in the lower left corner.
fn yardstick(page: &mut Page<'_>, plane: &Plane) {
    let most = plane.rect.w * 0.28 / plane.unit;
    let scale = Scale::around([most], 3);
    let Some(length) = scale.ticks.iter().copied().rfind(|tick| *tick > 0.0 && *tick <= most) else {
        return;
    };
    let (x, y) = (plane.rect.x + 5.0, plane.rect.bottom() - 5.0);
    let end = x + length * plane.unit;
    for (color, width) in [(WHITE, 2.4), (INK, 0.9)] {
        page.scene
            .stroke(Path::line(&[[x, y], [end, y]]), Line::solid(color, width));
    }
    let font = page.font;
    let label = scale.label(length);
    page.scene.rimmed(
        font,
        &Text::new(&label, SMALL, Anchor::Middle),
        [(x + end) / 2.0, y - 2.0],
    );
}
