//! `plot: flow`: every item as an arrow from one regime to the other in the plane of the first two principal components,
//! with the boundary between safe and unsafe; items that cross it are stressed.

use fracture_stage::Error;

use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::axes;
use crate::caption::{self, short};
use crate::glyphs::{Key, arrow};
use crate::groups::{Panel, beside, choose, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{BLUE, VERMILION};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Anchor, Color, INK, Line, Path, Point, Text, WHITE};

/// The most arrows that are drawn one by one; of more, those that stay are averaged over cells.
const MOST: usize = 400;
/// Cells along each side for that.
const CELLS: usize = 14;

const STAYS: Line = Line::solid([0xA8, 0xA8, 0xA8], 0.5);
const ENTERS: Line = Line::solid(VERMILION, 1.1);
const EXITS: Line = Line::solid(BLUE, 1.0).dashed(2.4, 1.0);
const MEAN: Line = Line::solid(INK, 1.8);
const BOUNDARY: Line = Line::solid(INK, 0.9).dashed(4.0, 2.0);
/// The unsafe side.
const UNSAFE: Color = [0xFB, 0xEE, 0xE6];

/// What a flow reads: `.arrows`, and `.components` and the summary where they are connected.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let drawn = required(&["x_train", "y_train", "x_deploy", "y_deploy"]);
    let optional = [
        "crossed",
        "exited",
        "share_x",
        "share_y",
        "boundary_x",
        "boundary_y",
        "boundary_offset",
        "item",
    ];
    let optional: Vec<&str> = optional.into_iter().chain(NOTED.iter().copied()).collect();
    let summary = [
        "n",
        "contrast",
        "entry",
        "exit",
        "boundary_auc",
        "med_drift",
        "relative_med_drift",
        "confidence",
    ];
    vec![
        Input::main(&["arrows"], needs(drawn, &optional)),
        Input::beside("flow", needs(Vec::new(), &summary)),
        Input::beside("components", needs(Vec::new(), &["component", "share", "contrast"])),
    ]
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Stays,
    Exits,
    Enters,
}

/// One panel.
struct Flow {
    panel: Panel,
    arrows: Vec<(Fate, Point, Point)>,
    /// The line a·x + b·y + c = 0, unsafe where it is positive.
    boundary: Option<[f64; 3]>,
    shares: [Option<f64>; 2],
    sentence: Option<String>,
}

