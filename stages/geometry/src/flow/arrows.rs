//! The rows of `.arrows` and `.components`: the moves in the plane of the first two principal components.

use arrow::array::LargeStringArray;
use arrow::record_batch::RecordBatch;
use fracture_measure::read;
use fracture_measure::table::{self, Column, Lead, count, flag, number, text};
use fracture_science::{Plane, Principal, principal_components};
use fracture_stage::{Error, Field, Schema};

use super::items::Items;

/// Components whose shares are told.
const COMPONENTS_TOLD: usize = 10;

/// The move of one item.
pub struct Arrow {
    pub group: usize,
    contrast: String,
    item: Option<String>,
    first: [f64; 2],
    second: [f64; 2],
    /// The unsafe-side scores under both regimes.
    sides: Option<[f64; 2]>,
    /// Shares of the variance along x and y.
    shares: [f64; 2],
    line: Option<[f64; 3]>,
}

impl Arrow {
    fn moves(&self, from_unsafe: bool) -> Option<bool> {
        let [first, second] = self.sides?.map(|side| side >= 0.0);
        Some(first == from_unsafe && second != from_unsafe)
    }
}

/// Its columns behind the group columns. The boundary meets the plane where
/// `boundary_x * x + boundary_y * y + boundary_offset` is 0; it is positive on the unsafe side.
pub const ARROWS: &[Column<Arrow>] = &[
    text("contrast", |arrow| Some(&arrow.contrast)),
    text("item", |arrow| arrow.item.as_deref()),
    number("x_train", |arrow| Some(arrow.first[0])),
    number("y_train", |arrow| Some(arrow.first[1])),
    number("x_deploy", |arrow| Some(arrow.second[0])),
    number("y_deploy", |arrow| Some(arrow.second[1])),
    flag("crossed", |arrow| arrow.moves(false)),
    flag("exited", |arrow| arrow.moves(true)),
    number("side_train", |arrow| arrow.sides.map(|sides| sides[0])),
    number("side_deploy", |arrow| arrow.sides.map(|sides| sides[1])),
    number("share_x", |arrow| Some(arrow.shares[0])),
    number("share_y", |arrow| Some(arrow.shares[1])),
    number("boundary_x", |arrow| arrow.line.map(|line| line[0])),
    number("boundary_y", |arrow| arrow.line.map(|line| line[1])),
    number("boundary_offset", |arrow| arrow.line.map(|line| line[2])),
];

/// A component of a group's points.
pub struct Component {
    pub group: usize,
    contrast: String,
    number: usize,
    share: f64,
}

/// Its columns behind the group columns.
pub const COMPONENTS: &[Column<Component>] = &[
    text("contrast", |component| Some(&component.contrast)),
    count("component", |component| component.number),
    number("share", |component| Some(component.share)),
];

/// The names that group columns can not have. Groups by item are the items themselves.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = ARROWS.iter().map(|column| column.name).filter(|name| *name != "item");
    own.chain(COMPONENTS.iter().map(|column| column.name))
}

/// The schema of the arrows.
pub fn schema(by: Option<&[Field]>) -> Schema {
    table::schema(by, ARROWS)
}

/// The table of the arrows.
pub fn batch(lead: Vec<Lead>, arrows: &[Arrow]) -> Result<RecordBatch, Error> {
    table::batch(lead, ARROWS, arrows)
}

/// What is drawn of a group under a contrast.
pub struct Drawn<'a> {
    pub group: usize,
    pub contrast: &'a str,
    pub items: &'a Items,
    /// The unsafe-side scores, item by item.
    pub scores: &'a [Option<[f64; 2]>],
    /// The boundary to be drawn.
    pub plane: Option<&'a Plane>,
    /// The items' names, row by row over all verdicts.
    pub names: &'a LargeStringArray,
}

impl Drawn<'_> {
    /// Adds the rows of both tables: the arrows by name, then by where they lie.
    pub fn push(&self, arrows: &mut Vec<Arrow>, components: &mut Vec<Component>) {
        let points = |side: usize| self.items.paired.iter().map(move |item| item.points[side].as_slice());
        let all: Vec<&[f64]> = points(0).chain(points(1)).collect();
        let principal = principal_components(&all, COMPONENTS_TOLD);
        let start = arrows.len();
        arrows.extend(self.arrows(&principal));
        let place = |arrow: &Arrow| [arrow.first, arrow.second].concat();
        arrows[start..].sort_by(|a, b| {
            let (p, q) = (place(a), place(b));
            let differs = p
                .iter()
                .zip(&q)
                .map(|(x, y)| x.total_cmp(y))
                .find(|order| order.is_ne());
            a.item.cmp(&b.item).then(differs.unwrap_or(std::cmp::Ordering::Equal))
        });
        components.extend(principal.shares.iter().enumerate().map(|(index, share)| Component {
            group: self.group,
            contrast: self.contrast.to_owned(),
            number: index + 1,
            share: *share,
        }));
    }

    fn arrows<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = Arrow> + 'a {
        let coordinate = |all: &[f64], axis: usize| all.get(axis).copied().unwrap_or(0.0);
        let shares = [coordinate(&principal.shares, 0), coordinate(&principal.shares, 1)];
        let line = self.plane.and_then(|plane| principal.line(plane));
        let flat = move |point: &[f64]| {
            let along = principal.project(point);
            [coordinate(&along, 0), coordinate(&along, 1)]
        };
        self.items
            .paired
            .iter()
            .zip(self.scores)
            .map(move |(item, sides)| Arrow {
                group: self.group,
                contrast: self.contrast.to_owned(),
                item: read::at(self.names, item.row).map(str::to_owned),
                first: flat(&item.points[0]),
                second: flat(&item.points[1]),
                sides: *sides,
                shares,
                line,
            })
    }
}
