//! `plot: frontier`: how many prompts exceed each threshold under both regimes, with the gap between them shaded; the gap
//! with its simultaneous band; and, where the lifts are there, their distribution.

use fracture_stage::Error;

use super::steps::Steps;
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::axes;
use crate::caption::{self, short};
use crate::glyphs::Key;
use crate::groups::{Panel, beside, choose, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{BLUE, ORANGE, SKY, VERMILION};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Anchor, Color, GREY, INK, Line, Path, Text};

const TRAIN: Line = Line::solid(BLUE, 1.3).rounded();
const DEPLOY: Line = Line::solid(VERMILION, 1.3).rounded();
const OVERTAKE: Line = Line::solid(INK, 0.6).dashed(2.0, 1.4);
/// The gap where deploy is above train, and where it is below.
const MORE: Color = ORANGE;
const LESS: Color = SKY;
/// Heights of the parts, and the room between two.
const PARTS: [f64; 3] = [92.0, 44.0, 60.0];
const BETWEEN: f64 = TEXT + 7.0;

/// What a frontier reads: `.curve`, and `.overtakes`, the lifts of items and the summary where they are connected.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let curve = required(&["threshold", "train", "deploy", "gap"]);
    let optional: Vec<&str> = ["gap_low", "gap_high"]
        .into_iter()
        .chain(NOTED.iter().copied())
        .collect();
    let summary = [
        "median_lift",
        "median_lift_low",
        "median_lift_high",
        "n",
        "k",
        "contrast",
        "confidence",
        "judge",
    ];
    vec![
        Input::main(&["curve"], needs(curve, &optional)),
        Input::beside("overtakes", needs(Vec::new(), &["threshold", "contrast"])),
        Input::beside("lifts", needs(Vec::new(), &["lift", "contrast"])),
        Input::beside("frontier", needs(Vec::new(), &summary)),
    ]
}

/// What one panel shows.
struct Front {
    panel: Panel,
    train: Steps,
    deploy: Steps,
    gap: Steps,
    band: Option<[Steps; 2]>,
    overtakes: Vec<f64>,
    lifts: Vec<f64>,
    median: [Option<f64>; 3],
}