/// Draws the flow.
///
/// # Errors
/// When no item has a place, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &[])?;
    let mut others = Vec::new();
    for place in 1..3 {
        others.push(
            drawing
                .beside(place)
                .map(|table| beside(table, &rows, parameters))
                .transpose()?,
        );
    }
    let mut flows = Vec::new();
    for panel in panels(&rows, parameters, &[])? {
        flows.push(flow(&rows, panel, &others)?);
    }
    if flows.iter().all(|flow| flow.arrows.is_empty()) {
        return Err(Error::task(
            "there is nothing to draw: no item has a place in both regimes",
        ));
    }
    let layout = Layout::of(&Need {
        count: flows.len(),
        wide: [120.0, 235.0],
        left: MARGIN + TEXT + 6.0,
        right: 2.0,
        gap: TEXT + 9.0,
        height: Height::Share(0.82, 190.0),
        head: 3.0,
        foot: TEXT + 5.0,
        page: parameters.page(),
        titled: flows.iter().any(|flow| !flow.panel.title.is_empty()),
    });
    let mut page = Page::new(
        drawing.font,
        layout.width,
        drawing.title(),
        "Manifold flow of completions",
    );
    page.legend(&legend(&flows));
    let top = page.y;
    for (index, flow) in flows.iter().enumerate() {
        contents(&mut page, flow, &layout.rect(index, top));
    }
    page.y = layout.bottom(top) - 2.0;
    let shown: Vec<&str> = flows
        .iter()
        .flat_map(|flow| &flow.panel.values)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut facts = caption::facts(&rows, "prompts", &shown, &notes);
    if rows.column("n").is_none() && others[0].as_ref().is_none_or(|summary| summary.column("n").is_none()) {
        let counts: Vec<usize> = flows.iter().map(|flow| flow.arrows.len()).collect();
        let (low, high) = (
            counts.iter().min().copied().unwrap_or(0),
            counts.iter().max().copied().unwrap_or(0),
        );
        facts.push(if low == high {
            format!("n = {low} prompts")
        } else {
            format!("n = {low}–{high} prompts")
        });
    }
    if let Some(summary) = &others[0] {
        let more = caption::facts(summary, "prompts", &shown, &notes);
        facts.extend(
            more.into_iter()
                .filter(|fact| !facts.contains(fact))
                .collect::<Vec<_>>(),
        );
    }
    let mut sentences = vec!["equal scales on both axes".to_owned()];
    if flows.iter().any(|flow| flow.arrows.len() > MOST) {
        sentences.push("grey arrows are means over cells".to_owned());
    }
    sentences.extend(flows.iter().filter_map(|flow| flow.sentence.clone()));
    sentences.extend(notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

fn flow(rows: &Rows, panel: Panel, others: &[Option<Rows>]) -> Result<Flow, Error> {
    let columns = ["x_train", "y_train", "x_deploy", "y_deploy"];
    let mut places = Vec::with_capacity(4);
    for name in columns {
        places.push(rows.values(name)?);
    }
    let (crossed, exited) = (rows.flags("crossed"), rows.flags("exited"));
    let item = |&row: &usize| {
        let [x, y, to_x, to_y] = [0, 1, 2, 3].map(|place: usize| places[place][row]);
        let fate = match (crossed[row], exited[row]) {
            (true, _) => Fate::Enters,
            (_, true) => Fate::Exits,
            _ => Fate::Stays,
        };
        Some((fate, [x?, y?], [to_x?, to_y?]))
    };
    let mut arrows: Vec<(Fate, Point, Point)> = panel.rows.iter().filter_map(item).collect();
    // From back to front, and the same whatever the order of the rows.
    let number = |(fate, from, to): &(Fate, Point, Point)| (*fate, [from[0], from[1], to[0], to[1]]);
    arrows.sort_by(|one, other| {
        let (one, other) = (number(one), number(other));
        let numbers = one.1.iter().zip(&other.1).map(|(one, other)| one.total_cmp(other));
        one.0
            .cmp(&other.0)
            .then_with(|| numbers.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then))
    });
    let first = |name: &str| panel.rows.iter().find_map(|row| rows.maybe(name)[*row]);
    let boundary = ["boundary_x", "boundary_y", "boundary_offset"].map(first);
    let shares = match (first("share_x"), first("share_y"), &others[1]) {
        (None, None, Some(components)) => {
            let own = panel.of(components)?;
            let (number, share) = (own.maybe("component"), own.maybe("share"));
            let of = |wanted: f64| {
                number
                    .iter()
                    .position(|one| *one == Some(wanted))
                    .and_then(|row| share[row])
            };
            [of(1.0), of(2.0)]
        }
        (x, y, _) => [x, y],
    };
    let summary = others[0].as_ref().map(|summary| panel.of(summary)).transpose()?;
    Ok(Flow {
        boundary: match boundary {
            [Some(a), Some(b), Some(c)] if a != 0.0 || b != 0.0 => Some([a, b, c]),
            _ => None,
        },
        sentence: summary.and_then(|summary| sentence(&panel, &summary)),
        panel,
        arrows,
        shares,
    })
}

