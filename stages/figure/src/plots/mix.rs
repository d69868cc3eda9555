//! `plot: mix`: the share of the audit budget that an equilibrium gives each action, with its interval, and the present mix
//! beside it. Bars lie level, so that long names of actions can be read.

use fracture_stage::Error;

use super::{Drawing, Drawn, Input, needs, required};
use crate::axes;
use crate::caption::{self, short};
use crate::glyphs::{Key, Shape, cross, point, whisker};
use crate::groups::{Panel, choose, each, panels};
use crate::layout::{Height, Layout, Need, Rect};
use crate::order;
use crate::page::{MARGIN, Page, TEXT};
use crate::palette::{BLUE, ORANGE};
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;
use crate::scene::{Anchor, GREY, INK, Line, Path, Text};

/// Height of an action.
const LANE: f64 = 13.0;
/// Longest name of an action.
const NAME: f64 = 150.0;
/// The most actions that are drawn.
const MOST: usize = 40;

/// What a mix reads: the actions, and `.summary` where it is connected.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let optional = [
        "probability_low",
        "probability_high",
        "current",
        "n",
        "judge",
        "confidence",
        "tau",
    ];
    let summary = [
        "value",
        "value_adverse_ties",
        "best_pure",
        "best_pure_value",
        "current",
        "value_low",
        "value_high",
    ];
    vec![
        Input::main(
            &["mix", "stackelberg"],
            needs(required(&["action", "probability"]), &optional),
        ),
        Input::beside("summary", needs(Vec::new(), &summary)),
    ]
}

/// An action.
#[derive(Debug, Clone)]
struct Action {
    name: String,
    share: Option<f64>,
    interval: Option<(f64, f64)>,
    current: Option<f64>,
}

/// Draws the mix.
///
/// # Errors
/// When an action comes twice in a panel, or there are too many panels or actions.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &["action"])?;
    let font = drawing.font;
    let mut drawn = Vec::new();
    let mut left_out = 0;
    for panel in panels(&rows, parameters, &["action"], &[])? {
        let (actions, without) = actions(&rows, &panel)?;
        left_out = left_out.max(without);
        drawn.push((actions, panel));
    }
    let all = || drawn.iter().flat_map(|(actions, _)| actions);
    let names: Vec<String> = all().map(|action| font.cut(&action.name, TEXT, NAME)).collect();
    let longest = names.iter().map(|name| font.width(name, TEXT)).fold(0.0, f64::max);
    let most = drawn.iter().map(|(actions, _)| actions.len()).max().unwrap_or(0);
    let scale = Scale::shares(5);
    let room = longest + 7.0;
    let layout = Layout::of(&Need {
        count: drawn.len(),
        wide: [75.0, 300.0],
        left: MARGIN + room,
        right: font.width("0.00", TEXT) + 9.0,
        gap: room + font.width("0.00", TEXT) + 14.0,
        height: Height::Fixed(LANE * most as f64 + 4.0),
        head: 3.0,
        foot: TEXT + 6.0,
        page: parameters.page(),
        titled: drawn.iter().any(|(_, panel)| !panel.title.is_empty()),
    });
    let mut page = Page::new(font, layout.width, drawing.title(), "Equilibrium mix of audits");
    let mut legend = vec![(Key::Series(0, 1), "equilibrium".to_owned())];
    if all().any(|action| action.current.is_some()) {
        legend.push((Key::Point(Shape::Diamond, ORANGE), "present mix".to_owned()));
    }
    page.legend(&legend);
    let top = page.y;
    for (index, (actions, panel)) in drawn.iter().enumerate() {
        let rect = layout.rect(index, top);
        if !panel.title.is_empty() {
            axes::title(&mut page.scene, font, &rect, &panel.title);
        }
        contents(&mut page, actions, &rect, &scale);
    }
    page.y = layout.bottom(top) + TEXT - 1.0;
    axes::foot(
        &mut page.scene,
        font,
        [layout.middle(), page.y],
        "share of the audit budget",
    );
    let mut shown = vec!["action"];
    shown.extend(
        drawn
            .iter()
            .flat_map(|(_, panel)| &panel.values)
            .map(|(name, _)| name.as_str()),
    );
    let facts = caption::facts(&rows, "prompts", &shown, &notes);
    let mut sentences = Vec::new();
    if all().any(|action| action.interval.is_some()) {
        sentences.push(format!(
            "whiskers: {} intervals by bootstrap",
            caption::confidence(&rows)
        ));
    }
    if left_out > 0 {
        sentences.push(format!("{left_out} more actions have no share"));
    }
    let mut said = Vec::new();
    for (_, panel) in &drawn {
        let summary = drawing.beside(1).map(|summary| panel.of(summary)).transpose()?;
        said.push((panel, summary.and_then(|summary| value(&summary))));
    }
    sentences.extend(each(said));
    sentences.extend(notes);
    Ok(Drawn {
        scene: page.finish(&caption::join(&facts, sentences)),
        table: rows,
    })
}

