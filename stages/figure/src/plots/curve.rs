//! `plot: curve`: FRACTURE and anti-FRACTURE against τ, exact steps at observed scores, with the thresholds that were used.

use fracture_stage::Error;

use super::steps::Steps;
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::axes;
use crate::caption;
use crate::glyphs::{Key, Shape, point, whisker};
use crate::groups::{Panel, beside, choose, panels, words};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{self, BLUE, ORANGE};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Anchor, Color, GREY, Line, Path, Scene, Text};

/// The threshold that was used, and the other convention's.
const TAU: Line = Line::solid(GREY, 0.7);
const OTHER: Line = Line::solid(GREY, 0.7).dashed(2.0, 1.6);

/// What a curve reads: `.curve` of `fracture` and, for the thresholds, `fracture` itself.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let drawn: Vec<&str> = ["tau", "fracture", "anti"]
        .into_iter()
        .chain(parameters.color.as_deref())
        .collect();
    let point = [
        "tau",
        "tau_other",
        "fracture",
        "fracture_low",
        "fracture_high",
        "contrast",
        "aggregate",
        "n",
        "judge",
        "confidence",
    ];
    vec![
        Input::main(&["curve"], needs(required(&drawn), NOTED)),
        Input::beside("fracture", needs(Vec::new(), &point)),
    ]
}

/// A line of a panel: one value of the colour's column.
struct Series {
    fracture: Steps,
    anti: Steps,
    index: usize,
    /// The rows of the main table that belong to it.
    beside: Option<Rows>,
}

/// Draws the curves.
///
/// # Errors
/// When a group has fewer than two thresholds (the table is not `.curve`), or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let color = parameters.color.as_deref();
    let shown: Vec<&str> = ["tau"].into_iter().chain(color).collect();
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &shown)?;
    let main = drawing
        .beside(1)
        .map(|main| beside(main, &rows, parameters))
        .transpose()?;
    let labels = color.map(|name| rows.distinct(name)).unwrap_or_default();
    let mut drawn = Vec::new();
    for panel in panels(&rows, parameters, &shown, &[])? {
        drawn.push((series(&rows, &panel, color, &labels, main.as_ref())?, panel));
    }
    if drawn
        .iter()
        .all(|(series, _)| series.iter().all(|one| one.fracture.scores().count() < 2))
    {
        return Err(Error::pipeline("each group has one threshold, so there is no curve")
            .hint("`plot: curve` draws `STAGE.curve` of a `fracture` stage, not the stage itself"));
    }
    let all = drawn.iter().flat_map(|(series, _)| series);
    let ends = all
        .clone()
        .flat_map(|one| one.fracture.values().chain(one.anti.values()));
    let highest = all
        .filter_map(|one| one.beside.as_ref())
        .flat_map(|rows| rows.maybe("fracture_high"));
    let y = Scale::around(ends.chain(highest.flatten()), 5);
    let x = Scale::shares(5);
    let left = MARGIN + TEXT + 5.0 + axes::label_room(drawing.font, &y);
    let layout = Layout::of(&Need {
        count: drawn.len(),
        wide: [100.0, 300.0],
        left,
        right: 5.0,
        gap: 17.0,
        height: Height::Share(0.66, 125.0),
        head: TEXT + 5.0,
        foot: TEXT + 5.0,
        page: parameters.page(),
        titled: drawn.iter().any(|(_, panel)| !panel.title.is_empty()),
    });
    let mut page = Page::new(
        drawing.font,
        layout.width,
        drawing.title(),
        "FRACTURE against the threshold",
    );
    page.legend(&legend(color, &labels, main.as_ref()));
    let top = page.y;
    for (index, (series, panel)) in drawn.iter().enumerate() {
        let rect = layout.rect(index, top);
        if !panel.title.is_empty() {
            let above = Rect {
                y: rect.y - TEXT,
                ..rect
            };
            axes::title(&mut page.scene, drawing.font, &above, &panel.title);
        }
        axes::grid(&mut page.scene, &rect, None, Some(&y));
        thresholds(&mut page, series, &rect, &x);
        for one in series {
            lines(&mut page.scene, one, labels.len(), &rect, [&x, &y]);
        }
        axes::below(&mut page.scene, drawing.font, &rect, &x);
        axes::left(&mut page.scene, drawing.font, &rect, &y, layout.first(index));
        if layout.first(index) {
            axes::side(&mut page.scene, drawing.font, MARGIN + TEXT, &rect, "share of prompts");
        }
    }
    page.y = layout.bottom(top) + TEXT - 1.0;
    axes::foot(&mut page.scene, drawing.font, [layout.middle(), page.y], "threshold τ");
    let mut shown: Vec<&str> = shown;
    shown.extend(
        drawn
            .iter()
            .flat_map(|(_, panel)| &panel.values)
            .map(|(name, _)| name.as_str()),
    );
    // `n`, the judge and the thresholds are in the main table; of the curve, `tau` is the axis.
    let mut facts = caption::facts(&rows, "prompts", &shown, &notes);
    if let Some(main) = &main {
        let more = caption::facts(main, "prompts", &[&shown[..], &["tau"]].concat(), &notes);
        facts.extend(
            more.into_iter()
                .filter(|fact| !facts.contains(fact))
                .collect::<Vec<_>>(),
        );
        facts.extend(caption::values(main, "tau").map(|tau| format!("τ = {tau}")));
        facts.extend(caption::values(main, "tau_other").map(|tau| format!("other convention τ = {tau}")));
    }
    let whiskers = main
        .as_ref()
        .filter(|main| main.maybe("fracture_low").iter().any(Option::is_some));
    let whiskers = whiskers.map(|main| format!("whisker: {} interval at τ", caption::confidence(main)));
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, whiskers.into_iter().chain(notes))),
        table: rows,
    })
}

