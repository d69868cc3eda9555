//! Bands between lines of equal value over a field that is interpolated between four measured settings.

use super::super::field::Field;
use crate::axes::{across, up};
use crate::layout::Rect;
use crate::scale::Scale;
use crate::scene::{Path, Point};

/// Pieces along each side of a cell that a line crosses.
const PIECES: usize = 6;

/// A corner with its value.
type Corner = (Point, f64);

/// A cell between four measured settings, on the page.
struct Cell {
    corners: [Corner; 4],
}

impl Cell {
    fn at(&self, a: f64, b: f64) -> Corner {
        let [one, two, three, four] = &self.corners;
        let weights = [(1.0 - a) * (1.0 - b), a * (1.0 - b), a * b, (1.0 - a) * b];
        let value = one.1 * weights[0] + two.1 * weights[1] + three.1 * weights[2] + four.1 * weights[3];
        let x = one.0[0] + (three.0[0] - one.0[0]) * a;
        let y = one.0[1] + (three.0[1] - one.0[1]) * b;
        ([x, y], value)
    }

    /// The cell in triangles that are small enough for straight lines.
    fn triangles(&self) -> Vec<[Corner; 3]> {
        let share = |index: usize| index as f64 / PIECES as f64;
        let mut all = Vec::with_capacity(2 * PIECES * PIECES);
        for i in 0..PIECES {
            for j in 0..PIECES {
                let (a, b, c, d) = (share(i), share(i + 1), share(j), share(j + 1));
                let [one, two, three, four] = [self.at(a, c), self.at(b, c), self.at(b, d), self.at(a, d)];
                all.extend([[one, two, three], [one, three, four]]);
            }
        }
        all
    }
}

/// A field on the page.
pub struct Bands {
    cells: Vec<Cell>,
}

impl Bands {
    /// The cells whose four corners have a value.
    pub fn new(field: &Field, rect: &Rect, x: &Scale, y: &Scale) -> Self {
        let mut cells = Vec::new();
        for t in 0..field.temperatures.len() - 1 {
            for p in 0..field.masses.len() - 1 {
                let Some(values) = field.corners(t, p) else { continue };
                let places = [[t, p], [t + 1, p], [t + 1, p + 1], [t, p + 1]];
                let point = |[t, p]: [usize; 2]| [across(rect, x, field.temperatures[t]), up(rect, y, field.masses[p])];
                let points = places.map(point);
                let corners = [0, 1, 2, 3].map(|index: usize| (points[index], values[index]));
                cells.push(Cell { corners });
            }
        }
        Self { cells }
    }

    /// Where the value is at least `level`: one path, so that its pieces show no seams.
    pub fn above(&self, level: f64) -> Path {
        let mut path = Path::default();
        for cell in &self.cells {
            let inside = cell.corners.iter().filter(|corner| corner.1 >= level).count();
            if inside == 4 {
                path.extend(Path::polygon(&cell.corners.map(|corner| corner.0)));
            } else if inside > 0 {
                for triangle in cell.triangles() {
                    let part = part_above(&triangle, level);
                    if part.len() > 2 {
                        path.extend(Path::polygon(&part));
                    }
                }
            }
        }
        path
    }

    /// The pieces of the line of a value.
    pub fn line(&self, level: f64) -> Vec<[Point; 2]> {
        let mut all = Vec::new();
        for cell in &self.cells {
            let inside = cell.corners.iter().filter(|corner| corner.1 >= level).count();
            if inside == 0 || inside == 4 {
                continue;
            }
            for triangle in cell.triangles() {
                let sides = [0, 1, 2].map(|index: usize| (triangle[index], triangle[(index + 1) % 3]));
                let crossed = sides
                    .into_iter()
                    .filter(|(one, other)| (one.1 >= level) != (other.1 >= level));
                let ends: Vec<Point> = crossed.map(|(one, other)| crossing(one, other, level)).collect();
                if let [from, to] = ends[..] {
                    all.push([from, to]);
                }
            }
        }
        all
    }
}

/// Where a value is crossed between two corners.
fn crossing(one: Corner, other: Corner, level: f64) -> Point {
    let share = (level - one.1) / (other.1 - one.1);
    let part = |axis: usize| one.0[axis] + (other.0[axis] - one.0[axis]) * share;
    [part(0), part(1)]
}

/// The part of a triangle whose value is at least `level`.
fn part_above(triangle: &[Corner; 3], level: f64) -> Vec<Point> {
    let mut points = Vec::with_capacity(4);
    for index in 0..3 {
        let (one, other) = (triangle[index], triangle[(index + 1) % 3]);
        if one.1 >= level {
            points.push(one.0);
        }
        if (one.1 >= level) != (other.1 >= level) {
            points.push(crossing(one, other, level));
        }
    }
    points
}