/// What the mix is worth, for the caption.
fn value(summary: &Rows) -> Option<String> {
    let first = |name: &str| summary.maybe(name).into_iter().flatten().next().map(short);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(first("value").map(|value| format!("value {value}")));
    parts.extend(first("value_adverse_ties").map(|value| format!("{value} under adverse ties")));
    let pure = first("best_pure").or_else(|| first("best_pure_value"));
    parts.extend(pure.map(|value| format!("{value} for the best pure audit")));
    parts.extend(first("current").map(|value| format!("{value} for the present mix")));
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The actions of a panel, the largest share first, and how many were left out because nothing gives them a share.
fn actions(rows: &Rows, panel: &Panel) -> Result<(Vec<Action>, usize), Error> {
    let (names, shares) = (rows.texts("action")?, rows.values("probability")?);
    let (low, high) = (rows.maybe("probability_low"), rows.maybe("probability_high"));
    let current = rows.maybe("current");
    let mut all: Vec<Action> = panel
        .rows
        .iter()
        .map(|&row| Action {
            name: names[row].clone(),
            share: shares[row],
            interval: low[row].zip(high[row]),
            current: current[row],
        })
        .collect();
    all.sort_by(|one, other| {
        let share = |action: &Action| action.share.unwrap_or(-1.0);
        let by_share = share(other).total_cmp(&share(one));
        by_share.then_with(|| order::compare("action", &one.name, &other.name))
    });
    let mut seen: Vec<&str> = Vec::new();
    for action in &all {
        if seen.contains(&action.name.as_str()) {
            return Err(Error::pipeline(format!("the action `{}` comes twice", action.name))
                .hint("choose rows with `where`, or name the column that tells them apart as `panel`"));
        }
        seen.push(&action.name);
    }
    let whole = all.len();
    if whole > 12 {
        let some = |value: Option<f64>| value.is_some_and(|value| value > 0.0);
        all.retain(|action| {
            some(action.share)
                || some(action.current)
                || some(action.interval.map(|(_, high)| high))
                || action.share.is_none()
        });
    }
    if all.len() > MOST {
        return Err(
            Error::pipeline(format!("{} actions do not fit on a page, {MOST} do", all.len()))
                .hint("choose some with `where: { action: [...] }`"),
        );
    }
    let without = whole - all.len();
    Ok((all, without))
}

fn contents(page: &mut Page<'_>, actions: &[Action], rect: &Rect, scale: &Scale) {
    let font = page.font;
    let room = font.width("0.00", TEXT) + 8.0;
    axes::grid(&mut page.scene, rect, Some(scale), None);
    for (index, action) in actions.iter().enumerate() {
        let middle = rect.y + 2.0 + (index as f64 + 0.5) * LANE;
        let name = font.cut(&action.name, TEXT, NAME);
        page.text(
            &Text::new(&name, TEXT, Anchor::End),
            [rect.x - 5.0, middle + TEXT * 0.35],
        );
        let Some(share) = action.share else {
            cross(&mut page.scene, [rect.x + 5.0, middle], 2.0);
            continue;
        };
        let end = axes::across(rect, scale, share);
        let path = Path::rect(rect.x, middle - 3.6, (end - rect.x).max(0.8), 7.2);
        page.scene.fill(path.clone(), BLUE);
        page.scene.stroke(path, Line::solid(INK, 0.4));
        if let Some((low, high)) = action.interval {
            let ends = [low, high].map(|end| [axes::across(rect, scale, end), middle]);
            if ends[0] != ends[1] {
                whisker(&mut page.scene, ends[0], ends[1], 2.0);
            }
        }
        if let Some(current) = action.current.filter(|current| *current > 0.0) {
            let at = axes::across(rect, scale, current);
            point(&mut page.scene, Shape::Diamond, [at, middle], 2.4, ORANGE);
            page.scene.stroke(diamond([at, middle], 3.0), Line::solid(INK, 0.5));
        }
        let text = format!("{share:.2}");
        let text = Text::new(&text, TEXT, Anchor::End).colored(GREY);
        page.text(&text, [rect.right() + room, middle + TEXT * 0.35]);
    }
    axes::below(&mut page.scene, font, rect, scale);
    page.scene.stroke(
        Path::line(&[[rect.x, rect.y], [rect.x, rect.bottom()]]),
        Line::solid(INK, 0.6),
    );
}

fn diamond([x, y]: [f64; 2], reach: f64) -> Path {
    Path::polygon(&[[x, y - reach], [x + reach, y], [x, y + reach], [x - reach, y]])
}
