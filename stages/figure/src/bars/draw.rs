//! Drawing a bar chart.

use super::arrange::{Arrangement, GAP, MARGIN, STEEP, TEXT, arrange};
use super::{Bar, Bars, Panel, measure, words};
use crate::font::Font;
use crate::palette;
use crate::scale::Scale;
use crate::scene::{Anchor, Color, GREY, GRID, INK, Line, Path, Scene, Text, WHITE};

/// Size of a title.
const TITLE: f64 = 8.0;
/// Distance of lines of text.
const LEADING: f64 = TEXT * 1.3;
/// Size of a swatch in the legend.
const SWATCH: f64 = 6.0;
/// The tick of a noise floor.
const NOISE: Line = Line {
    color: INK,
    width: 0.9,
    dash: Some([2.0, 1.2]),
};

/// Draws a bar chart.
pub fn draw(font: &Font, bars: &Bars, title: Option<&str>) -> Scene {
    let ends = bars.all().flat_map(|bar| {
        let (low, high) = bar.interval.unzip();
        [bar.value, low, high, bar.noise].into_iter().flatten()
    });
    let scale = Scale::around(ends, 5);
    let plan = arrange(font, bars, &scale);
    let mut scene = Scene {
        width: plan.width,
        height: 0.0,
        title: title.map_or_else(
            || format!("{} by {}", measure(&bars.y), words(&bars.x.0)),
            str::to_owned,
        ),
        description: bars.caption.clone(),
        marks: Vec::new(),
    };
    let inner = plan.width - 2.0 * MARGIN;
    let mut y = MARGIN;
    for line in title.map(|title| font.wrap(title, TITLE, inner)).unwrap_or_default() {
        y += TITLE;
        scene.text(font, &Text::new(&line, TITLE, Anchor::Start), [MARGIN, y]);
        y += TITLE * 0.35;
    }
    y = legend(&mut scene, font, bars, y);
    y = panels(&mut scene, font, bars, &plan, &scale, y);
    let x_title = words(&bars.x.0);
    let middle = plan.left + (plan.width - plan.left - MARGIN) / 2.0;
    y += TEXT;
    scene.text(font, &Text::new(&x_title, TEXT, Anchor::Middle), [middle, y]);
    y += 4.0;
    for line in font.wrap(&bars.caption, TEXT, inner) {
        y += LEADING;
        scene.text(font, &Text::new(&line, TEXT, Anchor::Start).colored(GREY), [MARGIN, y]);
    }
    scene.height = y + 3.0 + MARGIN;
    scene
}

/// What a place of the legend shows.
enum Entry<'a> {
    Name(String),
    Series(usize, &'a str),
    Noise,
}

/// Draws the legend below `top`; gives its lower end.
fn legend(scene: &mut Scene, font: &Font, bars: &Bars, top: f64) -> f64 {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    if !bars.color.0.is_empty() {
        entries.push(Entry::Name(format!("{}:", words(&bars.color.0))));
        entries.extend(
            bars.color
                .1
                .iter()
                .enumerate()
                .map(|(index, name)| Entry::Series(index, name)),
        );
    }
    if bars.all().any(|bar| bar.noise.is_some()) {
        entries.push(Entry::Noise);
    }
    if entries.is_empty() {
        return top + 2.0;
    }
    let right = scene.width - MARGIN;
    let (mut x, mut y) = (MARGIN, top + TEXT + 1.0);
    for entry in entries {
        let (text, mark) = match &entry {
            Entry::Name(name) => (name.clone(), 0.0),
            Entry::Series(_, name) => ((*name).to_owned(), SWATCH + 3.0),
            Entry::Noise => ("noise floor (A/A pair)".to_owned(), 2.0 * SWATCH + 3.0),
        };
        let text = font.cut(&text, TEXT, right - MARGIN - mark);
        let wide = mark + font.width(&text, TEXT);
        if x > MARGIN && x + wide > right {
            x = MARGIN;
            y += LEADING + 1.0;
        }
        match entry {
            Entry::Name(_) => {}
            Entry::Series(index, _) => {
                swatch(scene, index, bars.color.1.len(), [x, y - SWATCH + 0.5, SWATCH, SWATCH]);
            }
            Entry::Noise => {
                let height = y - TEXT * 0.33;
                scene.stroke(Path::line(&[[x, height], [x + 2.0 * SWATCH, height]]), NOISE);
            }
        }
        scene.text(font, &Text::new(&text, TEXT, Anchor::Start), [x + mark, y]);
        x += wide + if mark > 0.0 { 9.0 } else { 5.0 };
    }
    y + 4.0
}

