//! `plot: flow`: every item as an arrow from one regime to the other in the plane of the first two principal components,
//! with the boundary between safe and unsafe; items that cross it are stressed.

mod draw;

use fracture_stage::Error;

use self::draw::{BOUNDARY, ENTERS, EXITS, MEAN, MOST, STAYS, UNSAFE, contents};
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::caption::{self, short};
use crate::glyphs::Key;
use crate::groups::{Panel, beside, choose, each, panels};
use crate::layout::{Height, Layout, Need};
use crate::page::{MARGIN, Page, TEXT};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scene::Point;

/// What a flow reads: `.arrows`, and `.components` and the summary where they are connected.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let drawn = required(&["x_train", "y_train", "x_deploy", "y_deploy"]);
    let optional = [
        "crossed",
        "exited",
        "share_x",
        "share_y",
        "boundary_x",
        "boundary_y",
        "boundary_offset",
        "item",
    ];
    let optional: Vec<&str> = optional.into_iter().chain(NOTED.iter().copied()).collect();
    let summary = [
        "n",
        "contrast",
        "entry",
        "exit",
        "boundary_auc",
        "med_drift",
        "relative_med_drift",
        "confidence",
    ];
    vec![
        Input::main(&["arrows"], needs(drawn, &optional)),
        Input::beside("flow", needs(Vec::new(), &summary)),
        Input::beside("components", needs(Vec::new(), &["component", "share", "contrast"])),
    ]
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Stays,
    Exits,
    Enters,
}

/// One panel.
struct Flow {
    panel: Panel,
    arrows: Vec<(Fate, Point, Point)>,
    /// The line a·x + b·y + c = 0, unsafe where it is positive.
    boundary: Option<[f64; 3]>,
    shares: [Option<f64>; 2],
    sentence: Option<String>,
}

