//! `plot: landscape`: a value as a surface over temperature × top-p, seen from the corner of high temperature and low
//! top-p. Parallel projection; far cells are painted first, so that near ones hide them.

mod surface;

use fracture_stage::Error;

use self::surface::Surface;
use super::colorbar::{self, Colors};
use super::field::{self, Field, GRID};
use super::{Drawing, Drawn, Input};
use crate::axes;
use crate::caption::{self, brief};
use crate::glyphs::{Key, Shape};
use crate::groups::{choose, panels};
use crate::layout::{Height, Layout, Need};
use crate::page::{MARGIN, Page};
use crate::parameters::FigureParameters;
use crate::scene::INK;

/// What a landscape reads.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    vec![field::input(parameters)]
}

/// Draws a landscape.
///
/// # Errors
/// When the grid has no surface, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let name = field::value(parameters);
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, GRID)?;
    let mut fields = Vec::new();
    for panel in panels(&rows, parameters, GRID, &[])? {
        fields.push((Field::of(&rows, &panel, name)?, panel));
    }
    let values: Vec<f64> = fields.iter().flat_map(|(field, _)| field.all()).collect();
    if values.is_empty() {
        return Err(Error::task(format!("there is nothing to draw: `{name}` has no value")));
    }
    let colors = Colors::of(values.iter().copied());
    let layout = Layout::of(&Need {
        count: fields.len(),
        wide: [150.0, 240.0],
        left: MARGIN,
        right: 0.0,
        gap: 12.0,
        height: Height::Share(0.79, 190.0),
        head: 2.0,
        foot: 4.0,
        page: parameters.page(),
        titled: fields.iter().any(|(_, panel)| !panel.title.is_empty()),
    });
    let named = format!("{} over temperature and top-p", brief(name));
    let mut page = Page::new(drawing.font, layout.width, drawing.title(), &named);
    colorbar::draw(&mut page, &colors, &brief(name), false);
    let top = page.y;
    for (index, (field, panel)) in fields.iter().enumerate() {
        let rect = layout.rect(index, top);
        if !panel.title.is_empty() {
            axes::title(&mut page.scene, drawing.font, &rect, &panel.title);
        }
        Surface::new(field, &colors, &rect).draw(&mut page);
    }
    page.y = layout.bottom(top);
    let mut legend = Vec::new();
    if fields.iter().any(|(field, _)| !field.ridge.is_empty()) {
        legend.push((Key::Point(Shape::Diamond, INK), "ridge".to_owned()));
    }
    let missing: Vec<String> = fields.iter().flat_map(|(field, _)| field.missing()).collect();
    if !missing.is_empty() {
        legend.push((Key::Hatched, "no result".to_owned()));
    }
    page.legend(&legend);
    let mut sentences = notes.clone();
    if !missing.is_empty() {
        sentences.push(format!("no result: {}", caption::few(&missing)));
    }
    let mut shown = GRID.to_vec();
    let titles: Vec<&str> = fields
        .iter()
        .flat_map(|(_, panel)| &panel.values)
        .map(|(name, _)| name.as_str())
        .collect();
    shown.extend(titles);
    let facts = caption::facts(&rows, "prompts per cell", &shown, &notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}