fn series(
    rows: &Rows,
    panel: &Panel,
    color: Option<&str>,
    labels: &[String],
    main: Option<&Rows>,
) -> Result<Vec<Series>, Error> {
    let (tau, fracture, anti) = (rows.values("tau")?, rows.values("fracture")?, rows.values("anti")?);
    let label_of = color.map(|name| rows.texts(name)).transpose()?;
    let beside = main.map(|main| panel.of(main)).transpose()?;
    let mut all = Vec::new();
    for index in 0..labels.len().max(1) {
        let of = |row: &&usize| label_of.as_ref().is_none_or(|of| labels.get(index) == Some(&of[**row]));
        let steps = |values: &[Option<f64>]| {
            Steps::new(
                panel
                    .rows
                    .iter()
                    .filter(of)
                    .filter_map(|row| Some((tau[*row]?, values[*row]?))),
            )
        };
        let own = match (&beside, color, labels.get(index)) {
            (Some(rows), Some(name), Some(label)) if rows.column(name).is_some() => {
                Some(rows.any_of(name, std::slice::from_ref(label))?)
            }
            (rows, ..) => rows.clone(),
        };
        let one = Series {
            fracture: steps(&fracture),
            anti: steps(&anti),
            index,
            beside: own,
        };
        if one.fracture.scores().next().is_some() {
            all.push(one);
        }
    }
    Ok(all)
}

/// The looks of FRACTURE and of anti-FRACTURE of a series.
fn looks(index: usize, count: usize) -> [Line; 2] {
    if count < 2 {
        return [Line::solid(BLUE, 1.3).rounded(), Line::solid(ORANGE, 1.1).rounded()];
    }
    let color: Color = palette::series(index, count).0;
    [
        Line::solid(color, 1.3).rounded(),
        Line::solid(color, 0.8).dashed(2.0, 1.5),
    ]
}

fn legend(color: Option<&str>, labels: &[String], main: Option<&Rows>) -> Vec<(Key, String)> {
    let mut entries = Vec::new();
    if labels.len() < 2 {
        let [fracture, anti] = looks(0, 1);
        entries.push((Key::Line(fracture), "FRACTURE".to_owned()));
        entries.push((Key::Line(anti), "anti-FRACTURE".to_owned()));
    } else {
        entries.push((Key::Name, format!("FRACTURE by {}:", words(color.unwrap_or_default()))));
        let series = labels.iter().enumerate();
        entries.extend(series.map(|(index, label)| (Key::Line(looks(index, labels.len())[0]), label.clone())));
        entries.push((
            Key::Line(Line::solid(GREY, 0.8).dashed(2.0, 1.5)),
            "anti-FRACTURE".to_owned(),
        ));
    }
    if main.is_some_and(|main| main.maybe("tau").iter().any(Option::is_some)) {
        entries.push((Key::Line(TAU), "τ".to_owned()));
        if main.is_some_and(|main| main.maybe("tau_other").iter().any(Option::is_some)) {
            entries.push((Key::Line(OTHER), "τ of the other convention".to_owned()));
        }
    }
    entries
}

/// Upright lines at the thresholds of a panel, each once.
fn thresholds(page: &mut Page<'_>, series: &[Series], rect: &Rect, x: &Scale) {
    let column = |name: &str| {
        let all = series
            .iter()
            .filter_map(|one| one.beside.as_ref())
            .flat_map(|rows| rows.maybe(name));
        let mut all: Vec<f64> = all.flatten().filter(|tau| (x.low..=x.high).contains(tau)).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    };
    let used = column("tau");
    let font = page.font;
    let mut free = f64::NEG_INFINITY;
    let other = column("tau_other")
        .into_iter()
        .filter(|tau| !used.contains(tau))
        .collect::<Vec<_>>();
    let mut all: Vec<(f64, Line)> = used.iter().map(|tau| (*tau, TAU)).collect();
    all.extend(other.into_iter().map(|tau| (tau, OTHER)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    for (tau, line) in all {
        let at = axes::across(rect, x, tau);
        page.scene
            .stroke(Path::line(&[[at, rect.y - 2.0], [at, rect.bottom()]]), line);
        let label = format!("τ = {}", caption::short(tau));
        let half = font.width(&label, SMALL) / 2.0;
        if at - half >= free {
            let text = Text::new(&label, SMALL, Anchor::Middle);
            page.text(&text, [at, rect.y - 4.0]);
            free = at + half + 2.0;
        }
    }
}

fn lines(scene: &mut Scene, one: &Series, count: usize, rect: &Rect, [x, y]: [&Scale; 2]) {
    let [fracture, anti] = looks(one.index, count);
    scene.stroke(Path::line(&one.anti.line(rect, x, y, Some(0.0))), anti);
    scene.stroke(Path::line(&one.fracture.line(rect, x, y, Some(0.0))), fracture);
    let Some(rows) = &one.beside else { return };
    let columns = ["tau", "fracture", "fracture_low", "fracture_high"].map(|name| rows.maybe(name));
    let [taus, values, lows, highs] = &columns;
    for (((&tau, &value), &low), &high) in taus.iter().zip(values).zip(lows).zip(highs) {
        let (Some(tau), Some(value)) = (tau, value) else {
            continue;
        };
        // Beside each other where several series have one threshold.
        let at = axes::across(rect, x, tau) + (one.index as f64 - (count.max(1) as f64 - 1.0) / 2.0) * 5.0;
        if let (Some(low), Some(high)) = (low, high) {
            whisker(scene, [at, axes::up(rect, y, low)], [at, axes::up(rect, y, high)], 2.0);
        }
        point(scene, Shape::Disc, [at, axes::up(rect, y, value)], 1.9, fracture.color);
    }
}