/// Draws the flow.
///
/// # Errors
/// When no item has a place, or there are too many panels.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &[])?;
    let mut others = Vec::new();
    for place in 1..3 {
        others.push(
            drawing
                .beside(place)
                .map(|table| beside(table, &rows, parameters))
                .transpose()?,
        );
    }
    let mut flows = Vec::new();
    for panel in panels(&rows, parameters, &[], &[])? {
        flows.push(flow(&rows, panel, &others)?);
    }
    if flows.iter().all(|flow| flow.arrows.is_empty()) {
        return Err(Error::task(
            "there is nothing to draw: no item has a place in both regimes",
        ));
    }
    let layout = Layout::of(&Need {
        count: flows.len(),
        wide: [120.0, 235.0],
        left: MARGIN + TEXT + 6.0,
        right: 2.0,
        gap: TEXT + 9.0,
        height: Height::Share(0.82, 190.0),
        head: 3.0,
        foot: TEXT + 5.0,
        page: parameters.page(),
        titled: flows.iter().any(|flow| !flow.panel.title.is_empty()),
    });
    let mut page = Page::new(
        drawing.font,
        layout.width,
        drawing.title(),
        "Manifold flow of completions",
    );
    page.legend(&legend(&flows));
    let top = page.y;
    for (index, flow) in flows.iter().enumerate() {
        contents(&mut page, flow, &layout.rect(index, top));
    }
    page.y = layout.bottom(top) - 2.0;
    let shown: Vec<&str> = flows
        .iter()
        .flat_map(|flow| &flow.panel.values)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut facts = caption::facts(&rows, "prompts", &shown, &notes);
    if rows.column("n").is_none() && others[0].as_ref().is_none_or(|summary| summary.column("n").is_none()) {
        let counts: Vec<usize> = flows.iter().map(|flow| flow.arrows.len()).collect();
        let (low, high) = (
            counts.iter().min().copied().unwrap_or(0),
            counts.iter().max().copied().unwrap_or(0),
        );
        facts.push(if low == high {
            format!("n = {low} prompts")
        } else {
            format!("n = {low}–{high} prompts")
        });
    }
    if let Some(summary) = &others[0] {
        let more = caption::facts(summary, "prompts", &shown, &notes);
        facts.extend(
            more.into_iter()
                .filter(|fact| !facts.contains(fact))
                .collect::<Vec<_>>(),
        );
    }
    let mut sentences = vec!["equal scales on both axes".to_owned()];
    if flows.iter().any(|flow| flow.arrows.len() > MOST) {
        sentences.push("each arrow is the mean of the prompts that start beside each other".to_owned());
    }
    sentences.extend(each(flows.iter().map(|flow| (&flow.panel, flow.sentence.clone()))));
    sentences.extend(notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

fn flow(rows: &Rows, panel: Panel, others: &[Option<Rows>]) -> Result<Flow, Error> {
    let columns = ["x_train", "y_train", "x_deploy", "y_deploy"];
    let mut places = Vec::with_capacity(4);
    for name in columns {
        places.push(rows.values(name)?);
    }
    let (crossed, exited) = (rows.flags("crossed"), rows.flags("exited"));
    let item = |&row: &usize| {
        let [x, y, to_x, to_y] = [0, 1, 2, 3].map(|place: usize| places[place][row]);
        let fate = match (crossed[row], exited[row]) {
            (true, _) => Fate::Enters,
            (_, true) => Fate::Exits,
            _ => Fate::Stays,
        };
        Some((fate, [x?, y?], [to_x?, to_y?]))
    };
    let mut arrows: Vec<(Fate, Point, Point)> = panel.rows.iter().filter_map(item).collect();
    // From back to front, and the same whatever the order of the rows.
    let number = |(fate, from, to): &(Fate, Point, Point)| (*fate, [from[0], from[1], to[0], to[1]]);
    arrows.sort_by(|one, other| {
        let (one, other) = (number(one), number(other));
        let numbers = one.1.iter().zip(&other.1).map(|(one, other)| one.total_cmp(other));
        one.0
            .cmp(&other.0)
            .then_with(|| numbers.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then))
    });
    let first = |name: &str| panel.rows.iter().find_map(|row| rows.maybe(name)[*row]);
    let boundary = ["boundary_x", "boundary_y", "boundary_offset"].map(first);
    let shares = match (first("share_x"), first("share_y"), &others[1]) {
        (None, None, Some(components)) => {
            let own = panel.of(components)?;
            let (number, share) = (own.maybe("component"), own.maybe("share"));
            let of = |wanted: f64| {
                number
                    .iter()
                    .position(|one| *one == Some(wanted))
                    .and_then(|row| share[row])
            };
            [of(1.0), of(2.0)]
        }
        (x, y, _) => [x, y],
    };
    let summary = others[0].as_ref().map(|summary| panel.of(summary)).transpose()?;
    Ok(Flow {
        boundary: match boundary {
            [Some(a), Some(b), Some(c)] if a != 0.0 || b != 0.0 => Some([a, b, c]),
            _ => None,
        },
        sentence: summary.and_then(|summary| sentence(&summary)),
        panel,
        arrows,
        shares,
    })
}

fn sentence(summary: &Rows) -> Option<String> {
    let value = |name: &str| summary.maybe(name).into_iter().flatten().next().map(short);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(value("med_drift").map(|value| format!("MedDrift {value}")));
    parts.extend(value("relative_med_drift").map(|value| format!("{value} times the A/A drift")));
    parts.extend(value("entry").map(|value| format!("Entry {value}")));
    parts.extend(value("exit").map(|value| format!("Exit {value}")));
    parts.extend(value("boundary_auc").map(|value| format!("AUC {value}")));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn legend(flows: &[Flow]) -> Vec<(Key, String)> {
    let any = |fate: Fate| {
        flows
            .iter()
            .any(|flow| flow.arrows.iter().any(|(one, ..)| *one == fate))
    };
    let mut entries = vec![(Key::Arrow(STAYS), "stays on its side".to_owned())];
    if any(Fate::Enters) {
        entries.push((Key::Arrow(ENTERS), "enters the unsafe side".to_owned()));
    }
    if any(Fate::Exits) {
        entries.push((Key::Arrow(EXITS), "leaves it".to_owned()));
    }
    entries.push((Key::Arrow(MEAN), "mean".to_owned()));
    if flows.iter().any(|flow| flow.boundary.is_some()) {
        entries.push((Key::Line(BOUNDARY), "boundary".to_owned()));
        entries.push((Key::Filled(UNSAFE), "unsafe side".to_owned()));
    }
    entries
}