/// Draws all panels below `top`; gives their lower end.
fn panels(scene: &mut Scene, font: &Font, bars: &Bars, plan: &Arrangement, scale: &Scale, top: f64) -> f64 {
    let titled = bars.panels.iter().any(|panel| !panel.title.is_empty());
    let head = if titled { TEXT + 6.0 } else { 5.0 };
    let step = head + plan.panel[1] + plan.label_height + 3.0;
    for (index, panel) in bars.panels.iter().enumerate() {
        let (row, column) = (index / plan.columns, index % plan.columns);
        let x = plan.left + column as f64 * (plan.panel[0] + GAP);
        let y = top + row as f64 * step + head;
        if titled {
            let title = font.cut(&panel.title, TEXT, plan.panel[0]);
            let middle = x + plan.panel[0] / 2.0;
            scene.text(font, &Text::new(&title, TEXT, Anchor::Middle), [middle, y - 4.0]);
        }
        frame(scene, font, plan, scale, [x, y], column == 0);
        contents(scene, font, bars, panel, plan, scale, [x, y]);
    }
    let bottom = top + plan.rows as f64 * step;
    let middle = top + head + (bottom - top - head - plan.label_height - 3.0) / 2.0;
    let size = title_size(font, &measure(&bars.y), bottom - top);
    let text = measure(&bars.y);
    let text = Text::new(&text, size, Anchor::Middle).along([0.0, -1.0]);
    scene.text(font, &text, [plan.title, middle]);
    bottom
}

/// A long title of the y axis shrinks rather than leave the picture.
fn title_size(font: &Font, title: &str, room: f64) -> f64 {
    let wide = font.width(title, TEXT);
    if wide > room { TEXT * room / wide } else { TEXT }
}

/// Grid, ticks and their labels.
fn frame(scene: &mut Scene, font: &Font, plan: &Arrangement, scale: &Scale, [x, y]: [f64; 2], labels: bool) {
    let [width, height] = plan.panel;
    for tick in &scale.ticks {
        let at = y + height * (1.0 - scale.place(*tick));
        scene.stroke(Path::line(&[[x, at], [x + width, at]]), Line::solid(GRID, 0.5));
        if labels {
            let label = scale.label(*tick);
            scene.text(font, &Text::new(&label, TEXT, Anchor::End), [x - 3.0, at + TEXT * 0.35]);
        }
    }
}

/// Bars and labels of one panel.
fn contents(
    scene: &mut Scene,
    font: &Font,
    bars: &Bars,
    panel: &Panel,
    plan: &Arrangement,
    scale: &Scale,
    [x, y]: [f64; 2],
) {
    let [width, height] = plan.panel;
    let slot = width / plan.labels.len() as f64;
    let series = bars.color.1.len();
    let place = |value: f64| y + height * (1.0 - scale.place(value));
    for (index, (label, group)) in plan.labels.iter().zip(&panel.bars).enumerate() {
        let middle = x + (index as f64 + 0.5) * slot;
        let start = middle - plan.bar * series as f64 / 2.0;
        for (series_index, bar) in group.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let left = start + series_index as f64 * plan.bar;
            one_bar(scene, bar, (series_index, series), [left, plan.bar], &place);
        }
        if plan.steep {
            let text = Text::new(label, TEXT, Anchor::End).along(STEEP);
            scene.text(font, &text, [middle + TEXT * 0.3, y + height + TEXT * 0.75]);
        } else {
            let at = [middle, y + height + TEXT + 2.0];
            scene.text(font, &Text::new(label, TEXT, Anchor::Middle), at);
        }
    }
    scene.stroke(
        Path::line(&[[x, place(0.0)], [x + width, place(0.0)]]),
        Line::solid(INK, 0.7),
    );
}

