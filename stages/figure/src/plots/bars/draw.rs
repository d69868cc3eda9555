//! Drawing a bar chart.

use super::arrange::{Arrangement, GAP, arrange};
use super::{Bar, Bars, Drawing, Panel};
use crate::axes::STEEP;
use crate::caption::measure;
use crate::font::Font;
use crate::glyphs::{Key, cross, swatch};
use crate::groups::words;
use crate::page::{MARGIN, Page, TEXT};
use crate::palette;
use crate::scale::Scale;
use crate::scene::{Anchor, GRID, INK, Line, Path, Scene, Text, WHITE};

/// The tick of a noise floor.
const NOISE: Line = Line::solid(INK, 0.9).dashed(2.0, 1.2);

/// Draws a bar chart.
pub fn draw(drawing: &Drawing<'_>, bars: &Bars) -> Scene {
    let font = drawing.font;
    let ends = bars.all().flat_map(|bar| {
        let (low, high) = bar.interval.unzip();
        [bar.value, low, high, bar.noise].into_iter().flatten()
    });
    let scale = Scale::around(ends, 5);
    let plan = arrange(font, bars, &scale, drawing.parameters.page());
    let named = format!("{} by {}", measure(&bars.y), words(&bars.x.0));
    let mut page = Page::new(font, plan.width, drawing.parameters.title.as_deref(), &named);
    page.legend(&legend(bars));
    page.y = panels(&mut page.scene, font, bars, &plan, &scale, page.y);
    let middle = plan.left + (plan.width - plan.left - MARGIN) / 2.0;
    page.y += TEXT;
    let at = [middle, page.y];
    page.text(&Text::new(&words(&bars.x.0), TEXT, Anchor::Middle), at);
    page.finish(&bars.caption)
}

/// What colours and ticks mean.
fn legend(bars: &Bars) -> Vec<(Key, String)> {
    let mut entries: Vec<(Key, String)> = Vec::new();
    if !bars.color.0.is_empty() {
        entries.push((Key::Name, format!("{}:", words(&bars.color.0))));
        let count = bars.color.1.len();
        let series = bars.color.1.iter().enumerate();
        entries.extend(series.map(|(index, name)| (Key::Series(index, count), name.clone())));
    }
    if bars.all().any(|bar| bar.noise.is_some()) {
        entries.push((Key::Line(NOISE), "noise floor (A/A pair)".to_owned()));
    }
    entries
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
