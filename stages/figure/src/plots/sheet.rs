//! A table set for print: rules above and below, numbers to the right, intervals smaller beside their values. `plot: table`
//! and `plot: numbers` as pictures.

use fracture_stage::Error;
use fracture_stage::stage::Need;

use super::{Drawing, Drawn, Input, needs};
use crate::caption::short;
use crate::groups::words;
use crate::page::{COLUMN, MARGIN, PAGE, Page, SMALL, TEXT};
use crate::parameters::FigureParameters;
use crate::scene::{Anchor, GREY, INK, Line, Path, Scene, Text};
use crate::text;

/// Height of a row.
const ROW: f64 = 10.5;
/// Room between two columns, at least and at most.
const BETWEEN: [f64; 2] = [7.0, 22.0];
/// Longest text of a cell.
const CELL: f64 = 150.0;
/// The most rows of a page.
const MOST: usize = 90;

/// What a table reads: the columns that it shows, else all.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let columns: Vec<Need> = parameters.columns.iter().map(|name| Need::any(name)).collect();
    let mut input = Input::main(&[], needs(columns, &[]));
    input.all = parameters.columns.is_empty();
    vec![input]
}

/// A cell: a text, and a smaller one behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The value.
    pub text: String,
    /// Its interval.
    pub more: String,
}

/// A column: its head and whether its cells are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What is above it.
    pub text: String,
    /// Whether it is set to the right.
    pub number: bool,
}

/// A table as a picture.
///
/// # Errors
/// When it has more rows or columns than a page can hold.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let rows = drawing.main()?.clone().chosen(&drawing.parameters.filter)?;
    let columns = text::columns(&rows, &drawing.parameters.columns)?;
    let mut heads = Vec::new();
    let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); rows.count()];
    for name in &columns {
        let numbers = rows.numbers(name);
        heads.push(Head {
            text: words(name),
            number: numbers.is_some(),
        });
        let texts = match numbers {
            Some(numbers) => written(&numbers),
            None => rows.texts(name)?,
        };
        for (line, text) in cells.iter_mut().zip(texts) {
            line.push(Cell {
                text: text.replace("->", "→"),
                more: String::new(),
            });
        }
    }
    let scene = typeset(drawing, &heads, &cells, "Table", "")?;
    Ok(Drawn { table: rows, scene })
}

/// Numbers with as many digits behind the point as one of them needs, at most three, so that they stand under each other.
fn written(numbers: &[Option<f64>]) -> Vec<String> {
    let digits = |value: f64| short(value).split_once('.').map_or(0, |(_, behind)| behind.len());
    let most = numbers.iter().flatten().map(|value| digits(*value)).max().unwrap_or(0);
    let text = |value: f64| {
        let text = format!("{:.most$}", value.abs());
        let zero = text.chars().all(|letter| matches!(letter, '0' | '.'));
        if value < 0.0 && !zero {
            format!("−{text}")
        } else {
            text
        }
    };
    numbers.iter().map(|value| value.map_or_else(dash, text)).collect()
}

/// Stands for a number that is not there.
pub fn dash() -> String {
    "–".to_owned()
}