fn sentence(panel: &Panel, summary: &Rows) -> Option<String> {
    let value = |name: &str| summary.maybe(name).into_iter().flatten().next().map(short);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(value("med_drift").map(|value| format!("MedDrift {value}")));
    parts.extend(value("relative_med_drift").map(|value| format!("{value} times the A/A drift")));
    parts.extend(value("entry").map(|value| format!("Entry {value}")));
    parts.extend(value("exit").map(|value| format!("Exit {value}")));
    parts.extend(value("boundary_auc").map(|value| format!("AUC {value}")));
    let place = if panel.title.is_empty() {
        String::new()
    } else {
        format!("{}: ", panel.title)
    };
    (!parts.is_empty()).then(|| format!("{place}{}", parts.join(", ")))
}

fn legend(flows: &[Flow]) -> Vec<(Key, String)> {
    let any = |fate: Fate| {
        flows
            .iter()
            .any(|flow| flow.arrows.iter().any(|(one, ..)| *one == fate))
    };
    let mut entries = vec![(Key::Arrow(STAYS), "stays on its side".to_owned())];
    if any(Fate::Enters) {
        entries.push((Key::Arrow(ENTERS), "enters the unsafe side".to_owned()));
    }
    if any(Fate::Exits) {
        entries.push((Key::Arrow(EXITS), "leaves it".to_owned()));
    }
    entries.push((Key::Arrow(MEAN), "mean".to_owned()));
    if flows.iter().any(|flow| flow.boundary.is_some()) {
        entries.push((Key::Line(BOUNDARY), "boundary".to_owned()));
        entries.push((Key::Filled(UNSAFE), "unsafe side".to_owned()));
    }
    entries
}

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

fn contents(page: &mut Page<'_>, flow: &Flow, rect: &Rect) {
    let font = page.font;
    if !flow.panel.title.is_empty() {
        axes::title(&mut page.scene, font, rect, &flow.panel.title);
    }
    let plane = Plane::of(flow, rect);
    boundary(page, flow, &plane);
    let (ends, stay): (Vec<_>, Vec<_>) = flow.arrows.iter().partition(|(fate, ..)| *fate != Fate::Stays);
    if flow.arrows.len() > MOST {
        for (from, to) in averaged(&stay, &plane) {
            arrow(&mut page.scene, from, to, STAYS);
        }
    } else {
        for (_, from, to) in &stay {
            arrow(&mut page.scene, plane.at(*from), plane.at(*to), STAYS);
        }
    }
    for (fate, from, to) in &ends {
        let (from, to) = (plane.at(*from), plane.at(*to));
        let line = if *fate == Fate::Enters { ENTERS } else { EXITS };
        arrow(&mut page.scene, from, to, line);
        page.scene.fill(Path::circle(from, 1.3), WHITE);
        page.scene.stroke(Path::circle(from, 1.3), Line::solid(line.color, 0.7));
    }
    if let Some((from, to)) = mean(&flow.arrows) {
        let (from, to) = (plane.at(from), plane.at(to));
        page.scene
            .stroke(Path::line(&[from, to]), Line::solid(WHITE, 3.4).rounded());
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

/// Mean arrows of the items that start in each cell of the plot.
fn averaged(arrows: &[&(Fate, Point, Point)], plane: &Plane) -> Vec<(Point, Point)> {
    let mut cells = vec![(0usize, [0.0f64; 4]); CELLS * CELLS];
    for (_, from, to) in arrows {
        let (from, to) = (plane.at(*from), plane.at(*to));
        let cell = |at: f64, start: f64, size: f64| (((at - start) / size * CELLS as f64) as usize).min(CELLS - 1);
        let column = cell(from[0], plane.rect.x, plane.rect.w);
        let row = cell(from[1], plane.rect.y, plane.rect.h);
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

/// The unsafe side and the boundary, clipped to the plot.
fn boundary(page: &mut Page<'_>, flow: &Flow, plane: &Plane) {
    let Some([a, b, c]) = flow.boundary else { return };
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
    if inside.len() > 2 {
        page.scene.fill(Path::polygon(&inside), UNSAFE);
    }
    if let [from, to] = cut[..] {
        page.scene.stroke(Path::line(&[from, to]), BOUNDARY);
    }
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
