//! Where the panels of a bar chart go on a page of one or two columns.

use super::Bars;
use crate::axes::STEEP;
use crate::font::Font;
use crate::page::{COLUMN, MARGIN, PAGE, TEXT};
use crate::scale::Scale;

/// Space between panels.
pub const GAP: f64 = 8.0;

/// Narrowest and widest bar.
const BAR: (f64, f64) = (5.0, 17.0);
/// Longest label of an x axis that is not cut.
const LABEL: f64 = 80.0;
/// A layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrangement {
    /// Width of the picture.
    pub width: f64,
    /// Panels beside each other.
    pub columns: usize,
    /// Panels above each other.
    pub rows: usize,
    /// Where the first panel's axis starts.
    pub left: f64,
    /// Where the title of the y axis is.
    pub title: f64,
    /// Size of a panel's plot.
    pub panel: [f64; 2],
    /// Whether the labels of the x axis are steep.
    pub steep: bool,
    /// The labels of the x axis, cut where they must be.
    pub labels: Vec<String>,
    /// Height of those labels.
    pub label_height: f64,
    /// Width of a bar.
    pub bar: f64,
}

/// Finds the narrowest layout in which labels and bars have room.
pub fn arrange(font: &Font, bars: &Bars, scale: &Scale, page: Option<f64>) -> Arrangement {
    let ticks = scale.ticks.iter().map(|tick| font.width(&scale.label(*tick), TEXT));
    let before = ticks.fold(0.0, f64::max) + 3.0;
    let left = MARGIN + TEXT + 5.0 + before;
    let labels: Vec<String> = bars.x.1.iter().map(|label| font.cut(label, TEXT, LABEL)).collect();
    let longest = labels.iter().map(|label| font.width(label, TEXT)).fold(0.0, f64::max);
    let series = bars.color.1.len() as f64;
    let thin = series * BAR.0 + 5.0;
    let slots = labels.len() as f64;
    let level = fit(bars.panels.len(), slots * thin.max(longest + 3.0), left, page);
    let (steep, left, (width, columns)) = match level {
        Some(found) => (false, left, found),
        None => {
            // A steep label ends below its bars and starts further left, perhaps left of the axis.
            let slot = thin.max(TEXT + 4.0);
            let left = left.max(longest * STEEP[0] - slot / 2.0 + MARGIN + TEXT);
            (
                true,
                left,
                fit(bars.panels.len(), slots * slot, left, page).unwrap_or((page.unwrap_or(PAGE), 1)),
            )
        }
    };
    let rows = bars.panels.len().div_ceil(columns);
    let room = width - left - MARGIN - GAP * (columns as f64 - 1.0);
    let panel_width = room / columns as f64;
    let height = match rows {
        1 => 112.0,
        2 => 92.0,
        _ => 78.0,
    };
    let bar = ((panel_width / slots - 5.0) / series).clamp(0.8, BAR.1);
    let label_height = if steep {
        longest * -STEEP[1] + TEXT + 2.0
    } else {
        TEXT + 4.0
    };
    let panel = [panel_width, height];
    let title = left - before - 6.0;
    Arrangement {
        width,
        columns,
        rows,
        left,
        title,
        panel,
        steep,
        labels,
        label_height,
        bar,
    }
}

/// The page's width and the number of panels beside each other, as even as it can be; `None` when not even one fits.
fn fit(panels: usize, need: f64, left: f64, page: Option<f64>) -> Option<(f64, usize)> {
    let beside = |width: f64| ((width - left - MARGIN + GAP) / (need + GAP)).floor() as usize;
    let (column, whole) = page.map_or((COLUMN, PAGE), |page| (page, page));
    if beside(column) >= panels {
        return Some((column, panels));
    }
    let most = beside(whole).min(panels);
    if most == 0 {
        return None;
    }
    let columns = panels.div_ceil(panels.div_ceil(most));
    let width = if beside(column) >= columns { column } else { whole };
    Some((width, columns))
}
