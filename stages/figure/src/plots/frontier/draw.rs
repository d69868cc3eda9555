//! Drawing the parts of a frontier.

use super::Front;
use crate::axes;
use crate::caption::short;
use crate::layout::Rect;
use crate::page::{MARGIN, Page, SMALL, TEXT};
use crate::palette::{BLUE, ORANGE, SKY, VERMILION, mix};
use crate::scale::Scale;
use crate::scene::{Anchor, Color, GREY, INK, Line, Path, Text, WHITE};

/// Dashed: both lines are as dark in grey.
pub const TRAIN: Line = Line::solid(BLUE, 1.3).dashed(3.6, 1.4);
pub const DEPLOY: Line = Line::solid(VERMILION, 1.3).rounded();
pub const OVERTAKE: Line = Line::solid(INK, 0.6).dashed(2.0, 1.4);
/// The gap where deploy is above train, and where it is below.
pub const MORE: Color = ORANGE;
pub const LESS: Color = SKY;
/// A colour that lines can be seen on.
pub fn light(color: Color) -> Color {
    mix(WHITE, color, 0.55)
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

/// How many prompts exceed each threshold under both regimes.
pub fn exceedance(page: &mut Page<'_>, front: &Front, rect: &Rect, shares: &Scale, first: bool) {
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

/// The gap between the two with its band.
pub fn difference(page: &mut Page<'_>, front: &Front, rect: &Rect, [x, y]: [&Scale; 2], first: bool) {
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
pub fn distribution(page: &mut Page<'_>, front: &Front, rect: &Rect, [x, y]: [&Scale; 2], first: bool) {
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
