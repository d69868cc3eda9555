//! `plot: frontier`: how many prompts exceed each threshold under both regimes, with the gap between them shaded; the gap
//! with its simultaneous band; and, where the lifts are there, their distribution.

mod draw;

use fracture_stage::Error;

use self::draw::{DEPLOY, LESS, MORE, OVERTAKE, TRAIN, difference, distribution, exceedance, light};
use super::steps::Steps;
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::axes;
use crate::caption::{self, short};
use crate::glyphs::Key;
use crate::groups::{Panel, beside, choose, each, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::page::{MARGIN, Page, TEXT};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;

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
    for panel in panels(&rows, parameters, &["threshold"], &[])? {
        fronts.push(front(&rows, panel, &others)?);
    }
    let lifted = fronts.iter().any(|front| !front.lifts.is_empty());
    let shares = Scale::shares(5);
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
        gap: 20.0,
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
    sentences.extend(each(fronts.iter().map(|front| (&front.panel, lift_sentence(front)))));
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
    value.map(|value| format!("median lift {}{interval}", short(value)))
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
