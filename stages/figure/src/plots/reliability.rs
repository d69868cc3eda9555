//! `plot: reliability`: how often completions were unsafe against how probable the judge said they are, before and after
//! calibration, above the number of completions in each bin.

use fracture_stage::Error;

use super::{Drawing, Drawn, Input, needs, required};
use crate::axes;
use crate::caption;
use crate::glyphs::{Key, Shape, point, whisker};
use crate::groups::{Panel, choose, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, TEXT};
use crate::palette::{BLUE, ORANGE};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Color, GREY, INK, Line, Path, Point};

/// Heights of the counts below and the room between.
const COUNTS: f64 = 30.0;
const BETWEEN: f64 = 9.0;

/// What a reliability diagram reads.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let optional = [
        "stage",
        "n",
        "observed_low",
        "observed_high",
        "method",
        "judge",
        "confidence",
        "ece",
        "brier",
        "bin",
    ];
    vec![Input::main(
        &["reliability"],
        needs(required(&["predicted", "observed"]), &optional),
    )]
}

/// A bin.
#[derive(Debug, Clone, Copy)]
struct Bin {
    predicted: f64,
    observed: f64,
    interval: Option<(f64, f64)>,
    count: f64,
}

/// A line: before or after.
struct Series {
    name: String,
    bins: Vec<Bin>,
}

impl Series {
    /// Filled discs for what came after, rings for what was before.
    fn looks(&self) -> (Shape, Color, Line) {
        if self.name == "before" {
            (Shape::Ring, ORANGE, Line::solid(ORANGE, 1.0).dashed(3.0, 1.4))
        } else {
            (Shape::Disc, BLUE, Line::solid(BLUE, 1.2).rounded())
        }
    }
}

/// Draws the diagram.
///
/// # Errors
/// When no bin has both numbers, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &["stage"])?;
    let mut drawn = Vec::new();
    for panel in panels(&rows, parameters, &["stage", "bin"], &[])? {
        drawn.push((series(&rows, &panel)?, panel));
    }
    let bins = || {
        drawn
            .iter()
            .flat_map(|(series, _)| series)
            .flat_map(|series| &series.bins)
    };
    if bins().next().is_none() {
        return Err(
            Error::task("there is nothing to draw: no bin has `predicted` and `observed`")
                .hint("are there labels for the scores that were calibrated?"),
        );
    }
    let scale = Scale::shares(5);
    let counts = Scale::around(bins().map(|bin| bin.count), 2);
    let room = axes::label_room(drawing.font, &scale).max(axes::label_room(drawing.font, &counts));
    let layout = Layout::of(&Need {
        count: drawn.len(),
        wide: [95.0, 165.0],
        left: MARGIN + TEXT + 5.0 + room,
        right: 5.0,
        gap: 17.0,
        height: Height::Share(1.0, 165.0),
        head: 4.0,
        foot: BETWEEN + COUNTS + TEXT + 5.0,
        page: parameters.page(),
        titled: drawn.iter().any(|(_, panel)| !panel.title.is_empty()),
    });
    let mut page = Page::new(drawing.font, layout.width, drawing.title(), "Reliability of the judge");
    page.legend(&legend(&drawn));
    let top = page.y;
    for (index, (series, panel)) in drawn.iter().enumerate() {
        let rect = layout.rect(index, top);
        if !panel.title.is_empty() {
            axes::title(&mut page.scene, drawing.font, &rect, &panel.title);
        }
        let first = layout.first(index);
        diagram(&mut page, series, &rect, &scale, first);
        let below = Rect {
            y: rect.bottom() + BETWEEN,
            h: COUNTS,
            ..rect
        };
        histogram(&mut page, series, &below, [&scale, &counts], first);
    }
    page.y = layout.bottom(top) + TEXT - 1.0;
    axes::foot(
        &mut page.scene,
        drawing.font,
        [layout.middle(), page.y],
        "predicted probability of unsafe",
    );
    let mut shown = vec!["stage", "bin", "n"];
    shown.extend(
        drawn
            .iter()
            .flat_map(|(_, panel)| &panel.values)
            .map(|(name, _)| name.as_str()),
    );
    let mut facts = caption::facts(&rows, "completions", &shown, &notes);
    facts.extend(total(&drawn));
    facts.extend(caption::values(&rows, "method").map(|method| format!("method {method}")));
    let mut sentences = Vec::new();
    if bins().any(|bin| bin.interval.is_some()) {
        sentences.push(format!("whiskers: {} intervals", caption::confidence(&rows)));
    }
    sentences.extend(errors(&rows)?);
    sentences.extend(notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

/// How many labelled completions there are.
fn total(drawn: &[(Vec<Series>, Panel)]) -> Option<String> {
    let counts = drawn.iter().filter_map(|(series, _)| series.first());
    let counts: Vec<f64> = counts
        .map(|series| series.bins.iter().map(|bin| bin.count).sum())
        .collect();
    let (low, high) = (
        counts.iter().copied().reduce(f64::min)?,
        counts.iter().copied().reduce(f64::max)?,
    );
    let number = if low == high {
        format!("{low}")
    } else {
        format!("{low}–{high}")
    };
    (high > 0.0).then(|| format!("n = {number} labelled completions"))
}

/// The calibration errors that the table has, before and after.
fn errors(rows: &Rows) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for (column, name) in [("ece", "ECE"), ("brier", "Brier score")] {
        let values = rows.maybe(column);
        let stages = rows
            .column("stage")
            .map(|_| rows.texts("stage"))
            .transpose()?
            .unwrap_or_default();
        let of = |stage: &str| stages.iter().position(|one| one == stage).and_then(|row| values[row]);
        if let (Some(before), Some(after)) = (of("before"), of("after")) {
            all.push(format!("{name} {} → {}", caption::short(before), caption::short(after)));
        }
    }
    Ok(all)
}