/// Sets a table. A label that repeats the one above it in the first column is left out.
///
/// # Errors
/// When it has more rows or columns than a page can hold.
pub fn typeset(
    drawing: &Drawing<'_>,
    heads: &[Head],
    cells: &[Vec<Cell>],
    named: &str,
    caption: &str,
) -> Result<Scene, Error> {
    let font = drawing.font;
    if cells.len() > MOST {
        return Err(
            Error::pipeline(format!("{} rows do not fit on a page, {MOST} do", cells.len()))
                .hint("choose rows with `where`, write one file each with `split`, or write the table as .csv or .md"),
        );
    }
    let wide = |cell: &Cell| {
        let more = if cell.more.is_empty() {
            0.0
        } else {
            font.width(&cell.more, SMALL) + 2.5
        };
        (font.width(&font.cut(&cell.text, TEXT, CELL), TEXT), more)
    };
    // Values end at one place and intervals start there, so that digits stand under digits.
    let widths: Vec<[f64; 2]> = (0..heads.len())
        .map(|column| {
            let all = cells.iter().map(|line| wide(&line[column]));
            let (value, more) = all.fold((0.0_f64, 0.0_f64), |(a, b), (c, d)| (a.max(c), b.max(d)));
            [value.max(font.width(&heads[column].text, TEXT) - more), more]
        })
        .collect();
    let need: f64 = widths.iter().flatten().sum::<f64>() + 2.0 * MARGIN;
    let gaps = heads.len().saturating_sub(1).max(1) as f64;
    let page_width = drawing
        .parameters
        .page()
        .unwrap_or(if need + gaps * BETWEEN[0] <= COLUMN {
            COLUMN
        } else {
            PAGE
        });
    if need + gaps * BETWEEN[0] > page_width {
        let centimetres = |points: f64| (points / 72.0 * 2.54 * 10.0).round() / 10.0;
        let (need, page) = (centimetres(need + gaps * BETWEEN[0]), centimetres(page_width));
        return Err(
            Error::pipeline(format!("the table is {need} cm wide, the page {page} cm"))
                .hint("choose some of its columns with `columns`, or write it as .csv or .md"),
        );
    }
    let between = ((page_width - need) / gaps).min(BETWEEN[1]);
    let right = MARGIN + widths.iter().flatten().sum::<f64>() + between * (heads.len() as f64 - 1.0) + MARGIN;
    // Of a page only as much as the table takes.
    let page_width = if drawing.parameters.width.is_none() {
        right.max(COLUMN)
    } else {
        page_width
    };
    let mut page = Page::new(font, page_width, drawing.title(), named);
    let rule = |page: &mut Page<'_>, y: f64, width: f64| {
        page.scene
            .stroke(Path::line(&[[MARGIN, y], [right - MARGIN, y]]), Line::solid(INK, width));
    };
    page.y += 3.0;
    let y = page.y;
    rule(&mut page, y, 0.9);
    page.y += ROW + 1.0;
    line(
        &mut page,
        heads,
        &widths,
        between,
        &heads.iter().map(head).collect::<Vec<_>>(),
    );
    page.y += 3.5;
    let y = page.y;
    rule(&mut page, y, 0.5);
    page.y += 1.0;
    for (index, row) in cells.iter().enumerate() {
        let repeats = index > 0 && heads.len() > 2 && cells[index - 1].first() == row.first() && !heads[0].number;
        if index > 0 && !repeats && heads.len() > 2 && !heads[0].number && grouped(cells) {
            page.y += 2.0;
        }
        page.y += ROW;
        let mut shown = row.clone();
        if repeats && let Some(first) = shown.first_mut() {
            *first = Cell::default();
        }
        line(&mut page, heads, &widths, between, &shown);
    }
    page.y += 4.0;
    let y = page.y;
    rule(&mut page, y, 0.9);
    Ok(page.finish(caption))
}

/// Whether some label of the first column stands for several rows.
fn grouped(cells: &[Vec<Cell>]) -> bool {
    cells.windows(2).any(|pair| pair[0].first() == pair[1].first())
}

fn head(head: &Head) -> Cell {
    Cell {
        text: head.text.clone(),
        more: String::new(),
    }
}

fn line(page: &mut Page<'_>, heads: &[Head], widths: &[[f64; 2]], between: f64, cells: &[Cell]) {
    let font = page.font;
    let mut x = MARGIN;
    let y = page.y;
    for ((head, [value, more]), cell) in heads.iter().zip(widths).zip(cells) {
        let text = font.cut(&cell.text, TEXT, CELL.max(*value + *more));
        let is_head = cell.text == head.text;
        if head.number {
            // A head spans value and interval; a value ends where its interval starts.
            let end = if is_head { x + value + more } else { x + value };
            page.text(&Text::new(&text, TEXT, Anchor::End), [end, y]);
            page.text(
                &Text::new(&cell.more, SMALL, Anchor::Start).colored(GREY),
                [x + value + 2.5, y],
            );
        } else {
            page.text(&Text::new(&text, TEXT, Anchor::Start), [x, y]);
        }
        x += value + more + between;
    }
}
