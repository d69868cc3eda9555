//! `plot: contour`: a value over temperature × top-p as a map: bands between lines of equal value, the measured cells, the
//! ridge, and the staircase of caps that keep a risk budget.

mod bands;
mod caps;

use fracture_stage::Error;

use self::bands::Bands;
use self::caps::Caps;
pub use self::caps::reported;
use super::colorbar::{self, Colors};
use super::field::{self, Field, GRID};
use super::{Drawing, Drawn, Input, needs};
use crate::axes;
use crate::caption::{self, brief, short};
use crate::glyphs::{Key, Shape, hatched, point};
use crate::groups::{Panel, beside, choose, each, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{lightness, mix};
use crate::parameters::FigureParameters;
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
    for panel in panels(&rows, parameters, GRID, &[])? {
        let caps = all.as_ref().map(|caps| panel.of(caps)).transpose()?;
        let caps = caps.map(|caps| Caps::all(&caps)).transpose()?;
        maps.push((Field::of(&rows, &panel, name)?, panel, caps.unwrap_or_default()));
    }
    let values: Vec<f64> = maps.iter().flat_map(|(field, ..)| field.all()).collect();
    if values.is_empty() {
        return Err(Error::task(format!("there is nothing to draw: `{name}` has no value")));
    }
    let colors = Colors::with_steps(values.iter().copied(), 9);
    let left = MARGIN + TEXT + 5.0 + axes::label_room(drawing.font, &maps[0].0.mass_scale());
    let layout = Layout::of(&Need {
        count: maps.len(),
        wide: [110.0, 300.0],
        left,
        right: 6.0,
        gap: 17.0,
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
    let spoken = maps.iter().map(|(_, panel, caps)| (panel, said(caps)));
    sentences.extend(each(spoken));
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

/// What the caps of all budgets do.
fn said(caps: &[Caps]) -> Option<String> {
    let all: Vec<String> = caps.iter().filter_map(Caps::sentence).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn legend(maps: &[(Field, Panel, Vec<Caps>)]) -> Vec<(Key, String)> {
    let mut entries = vec![(Key::Point(Shape::Ring, GREY), "measured".to_owned())];
    if maps.iter().any(|(field, ..)| !field.ridge.is_empty()) {
        entries.push((Key::Point(Shape::Diamond, INK), "ridge".to_owned()));
    }
    let drawn = || {
        maps.iter()
            .flat_map(|(.., caps)| caps)
            .filter(|caps| !caps.stairs.is_empty())
    };
    if drawn().next().is_some() {
        let mut budgets: Vec<f64> = drawn().filter_map(|caps| caps.budget).collect();
        budgets.sort_by(f64::total_cmp);
        budgets.dedup();
        let budgets: Vec<String> = budgets.into_iter().map(short).collect();
        let name = if budgets.len() > 1 { "budgets" } else { "budget" };
        entries.push((
            Key::Line(CAP),
            format!("caps that keep the {name} {}", budgets.join(", ")),
        ));
        if drawn().any(|caps| caps.chosen.is_some()) {
            entries.push((Key::Point(Shape::Disc, INK), "chosen cap".to_owned()));
        }
    }
    if maps.iter().any(|(field, ..)| !field.missing().is_empty()) {
        entries.push((Key::Hatched, "no result".to_owned()));
    }
    entries
}

fn contents(
    page: &mut Page<'_>,
    field: &Field,
    panel: &Panel,
    caps: &[Caps],
    colors: &Colors,
    rect: &Rect,
    first: bool,
) {
    let font = page.font;
    let (x, y) = (field.temperature_scale(), field.mass_scale());
    let bands = Bands::new(field, rect, &x, &y);
    holes(page, field, rect, &x, &y);
    for pair in colors.scale.ticks.windows(2) {
        page.scene.fill(bands.above(pair[0]), colors.band(pair[0], pair[1]));
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
    // What labels keep away from.
    let mut taken: Vec<Point> = Vec::new();
    for (t, line) in field.values.iter().enumerate() {
        for (p, _) in line.iter().enumerate().filter(|(_, value)| value.is_some()) {
            let at = place(rect, &x, &y, [field.temperatures[t], field.masses[p]]);
            page.scene.fill(Path::circle(at, 1.1), WHITE);
            page.scene.stroke(Path::circle(at, 1.1), Line::solid(GREY, 0.5));
            taken.push(at);
        }
    }
    let lines: Vec<(f64, Vec<[Point; 2]>)> = colors
        .scale
        .ticks
        .iter()
        .skip(1)
        .map(|level| (*level, bands.line(*level)))
        .collect();
    for (level, pieces) in &lines {
        let mut path = Path::default();
        pieces.iter().for_each(|piece| path.extend(Path::line(piece)));
        let color = colors.at(*level);
        let ink = if lightness(color) > 0.45 {
            mix(color, INK, 0.7)
        } else {
            WHITE
        };
        page.scene.stroke(path, Line::solid(ink, 0.5).rounded());
    }
    for caps in caps {
        taken.extend(staircase(page, caps, field, rect, [&x, &y]));
    }
    for &(t, p) in &field.ridge {
        let at = place(rect, &x, &y, [field.temperatures[t], field.masses[p]]);
        point(&mut page.scene, Shape::Diamond, at, 2.1, INK);
    }
    for (level, pieces) in &lines {
        label(page, &colors.scale.label(*level), pieces, rect, &mut taken);
    }
}

/// Writes the value of a line where there is most room on it, if there is enough.
fn label(page: &mut Page<'_>, text: &str, pieces: &[[Point; 2]], rect: &Rect, taken: &mut Vec<Point>) {
    const ENOUGH: f64 = 7.5;
    const PLENTY: f64 = 16.0;
    let middle = |piece: &[Point; 2]| [(piece[0][0] + piece[1][0]) / 2.0, (piece[0][1] + piece[1][1]) / 2.0];
    let room = |[x, y]: Point| {
        let edge = (x - rect.x)
            .min(rect.right() - x)
            .min(y - rect.y)
            .min(rect.bottom() - y);
        // A label is wider than high.
        let near = taken.iter().map(|other| ((x - other[0]) * 0.65).hypot(y - other[1]));
        near.fold(edge, f64::min).min(PLENTY)
    };
    let places = pieces.iter().map(|piece| (room(middle(piece)), middle(piece)));
    let best = places.reduce(|best, other| if other.0 > best.0 + 1e-9 { other } else { best });
    if let Some((room, [x, y])) = best
        && room > ENOUGH
    {
        let font = page.font;
        page.scene
            .rimmed(font, &Text::new(text, SMALL, Anchor::Middle), [x, y + SMALL * 0.35]);
        taken.push([x, y]);
    }
}

fn place(rect: &Rect, x: &Scale, y: &Scale, [t, p]: [f64; 2]) -> Point {
    [axes::across(rect, x, t), axes::up(rect, y, p)]
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

/// Draws the edge of what the caps allow; gives points along it.
fn staircase(page: &mut Page<'_>, caps: &Caps, field: &Field, rect: &Rect, [x, y]: [&Scale; 2]) -> Vec<Point> {
    // Half a line inside the frame, so that a cap at the end of the grid is seen.
    let at = |[t, p]: [f64; 2]| {
        let [across, up] = place(rect, x, y, [t, p.min(y.high)]);
        [
            across.clamp(rect.x + 1.0, rect.right() - 1.0),
            up.clamp(rect.y + 1.0, rect.bottom() - 1.0),
        ]
    };
    let corners: Vec<Point> = caps.edge(field).into_iter().map(at).collect();
    page.scene.stroke(Path::line(&corners), Line::solid(WHITE, 2.6));
    page.scene.stroke(Path::line(&corners), CAP);
    if let Some(chosen) = caps.chosen {
        point(&mut page.scene, Shape::Disc, at(chosen), 2.4, INK);
    }
    let along = |pair: &[Point]| {
        let (from, to) = (pair[0], pair[1]);
        (0..=12).map(move |step| {
            let share = f64::from(step) / 12.0;
            [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share]
        })
    };
    corners.windows(2).flat_map(along).collect()
}
