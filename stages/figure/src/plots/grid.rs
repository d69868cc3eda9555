//! `plot: grid`: a heat map over two columns, a panel per value of a third. The value is written into its cell, a cell
//! without one is hatched and named.

use fracture_stage::Error;

use super::colorbar::{self, Colors};
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::axes::{self, Categories};
use crate::caption::{self, brief};
use crate::glyphs::{Key, hatched};
use crate::groups::{Panel, choose, panels, words};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::ink_on;
use crate::parameters::FigureParameters;
use crate::rows::{Rows, list};
use crate::scene::{Anchor, Color, Line, Path, Text, WHITE};

/// Longest name of a row.
const NAME: f64 = 96.0;
/// Height of a cell with one line and with two.
const CELL: [f64; 2] = [13.0, 20.0];

/// What a heat map reads: `x` is its columns; of `y` and `color` one is the value, the other its rows.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let drawn = [&parameters.x, &parameters.y, &parameters.color];
    let drawn: Vec<&str> = drawn.into_iter().flatten().map(String::as_str).collect();
    let values = [parameters.y.as_deref(), parameters.color.as_deref(), Some(VALUE)];
    let ends = |name: &str| [name.to_owned(), format!("{name}_low"), format!("{name}_high")];
    let ends: Vec<String> = values.into_iter().flatten().flat_map(ends).collect();
    let optional: Vec<&str> = ends.iter().map(String::as_str).chain(NOTED.iter().copied()).collect();
    vec![Input::main(&["grid"], needs(required(&drawn), &optional))]
}

/// The value where none is named.
const VALUE: &str = "fracture";

/// The value and, if it is named, the column of the rows: the value is the one that is a number and no key.
fn roles<'a>(rows: &Rows, parameters: &'a FigureParameters) -> (&'a str, Option<&'a str>) {
    let (y, color) = (parameters.y.as_deref(), parameters.color.as_deref());
    let value = |name: &&str| rows.numbers(name).is_some() && !rows.keys().iter().any(|key| key == name);
    if let Some(name) = y.filter(value) {
        (name, color)
    } else if let Some(name) = color.filter(value) {
        (name, y)
    } else {
        (VALUE, y.or(color))
    }
}

/// A cell with a value.
#[derive(Debug, Clone, Copy)]
struct Cell {
    value: f64,
    interval: Option<(f64, f64)>,
}

/// A heat map's columns and rows.
struct Map {
    x: (String, Vec<String>),
    y: (String, Vec<String>),
    value: String,
    panels: Vec<(Panel, Vec<Vec<Option<Cell>>>)>,
}