/// One bar with its interval and the noise floor of its group.
fn one_bar(
    scene: &mut Scene,
    bar: &Bar,
    (index, series): (usize, usize),
    [left, width]: [f64; 2],
    place: &dyn Fn(f64) -> f64,
) {
    let zero = place(0.0);
    let inset = (width * 0.06).min(0.6);
    let middle = left + width / 2.0;
    match bar.value {
        Some(value) => {
            let (top, bottom) = (place(value).min(zero), place(value).max(zero));
            body(
                scene,
                (index, series),
                [left + inset, top, width - 2.0 * inset, bottom - top],
            );
        }
        None => cross(scene, [middle, zero - 5.0], (width * 0.25).min(2.0)),
    }
    let mut whisker = Vec::new();
    if let (Some(_), Some((low, high))) = (bar.value, bar.interval) {
        let cap = (width * 0.22).min(2.4);
        let (low, high) = (place(low), place(high));
        whisker.push([[middle, low], [middle, high]]);
        whisker.extend([low, high].map(|end| [[middle - cap, end], [middle + cap, end]]));
    }
    let noise = bar
        .noise
        .map(|noise| [[left, place(noise)], [left + width, place(noise)]]);
    // White below all ink keeps it visible on a dark bar, and neither line interrupts the other.
    for line in whisker.iter().chain(&noise) {
        scene.stroke(Path::line(line), Line::solid(WHITE, 2.0));
    }
    for line in &whisker {
        scene.stroke(Path::line(line), Line::solid(INK, 0.8));
    }
    if let Some(line) = &noise {
        scene.stroke(Path::line(line), NOISE);
    }
}

/// A bar's rectangle. One without height is a strip of its colour on the axis: zero is a value, too.
fn body(scene: &mut Scene, (index, series): (usize, usize), [x, y, width, height]: [f64; 4]) {
    const STRIP: f64 = 1.4;
    if height < STRIP / 2.0 {
        scene.fill(
            Path::rect(x, y + height - STRIP, width, STRIP),
            palette::series(index, series).0,
        );
    } else {
        swatch(scene, index, series, [x, y, width, height]);
    }
}

/// A cross where there is no value.
fn cross(scene: &mut Scene, [x, y]: [f64; 2], arm: f64) {
    for side in [-1.0, 1.0] {
        let points = [[x - arm, y - side * arm], [x + arm, y + side * arm]];
        scene.stroke(Path::line(&points), Line::solid(GREY, 0.8));
    }
}

/// A filled rectangle in a series' colour, hatched where colours alone would be too near in grey.
fn swatch(scene: &mut Scene, index: usize, series: usize, [x, y, width, height]: [f64; 4]) {
    let (color, hatched): (Color, bool) = palette::series(index, series);
    let path = Path::rect(x, y, width, height);
    scene.fill(path.clone(), color);
    if hatched {
        for line in hatch([x, y, width, height]) {
            scene.stroke(Path::line(&line), Line::solid(WHITE, 0.7));
        }
    }
    scene.stroke(path, Line::solid(INK, 0.4));
}

/// Lines at 45 degrees inside a rectangle.
fn hatch([x, y, width, height]: [f64; 4]) -> Vec<[[f64; 2]; 2]> {
    const STEP: f64 = 2.6;
    let count = ((width + height) / STEP) as usize;
    let line = |index: usize| {
        // The points of the line are those whose distances from the left and the lower edge add up to `sum`.
        let sum = (index as f64 + 0.5) * STEP;
        let right = sum.min(width);
        let left = (sum - height).max(0.0);
        [
            [x + left, y + height - (sum - left)],
            [x + right, y + height - (sum - right)],
        ]
    };
    (0..count).map(line).collect()
}
