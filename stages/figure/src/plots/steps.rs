//! Functions that change only at observed scores: their value at a score holds from the next lower score (exclusive) up to
//! it (inclusive).

use crate::axes::{across, up};
use crate::layout::Rect;
use crate::scale::Scale;
use crate::scene::Point;

/// The most steps that a line is drawn with: more can not be seen, and make files large.
const MOST: usize = 1200;

/// A function of steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps(Vec<(f64, f64)>);

impl Steps {
    /// Steps from scores and values in any order. Where scores are dense, every so many are kept.
    pub fn new(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<(f64, f64)> = points.into_iter().collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points.dedup_by(|later, earlier| later.0 == earlier.0);
        if points.len() > MOST {
            let stride = points.len().div_ceil(MOST);
            let last = points.len() - 1;
            let kept = points
                .iter()
                .enumerate()
                .filter(|(index, _)| index % stride == 0 || *index == last);
            points = kept.map(|(_, point)| *point).collect();
        }
        Self(points)
    }

    /// The scores.
    pub fn scores(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(|(score, _)| *score)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(|(_, value)| *value)
    }

    /// The corners of the line over a plot, from the left edge on; above the last score it is `after`.
    pub fn line(&self, rect: &Rect, x: &Scale, y: &Scale, after: Option<f64>) -> Vec<Point> {
        let mut corners = Vec::with_capacity(self.0.len() * 2 + 2);
        let mut from = x.low;
        for (score, value) in &self.0 {
            let height = up(rect, y, *value);
            let to = score.clamp(x.low, x.high);
            // A score at the very edge has a value and no width.
            corners.push([across(rect, x, from), height]);
            corners.push([across(rect, x, to), height]);
            from = to;
        }
        if let Some(after) = after
            && from < x.high
        {
            let height = up(rect, y, after);
            corners.push([across(rect, x, from), height]);
            corners.push([across(rect, x, x.high), height]);
        }
        corners.dedup();
        corners
    }
}
