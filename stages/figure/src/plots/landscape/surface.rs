//! One surface in its box: walls, cells from far to near, axes.

use super::super::colorbar::Colors;
use super::super::field::Field;
use crate::glyphs::{Shape, point};
use crate::layout::Rect;
use crate::page::{Page, SMALL, TEXT};
use crate::palette::mix;
use crate::scale::Scale;
use crate::scene::{Anchor, GRID, INK, Line, Path, Point, Text};

/// Pieces that a cell is drawn in along each side, so that its colours and its twist show.
const PIECES: usize = 5;
/// The turn of the grid and the height of the eye, in degrees.
const VIEW: [f64; 2] = [38.0, 27.0];
/// Height of the box for a grid of side 1.
const TALL: f64 = 0.62;

/// One surface in its box.
pub struct Surface<'a> {
    field: &'a Field,
    colors: &'a Colors,
    x: Scale,
    y: Scale,
    origin: Point,
    size: f64,
}

impl<'a> Surface<'a> {
    /// A surface that fits into a panel.
    pub fn new(field: &'a Field, colors: &'a Colors, rect: &Rect) -> Self {
        let mut surface = Self {
            field,
            colors,
            x: field.temperature_scale(),
            y: field.mass_scale(),
            origin: [0.0, 0.0],
            size: 1.0,
        };
        // The box of a grid of side 1, then as large as the panel allows beside its labels.
        let corners = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]];
        let corners: Vec<Point> = corners.iter().map(|corner| surface.project(*corner)).collect();
        let least = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f64::INFINITY, f64::min);
        let most = |axis: usize| {
            corners
                .iter()
                .map(|corner| corner[axis])
                .fold(f64::NEG_INFINITY, f64::max)
        };
        let room = [rect.w - 40.0, rect.h - 15.0];
        surface.size = (room[0] / (most(0) - least(0))).min(room[1] / (most(1) - least(1)));
        surface.origin = [
            rect.x + 20.0 + (room[0] - surface.size * (most(0) - least(0))) / 2.0 - least(0) * surface.size,
            rect.y + 3.0 - least(1) * surface.size,
        ];
        surface
    }

    /// Where a point of the unit box is on the page.
    fn project(&self, [x, y, z]: [f64; 3]) -> Point {
        let [turn, eye] = VIEW.map(f64::to_radians);
        let (u, v) = (x - 0.5, y - 0.5);
        let across = u * turn.cos() + v * turn.sin();
        let away = v * turn.cos() - u * turn.sin();
        let down = -away * eye.sin() - z * TALL * eye.cos();
        [self.origin[0] + across * self.size, self.origin[1] + down * self.size]
    }

    fn z(&self, value: f64) -> f64 {
        self.colors.scale.place(value)
    }

    /// Draws it.
    pub fn draw(&self, page: &mut Page<'_>) {
        self.walls(page);
        let (ts, ps) = (self.field.temperatures.len(), self.field.masses.len());
        // Away from the eye is low temperature and high top-p: those cells first.
        for t in 0..ts - 1 {
            for p in (0..ps - 1).rev() {
                match self.field.corners(t, p) {
                    Some(corners) => self.cell(page, [t, p], corners),
                    None => self.hole(page, [t, p]),
                }
            }
        }
        self.frame(page);
        self.labels(page);
        for &(t, p) in &self.field.ridge {
            if let Some(value) = self.field.values[t][p] {
                let at = self.project([self.t(t), self.p(p), self.z(value)]);
                point(&mut page.scene, Shape::Diamond, at, 1.9, INK);
            }
        }
    }

    fn t(&self, index: usize) -> f64 {
        self.x.place(self.field.temperatures[index])
    }

    fn p(&self, index: usize) -> f64 {
        self.y.place(self.field.masses[index])
    }

    /// A cell in pieces, each in the colour of its middle; lines where the grid was measured.
    fn cell(&self, page: &mut Page<'_>, [t, p]: [usize; 2], [v00, v10, v11, v01]: [f64; 4]) {
        let value =
            |a: f64, b: f64| v00 * (1.0 - a) * (1.0 - b) + v10 * a * (1.0 - b) + v11 * a * b + v01 * (1.0 - a) * b;
        let place = |a: f64, b: f64| {
            let (x, y) = (
                self.t(t) + (self.t(t + 1) - self.t(t)) * a,
                self.p(p) + (self.p(p + 1) - self.p(p)) * b,
            );
            self.project([x, y, self.z(value(a, b))])
        };
        let step = |index: usize| index as f64 / PIECES as f64;
        let mut mesh = Vec::new();
        for i in 0..PIECES {
            for j in (0..PIECES).rev() {
                let ([a, b], [c, d]) = ([step(i), step(i + 1)], [step(j), step(j + 1)]);
                let color = self.colors.at(value((a + b) / 2.0, (c + d) / 2.0));
                let corners = [place(a, c), place(b, c), place(b, d), place(a, d)];
                let path = Path::polygon(&corners);
                page.scene.fill(path.clone(), color);
                // A rim of its own colour closes the seam to its neighbours.
                page.scene.stroke(path, Line::solid(color, 0.35).rounded());
                // The floor turns the same way as a piece that is seen from above; others have no edges to see.
                if turn(&corners) < 0.0 {
                    let edges = [
                        (j == 0, 0, 1),
                        (i + 1 == PIECES, 1, 2),
                        (j + 1 == PIECES, 3, 2),
                        (i == 0, 0, 3),
                    ];
                    let seen = edges.into_iter().filter(|(edge, ..)| *edge);
                    mesh.extend(seen.map(|(_, from, to)| ([corners[from], corners[to]], mix(color, INK, 0.6))));
                }
            }
        }
        for (edge, color) in mesh {
            page.scene.stroke(Path::line(&edge), Line::solid(color, 0.45).rounded());
        }
    }

    /// A cell without a value: hatched on the floor.
    fn hole(&self, page: &mut Page<'_>, [t, p]: [usize; 2]) {
        let grey = Line::solid([0x99, 0x99, 0x99], 0.5);
        let at = |a: f64, b: f64| {
            let x = self.t(t) + (self.t(t + 1) - self.t(t)) * a;
            self.project([x, self.p(p) + (self.p(p + 1) - self.p(p)) * b, 0.0])
        };
        page.scene.stroke(
            Path::polygon(&[at(0.0, 0.0), at(1.0, 0.0), at(1.0, 1.0), at(0.0, 1.0)]),
            grey,
        );
        for index in 1..6 {
            let share = f64::from(index) / 6.0;
            page.scene.stroke(Path::line(&[at(share, 0.0), at(share, 1.0)]), grey);
        }
    }

    /// Floor and back walls with lines at the ticks.
    fn walls(&self, page: &mut Page<'_>) {
        let behind = Line::solid(GRID, 0.5);
        let quads = [
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]],
            [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]],
            [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]],
        ];
        for (quad, shade) in quads.iter().zip([0xF4, 0xFA, 0xF7]) {
            let corners: Vec<Point> = quad.iter().map(|corner| self.project(*corner)).collect();
            page.scene.fill(Path::polygon(&corners), [shade; 3]);
            page.scene.stroke(Path::polygon(&corners), behind);
        }
        let mut line = |corners: [[f64; 3]; 3]| {
            let points = corners.map(|corner| self.project(corner));
            page.scene.stroke(Path::line(&points), behind);
        };
        for tick in &self.x.ticks {
            let x = self.x.place(*tick);
            line([[x, 0.0, 0.0], [x, 1.0, 0.0], [x, 1.0, 1.0]]);
        }
        for tick in &self.y.ticks {
            let y = self.y.place(*tick);
            line([[1.0, y, 0.0], [0.0, y, 0.0], [0.0, y, 1.0]]);
        }
        for tick in &self.colors.scale.ticks {
            let z = self.z(*tick);
            line([[0.0, 0.0, z], [0.0, 1.0, z], [1.0, 1.0, z]]);
        }
    }

    /// The edges that carry the axes.
    fn frame(&self, page: &mut Page<'_>) {
        let edge = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]];
        let points = edge.map(|corner| self.project(corner));
        page.scene.stroke(Path::line(&points), Line::solid(INK, 0.6));
    }

    /// Ticks and labels of the three axes, outside the box.
    fn labels(&self, page: &mut Page<'_>) {
        let font = page.font;
        let tick = |page: &mut Page<'_>, from: Point, to: Point| {
            page.scene.stroke(Path::line(&[from, to]), Line::solid(INK, 0.5));
        };
        let mut free: Option<f64> = None;
        for value in &self.x.ticks {
            let at = self.x.place(*value);
            let (from, to) = (self.project([at, 0.0, 0.0]), self.project([at, -0.03, 0.0]));
            tick(page, from, to);
            let label = self.x.label(*value);
            let wide = font.width(&label, SMALL);
            if free.is_none_or(|free| to[0] - wide >= free) {
                page.text(
                    &Text::new(&label, SMALL, Anchor::End),
                    [to[0] + 0.5, to[1] + SMALL * 0.8 + 1.5],
                );
                free = Some(to[0] + 2.0);
            }
        }
        let mut free: Option<Point> = None;
        for value in &self.y.ticks {
            let at = self.y.place(*value);
            let (from, to) = (self.project([1.0, at, 0.0]), self.project([1.03, at, 0.0]));
            tick(page, from, to);
            let apart = |[x, y]: Point| to[0] - x >= 14.0 || y - to[1] >= SMALL;
            if free.is_none_or(apart) {
                let label = self.y.label(*value);
                page.text(
                    &Text::new(&label, SMALL, Anchor::Start),
                    [to[0] + 1.0, to[1] + SMALL * 0.7],
                );
                free = Some(to);
            }
        }
        let mut free = f64::INFINITY;
        for value in &self.colors.scale.ticks {
            let from = self.project([0.0, 0.0, self.z(*value)]);
            if from[1] + SMALL * 0.5 <= free {
                tick(page, from, [from[0] - 2.2, from[1]]);
                let label = self.colors.scale.label(*value);
                page.text(
                    &Text::new(&label, SMALL, Anchor::End),
                    [from[0] - 3.4, from[1] + SMALL * 0.35],
                );
                free = from[1] - SMALL * 0.5 - 1.0;
            }
        }
        self.names(page);
    }

    /// The names of the floor's axes, along them.
    fn names(&self, page: &mut Page<'_>) {
        let along = |from: Point, to: Point| {
            let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
            let length = dx.hypot(dy);
            [dx / length, dy / length]
        };
        let middle = |from: Point, to: Point| [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
        let below = |at: Point, [cos, sin]: Point, by: f64| [at[0] - sin * by, at[1] + cos * by];
        let edges = [
            ("temperature", [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], 18.5),
            ("top-p", [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], 23.0),
        ];
        for (name, from, to, by) in edges {
            let (from, to) = (self.project(from), self.project(to));
            let direction = along(from, to);
            let text = Text::new(name, TEXT, Anchor::Middle).along(direction);
            page.text(&text, below(middle(from, to), direction, by));
        }
    }
}

/// Twice the area of an outline, negative where it turns to the left on the page.
fn turn(points: &[Point; 4]) -> f64 {
    let next = |index: usize| points[(index + 1) % 4];
    (0..4)
        .map(|index| points[index][0] * next(index)[1] - next(index)[0] * points[index][1])
        .sum()
}