/// Draws a heat map.
///
/// # Errors
/// When nothing says what its columns and rows are, several rows belong to one cell, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let drawn = [&parameters.x, &parameters.y, &parameters.color];
    let shown: Vec<&str> = drawn.into_iter().flatten().map(String::as_str).collect();
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &shown)?;
    let map = gather(&rows, parameters)?;
    let cells = map
        .panels
        .iter()
        .flat_map(|(_, cells)| cells.iter().flatten().flatten());
    let values: Vec<f64> = cells.clone().map(|cell| cell.value).collect();
    if values.is_empty() {
        return Err(Error::task(format!(
            "there is nothing to draw: `{}` has no value",
            map.value
        )));
    }
    let colors = Colors::of(values.iter().copied());
    let font = drawing.font;
    let names: Vec<String> = map.y.1.iter().map(|name| font.cut(name, TEXT, NAME)).collect();
    let longest = names.iter().map(|name| font.width(name, TEXT)).fold(0.0, f64::max);
    let left = MARGIN + TEXT + 5.0 + longest + 3.0;
    let least = font.width("0.00", SMALL) + 2.0;
    let across = map.x.1.len() as f64;
    let need = Need {
        count: map.panels.len(),
        wide: [across * least.max(15.0), across * 62.0],
        left,
        right: 2.0,
        gap: 8.0,
        height: Height::Fixed(0.0),
        head: 3.0,
        foot: 0.0,
        page: parameters.page(),
        titled: map.panels.iter().any(|(panel, _)| !panel.title.is_empty()),
    };
    let slot = Layout::of(&need).panel()[0] / across;
    let labels = Categories::of(font, &map.x.1, slot);
    // A steep label of the first column may reach further left than the names of the rows.
    let left = left.max(labels.reach - slot / 2.0 + MARGIN);
    let slot = Layout::of(&Need { left, ..need }).panel()[0] / across;
    let two = slot >= font.width("0.00–0.00", SMALL) + 2.0 && cells.clone().any(|cell| cell.interval.is_some());
    let height = CELL[usize::from(two)];
    let layout = Layout::of(&Need {
        left,
        height: Height::Fixed(height * map.y.1.len() as f64),
        foot: labels.height + 3.0,
        ..need
    });
    let named = format!("{} by {} and {}", brief(&map.value), words(&map.y.0), words(&map.x.0));
    let mut page = Page::new(font, layout.width, drawing.title(), &named);
    colorbar::draw(&mut page, &colors, &brief(&map.value), false);
    let mut missing = Vec::new();
    for (index, (panel, cells)) in map.panels.iter().enumerate() {
        let rect = layout.rect(index, page.y);
        missing.extend(contents(&mut page, &map, panel, cells, &colors, &rect, two));
        if layout.first(index) {
            let room = Rect { x: rect.x, ..rect };
            axes::side(&mut page.scene, font, MARGIN + TEXT, &room, &words(&map.y.0));
            for (row, name) in names.iter().enumerate() {
                let y = rect.y + (row as f64 + 0.5) * height + TEXT * 0.35;
                page.text(&Text::new(name, TEXT, Anchor::End), [rect.x - 3.0, y]);
            }
        }
        for column in 0..map.x.1.len() {
            let x = rect.x + (column as f64 + 0.5) * rect.w / across;
            labels.write(&mut page.scene, font, column, [x, rect.bottom()]);
        }
    }
    page.y = layout.bottom(page.y) + TEXT - 2.0;
    let at = [layout.middle(), page.y];
    axes::foot(&mut page.scene, font, at, &words(&map.x.0));
    if !missing.is_empty() {
        page.legend(&[(Key::Hatched, "no result".to_owned())]);
    }
    let mut shown = vec![map.x.0.as_str(), map.y.0.as_str()];
    let titles: Vec<String> = map
        .panels
        .iter()
        .flat_map(|(panel, _)| &panel.values)
        .map(|(name, _)| name.clone())
        .collect();
    shown.extend(titles.iter().map(String::as_str));
    let mut sentences = notes.clone();
    if two {
        sentences.insert(
            0,
            format!("below each value its {} interval", caption::confidence(&rows)),
        );
    }
    if !missing.is_empty() {
        sentences.push(format!("no result: {}", caption::few(&missing)));
    }
    let facts = caption::facts(&rows, "prompts per cell", &shown, &notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

/// Draws the cells of a panel; names those that are missing.
fn contents(
    page: &mut Page<'_>,
    map: &Map,
    panel: &Panel,
    cells: &[Vec<Option<Cell>>],
    colors: &Colors,
    rect: &Rect,
    two: bool,
) -> Vec<String> {
    let font = page.font;
    let (wide, high) = (rect.w / map.x.1.len() as f64, rect.h / map.y.1.len() as f64);
    let mut missing = Vec::new();
    if !panel.title.is_empty() {
        axes::title(&mut page.scene, font, rect, &panel.title);
    }
    for (row, line) in cells.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let (x, y) = (rect.x + column as f64 * wide, rect.y + row as f64 * high);
            let Some(cell) = cell else {
                hatched(&mut page.scene, [x, y, wide, high]);
                let place = [&map.y.1[row], &map.x.1[column]].map(String::as_str);
                let panel = panel.values.iter().map(|(_, value)| value.as_str());
                missing.push(place.into_iter().chain(panel).collect::<Vec<_>>().join(" × "));
                continue;
            };
            let color = colors.at(cell.value);
            page.scene.fill(Path::rect(x, y, wide, high), color);
            page.scene.stroke(Path::rect(x, y, wide, high), Line::solid(WHITE, 0.6));
            write(page, cell, color, [x + wide / 2.0, y, wide, high], two);
        }
    }
    missing
}