fn series(rows: &Rows, panel: &Panel) -> Result<Vec<Series>, Error> {
    let (predicted, observed) = (rows.values("predicted")?, rows.values("observed")?);
    let (low, high, count) = (rows.maybe("observed_low"), rows.maybe("observed_high"), rows.maybe("n"));
    let stage = rows.column("stage").map(|_| rows.texts("stage")).transpose()?;
    let name = |row: usize| stage.as_ref().map_or("", |stage| stage[row].as_str());
    let mut names: Vec<&str> = panel.rows.iter().map(|row| name(*row)).collect();
    // What was before lies behind.
    names.sort_by_key(|name| (*name != "before", *name));
    names.dedup();
    let series = |wanted: &&str| {
        let own = panel.rows.iter().filter(|row| name(**row) == *wanted);
        let mut bins: Vec<Bin> = own
            .filter_map(|&row| {
                Some(Bin {
                    predicted: predicted[row]?,
                    observed: observed[row]?,
                    interval: low[row].zip(high[row]),
                    count: count[row].unwrap_or(0.0),
                })
            })
            .collect();
        bins.sort_by(|one, other| one.predicted.total_cmp(&other.predicted));
        Series {
            name: (*wanted).to_owned(),
            bins,
        }
    };
    Ok(names.iter().map(series).collect())
}

fn legend(drawn: &[(Vec<Series>, Panel)]) -> Vec<(Key, String)> {
    let mut entries: Vec<(Key, String)> = Vec::new();
    for series in drawn.iter().flat_map(|(series, _)| series) {
        let name = match series.name.as_str() {
            "before" => "before calibration",
            "after" => "after calibration",
            other => other,
        };
        if !name.is_empty() && !entries.iter().any(|(_, other)| other == name) {
            let (shape, color, _) = series.looks();
            entries.push((Key::Point(shape, color), name.to_owned()));
        }
    }
    entries.push((Key::Line(Line::solid(GREY, 0.7).dashed(2.0, 1.5)), "perfect".to_owned()));
    entries
}

fn diagram(page: &mut Page<'_>, all: &[Series], rect: &Rect, scale: &Scale, first: bool) {
    axes::grid(&mut page.scene, rect, Some(scale), Some(scale));
    let corner = |share: f64| rect.at(share, share);
    let diagonal = Path::line(&[corner(0.0), corner(1.0)]);
    page.scene.stroke(diagonal, Line::solid(GREY, 0.7).dashed(2.0, 1.5));
    for series in all {
        let (shape, color, line) = series.looks();
        let at = |bin: &Bin| -> Point {
            [
                axes::across(rect, scale, bin.predicted),
                axes::up(rect, scale, bin.observed),
            ]
        };
        let points: Vec<Point> = series.bins.iter().map(at).collect();
        page.scene.stroke(Path::line(&points), line);
        for (bin, at) in series.bins.iter().zip(&points) {
            if let Some((low, high)) = bin.interval {
                let ends = [low, high].map(|end| [at[0], axes::up(rect, scale, end)]);
                whisker(&mut page.scene, ends[0], ends[1], 1.5);
            }
        }
        for at in points {
            point(&mut page.scene, shape, at, 2.1, color);
        }
    }
    axes::frame(&mut page.scene, rect);
    axes::left(&mut page.scene, page.font, rect, scale, first);
    if first {
        axes::side(
            &mut page.scene,
            page.font,
            MARGIN + TEXT,
            rect,
            "observed share of unsafe",
        );
    }
}

/// How many completions are in each bin, before and after beside each other.
fn histogram(page: &mut Page<'_>, all: &[Series], rect: &Rect, [x, y]: [&Scale; 2], first: bool) {
    axes::grid(&mut page.scene, rect, None, Some(y));
    let wide = 3.2;
    for (index, series) in all.iter().enumerate() {
        let (shape, color, _) = series.looks();
        for bin in &series.bins {
            let middle = axes::across(rect, x, bin.predicted);
            let left = middle + (index as f64 - all.len() as f64 / 2.0) * wide;
            let left = left.clamp(rect.x, rect.right() - wide);
            let top = axes::up(rect, y, bin.count);
            let path = Path::rect(left, top, wide, rect.bottom() - top);
            page.scene.fill(
                path.clone(),
                if shape == Shape::Ring {
                    crate::scene::WHITE
                } else {
                    color
                },
            );
            page.scene
                .stroke(path, Line::solid(if shape == Shape::Ring { color } else { INK }, 0.5));
        }
    }
    axes::below(&mut page.scene, page.font, rect, x);
    axes::left(&mut page.scene, page.font, rect, y, first);
    if first {
        axes::side(&mut page.scene, page.font, MARGIN + TEXT, rect, "n");
    }
}
