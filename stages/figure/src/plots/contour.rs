//! `plot: contour`: a value over temperature × top-p as a map: bands between lines of equal value, the measured cells, the
//! ridge, and the staircase of caps that keep a risk budget.

use fracture_stage::Error;

use super::colorbar::{self, Colors};
use super::field::{self, Field, GRID};
use super::{Drawing, Drawn, Input, needs};
use crate::axes;
use crate::caption::{self, brief, short};
use crate::glyphs::{Key, Shape, hatched, point};
use crate::groups::{Panel, beside, choose, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{lightness, mix};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Anchor, GREY, INK, Line, Path, Point, Text, WHITE};

/// The staircase.
const CAP: Line = Line::solid(INK, 1.3).dashed(4.0, 1.6);

/// What a contour map reads: the grid, and the caps where they are connected.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let caps = [
        "budget",
        "temperature",
        "top_p",
        "before",
        "after",
        "chosen",
        "contrast",
        "aggregate",
        "half",
    ];
    vec![
        field::input(parameters),
        Input::beside("caps", needs(Vec::new(), &caps)),
    ]
}

/// Draws a contour map.
///
/// # Errors
/// When the grid has no surface, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let name = field::value(parameters);
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, GRID)?;
    let all = drawing
        .beside(1)
        .map(|caps| beside(caps, &rows, parameters))
        .transpose()?;
    let mut maps = Vec::new();
    for panel in panels(&rows, parameters, GRID)? {
        let caps = all.as_ref().map(|caps| panel.of(caps)).transpose()?;
        maps.push((Field::of(&rows, &panel, name)?, panel, caps.map(|caps| Caps::of(&caps))));
    }
    let values: Vec<f64> = maps.iter().flat_map(|(field, ..)| field.all()).collect();
    if values.is_empty() {
        return Err(Error::task(format!("there is nothing to draw: `{name}` has no value")));
    }
    let colors = Colors::of(values.iter().copied());
    let left = MARGIN + TEXT + 5.0 + axes::label_room(drawing.font, &maps[0].0.mass_scale());
    let layout = Layout::of(&Need {
        count: maps.len(),
        wide: [110.0, 300.0],
        left,
        right: 6.0,
        gap: 10.0,
        height: Height::Share(0.72, 150.0),
        head: 4.0,
        foot: TEXT + 5.0,
        page: parameters.page(),
        titled: maps.iter().any(|(_, panel, _)| !panel.title.is_empty()),
    });
    let named = format!("{} over temperature and top-p", brief(name));
    let mut page = Page::new(drawing.font, layout.width, drawing.title(), &named);
    colorbar::draw(&mut page, &colors, &brief(name), true);
    let top = page.y;
    for (index, (field, panel, caps)) in maps.iter().enumerate() {
        let rect = layout.rect(index, top);
        contents(
            &mut page,
            field,
            panel,
            caps.as_ref(),
            &colors,
            &rect,
            layout.first(index),
        );
    }
    page.y = layout.bottom(top) + TEXT - 1.0;
    axes::foot(&mut page.scene, drawing.font, [layout.middle(), page.y], "temperature");
    page.y += 1.0;
    page.legend(&legend(&maps));
    let mut sentences = notes.clone();
    let missing: Vec<String> = maps.iter().flat_map(|(field, ..)| field.missing()).collect();
    if !missing.is_empty() {
        sentences.push(format!("no result: {}", caption::few(&missing)));
    }
    sentences.extend(
        maps.iter()
            .filter_map(|(_, panel, caps)| caps.as_ref()?.sentence(panel)),
    );
    let mut shown = GRID.to_vec();
    shown.extend(
        maps.iter()
            .flat_map(|(_, panel, _)| &panel.values)
            .map(|(name, _)| name.as_str()),
    );
    let facts = caption::facts(&rows, "prompts per cell", &shown, &notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

fn legend(maps: &[(Field, Panel, Option<Caps>)]) -> Vec<(Key, String)> {
    let mut entries = vec![(Key::Point(Shape::Ring, GREY), "measured".to_owned())];
    if maps.iter().any(|(field, ..)| !field.ridge.is_empty()) {
        entries.push((Key::Point(Shape::Diamond, INK), "ridge".to_owned()));
    }
    let budget = maps
        .iter()
        .find_map(|(.., caps)| caps.as_ref().filter(|caps| !caps.stairs.is_empty()));
    if let Some(caps) = budget {
        let budget = caps.budget.map_or_else(
            || "the budget".to_owned(),
            |budget| format!("the budget {}", short(budget)),
        );
        entries.push((Key::Line(CAP), format!("caps that keep {budget}")));
        if maps
            .iter()
            .any(|(.., caps)| caps.as_ref().is_some_and(|caps| caps.chosen.is_some()))
        {
            entries.push((Key::Point(Shape::Disc, INK), "chosen cap".to_owned()));
        }
    }
    if maps.iter().any(|(field, ..)| !field.missing().is_empty()) {
        entries.push((Key::Hatched, "no result".to_owned()));
    }
    entries
}

/// The caps of a panel.
struct Caps {
    budget: Option<f64>,
    /// Temperature and top-p of each, temperature ascending.
    stairs: Vec<[f64; 2]>,
    chosen: Option<[f64; 2]>,
    /// The greatest value before and after the chosen cap.
    change: Option<[f64; 2]>,
}

impl Caps {
    fn of(rows: &Rows) -> Self {
        let (temperature, mass) = (rows.maybe("temperature"), rows.maybe("top_p"));
        let (before, after) = (rows.maybe("before"), rows.maybe("after"));
        let flags = rows.flags("chosen");
        let mut stairs: Vec<[f64; 2]> = temperature
            .iter()
            .zip(&mass)
            .filter_map(|(t, p)| Some([(*t)?, (*p)?]))
            .collect();
        stairs.sort_by(|one, other| one[0].total_cmp(&other[0]).then(other[1].total_cmp(&one[1])));
        stairs.dedup();
        let picked = flags.iter().position(|flag| *flag).or((stairs.len() == 1).then_some(0));
        let at = |column: &[Option<f64>], row: usize| column.get(row).copied().flatten();
        Self {
            budget: rows.maybe("budget").into_iter().flatten().next(),
            chosen: picked.and_then(|row| Some([at(&temperature, row)?, at(&mass, row)?])),
            change: picked.and_then(|row| Some([at(&before, row)?, at(&after, row)?])),
            stairs,
        }
    }

    /// What the caps do, for the caption.
    fn sentence(&self, panel: &Panel) -> Option<String> {
        let place = if panel.title.is_empty() {
            String::new()
        } else {
            format!("{}: ", panel.title)
        };
        if self.stairs.is_empty() {
            return Some(format!("{place}no cap meets the budget"));
        }
        let ([t, p], [before, after]) = (self.chosen?, self.change?);
        Some(format!(
            "{place}T ≤ {}, top-p ≤ {}: worst cell {} → {} on the held-out half",
            short(t),
            short(p),
            short(before),
            short(after)
        ))
    }
}

fn contents(
    page: &mut Page<'_>,
    field: &Field,
    panel: &Panel,
    caps: Option<&Caps>,
    colors: &Colors,
    rect: &Rect,
    first: bool,
) {
    let font = page.font;
    let (x, y) = (field.temperature_scale(), field.mass_scale());
    let triangles = triangles(field, rect, &x, &y);
    holes(page, field, rect, &x, &y);
    for pair in colors.scale.ticks.windows(2) {
        // One path a level: abutting pieces of one path show no seam.
        let mut path = Path::default();
        for triangle in &triangles {
            let above = above(triangle, pair[0]);
            if above.len() > 2 {
                path.extend(Path::polygon(&above));
            }
        }
        page.scene.fill(path, colors.band(pair[0], pair[1]));
    }
    for level in colors.scale.ticks.iter().skip(1) {
        isoline(page, &triangles, *level, colors, rect);
    }
    for (t, line) in field.values.iter().enumerate() {
        for (p, value) in line.iter().enumerate() {
            if value.is_some() {
                let at = place(rect, &x, &y, [field.temperatures[t], field.masses[p]]);
                page.scene.fill(Path::circle(at, 1.1), WHITE);
                page.scene.stroke(Path::circle(at, 1.1), Line::solid(GREY, 0.5));
            }
        }
    }
    axes::frame(&mut page.scene, rect);
    axes::below(&mut page.scene, font, rect, &x);
    axes::left(&mut page.scene, font, rect, &y, first);
    if first {
        axes::side(&mut page.scene, font, MARGIN + TEXT, rect, "top-p");
    }
    if !panel.title.is_empty() {
        axes::title(&mut page.scene, font, rect, &panel.title);
    }
    if let Some(caps) = caps {
        staircase(page, caps, field, rect, [&x, &y]);
    }
    for &(t, p) in &field.ridge {
        let at = place(rect, &x, &y, [field.temperatures[t], field.masses[p]]);
        point(&mut page.scene, Shape::Diamond, at, 2.1, INK);
    }
}

fn place(rect: &Rect, x: &Scale, y: &Scale, [t, p]: [f64; 2]) -> Point {
    [axes::across(rect, x, t), axes::up(rect, y, p)]
}

/// A corner with its value.
type Corner = (Point, f64);

/// Every cell as four triangles around its middle.
fn triangles(field: &Field, rect: &Rect, x: &Scale, y: &Scale) -> Vec<[Corner; 3]> {
    let mut all = Vec::new();
    for t in 0..field.temperatures.len() - 1 {
        for p in 0..field.masses.len() - 1 {
            let Some(values) = field.corners(t, p) else { continue };
            let places = [[t, p], [t + 1, p], [t + 1, p + 1], [t, p + 1]];
            let points = places.map(|[t, p]| place(rect, x, y, [field.temperatures[t], field.masses[p]]));
            let middle = [(points[0][0] + points[2][0]) / 2.0, (points[0][1] + points[2][1]) / 2.0];
            let mean = values.iter().sum::<f64>() / 4.0;
            for corner in 0..4 {
                let next = (corner + 1) % 4;
                all.push([
                    (points[corner], values[corner]),
                    (points[next], values[next]),
                    (middle, mean),
                ]);
            }
        }
    }
    all
}

/// Where a value is crossed between two corners.
fn crossing(one: Corner, other: Corner, level: f64) -> Point {
    let share = (level - one.1) / (other.1 - one.1);
    let part = |axis: usize| one.0[axis] + (other.0[axis] - one.0[axis]) * share;
    [part(0), part(1)]
}

/// The part of a triangle whose value is at least `level`.
fn above(triangle: &[Corner; 3], level: f64) -> Vec<Point> {
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

/// The line of a value, with its label where there is most room for it.
fn isoline(page: &mut Page<'_>, triangles: &[[Corner; 3]], level: f64, colors: &Colors, rect: &Rect) {
    let mut path = Path::default();
    let mut best: Option<(f64, Point)> = None;
    for triangle in triangles {
        let mut ends = Vec::with_capacity(2);
        for index in 0..3 {
            let (one, other) = (triangle[index], triangle[(index + 1) % 3]);
            if (one.1 >= level) != (other.1 >= level) {
                ends.push(crossing(one, other, level));
            }
        }
        let [from, to] = ends[..] else { continue };
        path.extend(Path::line(&[from, to]));
        let middle = [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
        let edge = (middle[0] - rect.x)
            .min(rect.right() - middle[0])
            .min(middle[1] - rect.y)
            .min(rect.bottom() - middle[1]);
        if best.is_none_or(|(room, _)| edge > room + 1e-9) {
            best = Some((edge, middle));
        }
    }
    let color = colors.at(level);
    let line = if lightness(color) > 0.45 {
        mix(color, INK, 0.7)
    } else {
        WHITE
    };
    page.scene.stroke(path, Line::solid(line, 0.5).rounded());
    if let Some((room, [x, y])) = best
        && room > 9.0
    {
        let label = colors.scale.label(level);
        let font = page.font;
        page.scene
            .rimmed(font, &Text::new(&label, SMALL, Anchor::Middle), [x, y + SMALL * 0.35]);
    }
}

/// Cells without a value.
fn holes(page: &mut Page<'_>, field: &Field, rect: &Rect, x: &Scale, y: &Scale) {
    for t in 0..field.temperatures.len() - 1 {
        for p in 0..field.masses.len() - 1 {
            if field.corners(t, p).is_none() {
                let [left, bottom] = place(rect, x, y, [field.temperatures[t], field.masses[p]]);
                let [right, top] = place(rect, x, y, [field.temperatures[t + 1], field.masses[p + 1]]);
                hatched(&mut page.scene, [left, top, right - left, bottom - top]);
            }
        }
    }
}

/// The edge of what the caps allow: every setting below and left of it is within one of them.
fn staircase(page: &mut Page<'_>, caps: &Caps, field: &Field, rect: &Rect, [x, y]: [&Scale; 2]) {
    let Some(&[_, highest]) = caps.stairs.first() else {
        return;
    };
    // Half a line inside the frame, so that a cap at the end of the grid is seen.
    let at = |t: f64, p: f64| {
        let [across, up] = place(rect, x, y, [t, p]);
        [
            across.clamp(rect.x + 1.0, rect.right() - 1.0),
            up.clamp(rect.y + 1.0, rect.bottom() - 1.0),
        ]
    };
    let mut corners = vec![at(field.temperatures[0], highest)];
    for (index, &[t, p]) in caps.stairs.iter().enumerate() {
        corners.push(at(t, p));
        let next = caps.stairs.get(index + 1).map_or(field.masses[0], |next| next[1]);
        corners.push(at(t, next));
    }
    page.scene.stroke(Path::line(&corners), Line::solid(WHITE, 2.6));
    page.scene.stroke(Path::line(&corners), CAP);
    if let Some([t, p]) = caps.chosen {
        point(&mut page.scene, Shape::Disc, at(t, p), 2.4, INK);
    }
}