/// Writes a cell's value and, in a second line, its interval.
fn write(page: &mut Page<'_>, cell: &Cell, color: Color, [middle, y, wide, high]: [f64; 4], two: bool) {
    let font = page.font;
    let ink = ink_on(color);
    let value = two_digits(cell.value);
    let size = if font.width(&value, TEXT) + 2.0 <= wide {
        TEXT
    } else {
        SMALL
    };
    let interval = cell.interval.filter(|_| two);
    let base = if interval.is_some() {
        y + high * 0.45
    } else {
        y + high / 2.0 + size * 0.35
    };
    page.text(&Text::new(&value, size, Anchor::Middle).colored(ink), [middle, base]);
    if let Some((low, high)) = interval {
        let text = format!("{}–{}", two_digits(low), two_digits(high));
        let text = Text::new(&text, SMALL, Anchor::Middle).colored(ink);
        page.text(&text, [middle, base + SMALL + 1.2]);
    }
}

fn two_digits(value: f64) -> String {
    let text = format!("{:.2}", value.abs());
    if value < 0.0 && text != "0.00" {
        format!("−{text}")
    } else {
        text
    }
}

fn gather(rows: &Rows, parameters: &FigureParameters) -> Result<Map, Error> {
    let (name, named) = roles(rows, parameters);
    let values = rows.values(name)?;
    let (low, high) = (rows.maybe(&format!("{name}_low")), rows.maybe(&format!("{name}_high")));
    let y = match named {
        Some(y) => y.to_owned(),
        None => axis(rows, &["model"], &[&parameters.x, &parameters.panel])?,
    };
    let x = match &parameters.x {
        Some(x) => x.clone(),
        None => axis(
            rows,
            &["algorithm", "decoder", "axis"],
            &[&Some(y.clone()), &parameters.panel],
        )?,
    };
    let (xs, ys) = (rows.distinct(&x), rows.distinct(&y));
    let (x_of, y_of) = (rows.texts(&x)?, rows.texts(&y)?);
    let mut drawn = Vec::new();
    for panel in panels(rows, parameters, &[&x, &y], &[&x, &y])? {
        let mut cells = vec![vec![None; xs.len()]; ys.len()];
        let mut taken = vec![vec![false; xs.len()]; ys.len()];
        for &row in &panel.rows {
            let column = xs.iter().position(|label| *label == x_of[row]);
            let line = ys.iter().position(|label| *label == y_of[row]);
            let (Some(column), Some(line)) = (column, line) else {
                continue;
            };
            if std::mem::replace(&mut taken[line][column], true) {
                return Err(Error::pipeline(format!(
                    "several rows belong to one cell, at {}",
                    list(&[ys[line].clone(), xs[column].clone()])
                ))
                .hint("choose rows with `where`, or name the column that tells them apart as `panel`"));
            }
            cells[line][column] = values[row].map(|value| Cell {
                value,
                interval: low[row].zip(high[row]),
            });
        }
        drawn.push((panel, cells));
    }
    Ok(Map {
        x: (x, xs),
        y: (y, ys),
        value: name.to_owned(),
        panels: drawn,
    })
}

/// The first of the preferred columns that is there and free, else the first free key column.
fn axis(rows: &Rows, preferred: &[&str], taken: &[&Option<String>]) -> Result<String, Error> {
    let free =
        |name: &str| !taken.iter().any(|other| other.as_deref() == Some(name)) && !rows.distinct(name).is_empty();
    let keys = rows.keys().iter().map(String::as_str);
    let all: Vec<&str> = preferred
        .iter()
        .copied()
        .chain(keys)
        .filter(|name| free(name))
        .collect();
    let several = all.iter().find(|name| rows.distinct(name).len() > 1);
    several.or(all.first()).map(|name| (*name).to_owned()).ok_or_else(|| {
        Error::pipeline("nothing says what a heat map's columns and rows are").hint("name them with `x` and `y`")
    })
}