/// Draws the frontiers.
///
/// # Errors
/// When the table holds no curve, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &["threshold"])?;
    let mut others = Vec::new();
    for place in 1..4 {
        others.push(
            drawing
                .beside(place)
                .map(|table| beside(table, &rows, parameters))
                .transpose()?,
        );
    }
    let mut fronts = Vec::new();
    for panel in panels(&rows, parameters, &["threshold"])? {
        fronts.push(front(&rows, panel, &others)?);
    }
    let lifted = fronts.iter().any(|front| !front.lifts.is_empty());
    let shares = Scale::shares(4);
    let ends = fronts.iter().flat_map(|front| {
        let band = front.band.iter().flatten().flat_map(Steps::values);
        front.gap.values().chain(band)
    });
    let gaps = Scale::around(ends, 3);
    let reach = fronts
        .iter()
        .flat_map(|front| &front.lifts)
        .map(|lift| lift.abs())
        .fold(0.0, f64::max);
    let lifts = Scale::spanning(-reach.max(0.1), reach.max(0.1), 6);
    let parts = if lifted { &PARTS[..] } else { &PARTS[..2] };
    let room = axes::label_room(drawing.font, &gaps).max(axes::label_room(drawing.font, &shares));
    let layout = Layout::of(&Need {
        count: fronts.len(),
        wide: [120.0, 300.0],
        left: MARGIN + TEXT + 5.0 + room,
        right: 6.0,
        gap: 12.0,
        height: Height::Fixed(
            parts.iter().sum::<f64>() + BETWEEN * (parts.len() as f64 - 1.0) + TEXT * f64::from(u8::from(lifted)),
        ),
        head: 3.0,
        foot: 2.0 * TEXT + 5.0,
        page: parameters.page(),
        titled: fronts.iter().any(|front| !front.panel.title.is_empty()),
    });
    let mut page = Page::new(
        drawing.font,
        layout.width,
        drawing.title(),
        "Exceedance frontiers of both regimes",
    );
    page.legend(&legend(&rows, &fronts));
    let top = page.y;
    for (index, front) in fronts.iter().enumerate() {
        let whole = layout.rect(index, top);
        if !front.panel.title.is_empty() {
            axes::title(&mut page.scene, drawing.font, &whole, &front.panel.title);
        }
        let first = layout.first(index);
        let part = |number: usize| Rect {
            y: whole.y
                + PARTS[..number].iter().sum::<f64>()
                + BETWEEN * number as f64
                + if number == 2 { TEXT } else { 0.0 },
            h: PARTS[number],
            ..whole
        };
        exceedance(&mut page, front, &part(0), &shares, first);
        difference(&mut page, front, &part(1), [&shares, &gaps], first);
        if lifted {
            distribution(&mut page, front, &part(2), [&lifts, &shares], first);
        }
    }
    page.y = layout.bottom(top) - 2.0;
    let mut shown = vec!["threshold"];
    shown.extend(
        fronts
            .iter()
            .flat_map(|front| &front.panel.values)
            .map(|(name, _)| name.as_str()),
    );
    let mut facts = caption::facts(&rows, "prompts", &shown, &notes);
    if let Some(summary) = &others[2] {
        let more = caption::facts(summary, "prompts", &shown, &notes);
        facts.extend(
            more.into_iter()
                .filter(|fact| !facts.contains(fact))
                .collect::<Vec<_>>(),
        );
    }
    let mut sentences = Vec::new();
    if fronts.iter().any(|front| front.band.is_some()) {
        sentences.push("grey: simultaneous band of the gap".to_owned());
    }
    sentences.extend(fronts.iter().filter_map(lift_sentence));
    sentences.extend(notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

fn lift_sentence(front: &Front) -> Option<String> {
    let [value, low, high] = front.median;
    let interval = low
        .zip(high)
        .map_or_else(String::new, |(low, high)| format!(" [{}, {}]", short(low), short(high)));
    let place = if front.panel.title.is_empty() {
        String::new()
    } else {
        format!("{}: ", front.panel.title)
    };
    value.map(|value| format!("{place}median lift {}{interval}", short(value)))
}

fn front(rows: &Rows, panel: Panel, others: &[Option<Rows>]) -> Result<Front, Error> {
    let threshold = rows.values("threshold")?;
    let steps = |values: Vec<Option<f64>>| {
        Steps::new(
            panel
                .rows
                .iter()
                .filter_map(|row| Some((threshold[*row]?, values[*row]?))),
        )
    };
    let band = ["gap_low", "gap_high"].map(|name| steps(rows.maybe(name)));
    let of = |place: usize| others[place].as_ref().map(|other| panel.of(other)).transpose();
    let column = |rows: &Option<Rows>, name: &str| -> Vec<f64> {
        rows.as_ref()
            .map(|rows| rows.maybe(name))
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect()
    };
    let (overtakes, lifts, summary) = (of(0)?, of(1)?, of(2)?);
    let mut lifts = column(&lifts, "lift");
    lifts.sort_by(f64::total_cmp);
    let median = ["median_lift", "median_lift_low", "median_lift_high"];
    Ok(Front {
        train: steps(rows.values("train")?),
        deploy: steps(rows.values("deploy")?),
        gap: steps(rows.values("gap")?),
        band: band.iter().all(|steps| steps.scores().next().is_some()).then_some(band),
        overtakes: column(&overtakes, "threshold"),
        lifts,
        median: median.map(|name| column(&summary, name).first().copied()),
        panel,
    })
}

/// The regimes' names: those of the contrast that is shown.
fn regimes(rows: &Rows) -> [String; 2] {
    let contrast = rows.distinct("contrast");
    match contrast.first().and_then(|name| name.split_once("->")) {
        Some((one, other)) => [one.to_owned(), other.to_owned()],
        None => ["train".to_owned(), "deploy".to_owned()],
    }
}

fn legend(rows: &Rows, fronts: &[Front]) -> Vec<(Key, String)> {
    let [train, deploy] = regimes(rows);
    let mut entries = vec![
        (Key::Line(TRAIN), train),
        (Key::Line(DEPLOY), deploy.clone()),
        (Key::Filled(light(MORE)), format!("more risk under {deploy}")),
    ];
    if fronts.iter().any(|front| front.gap.values().any(|gap| gap < 0.0)) {
        entries.push((Key::Filled(light(LESS)), "less".to_owned()));
    }
    if fronts.iter().any(|front| !front.overtakes.is_empty()) {
        entries.push((Key::Line(OVERTAKE), "overtakes".to_owned()));
    }
    entries
}

fn light(color: Color) -> Color {
    crate::palette::mix(crate::scene::WHITE, color, 0.55)
}

/// The rectangles between two step lines, for those that one is above.
fn between(front: &Front, rect: &Rect, x: &Scale, y: &Scale, above: bool) -> Path {
    let mut path = Path::default();
    let mut from = x.low;
    for (score, (train, deploy)) in front
        .train
        .scores()
        .zip(front.train.values().zip(front.deploy.values()))
    {
        let to = score.clamp(x.low, x.high);
        if (deploy > train) == above && deploy != train {
            let (top, bottom) = (
                axes::up(rect, y, deploy.max(train)),
                axes::up(rect, y, deploy.min(train)),
            );
            let (left, right) = (axes::across(rect, x, from), axes::across(rect, x, to));
            path.extend(Path::rect(left, top, right - left, bottom - top));
        }
        from = to;
    }
    path
}

fn exceedance(page: &mut Page<'_>, front: &Front, rect: &Rect, shares: &Scale, first: bool) {
    let font = page.font;
    axes::grid(&mut page.scene, rect, Some(shares), Some(shares));
    page.scene.fill(between(front, rect, shares, shares, true), light(MORE));
    page.scene
        .fill(between(front, rect, shares, shares, false), light(LESS));
    overtakes(page, front, rect, shares);
    for (steps, line) in [(&front.train, TRAIN), (&front.deploy, DEPLOY)] {
        page.scene
            .stroke(Path::line(&steps.line(rect, shares, shares, Some(0.0))), line);
    }
    axes::below(&mut page.scene, font, rect, shares);
    axes::left(&mut page.scene, font, rect, shares, first);
    if first {
        axes::side(&mut page.scene, font, MARGIN + TEXT, rect, "share of prompts ≥ t");
    }
}

fn overtakes(page: &mut Page<'_>, front: &Front, rect: &Rect, x: &Scale) {
    for at in &front.overtakes {
        let at = axes::across(rect, x, at.clamp(x.low, x.high));
        page.scene
            .stroke(Path::line(&[[at, rect.y], [at, rect.bottom()]]), OVERTAKE);
    }
}

fn difference(page: &mut Page<'_>, front: &Front, rect: &Rect, [x, y]: [&Scale; 2], first: bool) {
    let font = page.font;
    axes::grid(&mut page.scene, rect, Some(x), Some(y));
    if let Some([low, high]) = &front.band {
        let mut outline = high.line(rect, x, y, None);
        let mut back = low.line(rect, x, y, None);
        back.reverse();
        outline.extend(back);
        page.scene.fill(Path::polygon(&outline), [0xD8; 3]);
    }
    overtakes(page, front, rect, x);
    let zero = axes::up(rect, y, 0.0);
    page.scene.stroke(
        Path::line(&[[rect.x, zero], [rect.right(), zero]]),
        Line::solid(INK, 0.6),
    );
    let line = Line::solid(INK, 1.1).rounded();
    page.scene
        .stroke(Path::line(&front.gap.line(rect, x, y, Some(0.0))), line);
    axes::below(&mut page.scene, font, rect, x);
    axes::left(&mut page.scene, font, rect, y, first);
    if first {
        axes::side(&mut page.scene, font, MARGIN + TEXT, rect, "gap");
    }
    let at = [rect.x + rect.w / 2.0, rect.bottom() + 2.0 * TEXT + 4.0];
    axes::foot(&mut page.scene, font, at, "threshold t");
}

/// The share of prompts whose lift is at most so large.
fn distribution(page: &mut Page<'_>, front: &Front, rect: &Rect, [x, y]: [&Scale; 2], first: bool) {
    let font = page.font;
    axes::grid(&mut page.scene, rect, Some(x), Some(y));
    let [median, low, high] = front.median;
    if let (Some(low), Some(high)) = (low, high) {
        let (left, right) = (axes::across(rect, x, low), axes::across(rect, x, high));
        page.scene
            .fill(Path::rect(left, rect.y, right - left, rect.h), [0xD8; 3]);
    }
    let zero = axes::across(rect, x, 0.0);
    page.scene.stroke(
        Path::line(&[[zero, rect.y], [zero, rect.bottom()]]),
        Line::solid(INK, 0.6),
    );
    let count = front.lifts.len() as f64;
    let mut corners = vec![[rect.x, rect.bottom()]];
    for (index, lift) in front.lifts.iter().enumerate() {
        let at = axes::across(rect, x, *lift);
        corners.push([at, axes::up(rect, y, index as f64 / count)]);
        corners.push([at, axes::up(rect, y, (index + 1) as f64 / count)]);
    }
    if !front.lifts.is_empty() {
        corners.push([rect.right(), rect.y]);
        page.scene
            .stroke(Path::line(&corners), Line::solid(VERMILION, 1.2).rounded());
    }
    if let Some(median) = median {
        let at = axes::across(rect, x, median);
        page.scene.stroke(
            Path::line(&[[at, rect.y], [at, rect.bottom()]]),
            Line::solid(GREY, 0.8).dashed(1.2, 1.2),
        );
        let text = format!("median {}", short(median));
        // Beside the line where there is more room, away from the curve: low on the right, high on the left.
        let right = at < rect.x + rect.w / 2.0 || rect.right() - at > font.width(&text, SMALL) + 4.0;
        let (anchor, at) = if right {
            (Anchor::Start, [at + 2.5, rect.bottom() - 4.0])
        } else {
            (Anchor::End, [at - 2.5, rect.y + SMALL + 2.0])
        };
        page.scene.rimmed(font, &Text::new(&text, SMALL, anchor), at);
    }
    axes::below(&mut page.scene, font, rect, x);
    axes::left(&mut page.scene, font, rect, y, first);
    if first {
        axes::side(&mut page.scene, font, MARGIN + TEXT, rect, "share of prompts");
    }
    let at = [rect.x + rect.w / 2.0, rect.bottom() + 2.0 * TEXT + 4.0];
    axes::foot(&mut page.scene, font, at, "lift of a prompt (deploy − train)");
}
