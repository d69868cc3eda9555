//! Where the panels of a figure go on a page of one or two columns.

use crate::page::{COLUMN, MARGIN, PAGE, TEXT};

/// A rectangle in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Its left edge.
    pub x: f64,
    /// Its upper edge.
    pub y: f64,
    /// How wide it is.
    pub w: f64,
    /// How high it is.
    pub h: f64,
}

impl Rect {
    /// Its right edge.
    pub fn right(&self) -> f64 {
        self.x + self.w
    }

    /// Its lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }

    /// Where shares of its width and, from below, of its height are.
    pub fn at(&self, across: f64, up: f64) -> [f64; 2] {
        [self.x + across * self.w, self.bottom() - up * self.h]
    }
}

/// How high a panel is.
#[derive(Debug, Clone, Copy)]
pub enum Height {
    /// So many points.
    Fixed(f64),
    /// This share of its width, and at most so many points.
    Share(f64, f64),
}

/// What panels need.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// How many there are.
    pub count: usize,
    /// The width that a panel must have, and that it may have at most.
    pub wide: [f64; 2],
    /// Room left of the first panel of a row, and between panels.
    pub left: f64,
    /// Room right of the last.
    pub right: f64,
    /// Room between panels.
    pub gap: f64,
    /// Height of a panel.
    pub height: Height,
    /// Room above a panel without a title.
    pub head: f64,
    /// Room below a panel, for its labels.
    pub foot: f64,
    /// The width of the page in points, where it was asked for.
    pub page: Option<f64>,
    /// Whether panels have titles.
    pub titled: bool,
}

/// Where panels go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// Width of the page.
    pub width: f64,
    /// Panels beside each other.
    pub columns: usize,
    count: usize,
    left: f64,
    gap: f64,
    panel: [f64; 2],
    head: f64,
    foot: f64,
}

impl Layout {
    /// The narrowest page on which the panels have room, and as few rows as that takes.
    pub fn of(need: &Need) -> Self {
        let beside = |page: f64| {
            let room = page - need.left - need.right - MARGIN;
            (((room + need.gap) / (need.wide[0] + need.gap)).floor() as usize).max(1)
        };
        let (width, most) = match need.page {
            Some(page) => (page, beside(page)),
            None if beside(COLUMN) >= need.count => (COLUMN, need.count),
            None => (PAGE, beside(PAGE)),
        };
        let most = most.min(need.count).max(1);
        // As even as it can be: 5 panels where 4 fit go 3 + 2.
        let columns = need.count.div_ceil(need.count.div_ceil(most)).max(1);
        let width = if need.page.is_none() && beside(COLUMN) >= columns {
            COLUMN
        } else {
            width
        };
        let room = width - need.left - need.right - MARGIN - need.gap * (columns as f64 - 1.0);
        let wide = (room / columns as f64).min(need.wide[1]);
        let high = match need.height {
            Height::Fixed(high) => high,
            Height::Share(share, most) => (wide * share).min(most),
        };
        let head = need.head + if need.titled { TEXT + 3.0 } else { 0.0 };
        Self {
            width,
            columns,
            count: need.count,
            left: need.left,
            gap: need.gap,
            panel: [wide, high],
            head,
            foot: need.foot,
        }
    }

    /// A panel's plot, for panels that start at `top`.
    pub fn rect(&self, index: usize, top: f64) -> Rect {
        let (row, column) = (index / self.columns, index % self.columns);
        Rect {
            x: self.left + column as f64 * (self.panel[0] + self.gap),
            y: top + row as f64 * (self.head + self.panel[1] + self.foot) + self.head,
            w: self.panel[0],
            h: self.panel[1],
        }
    }

    /// Whether a panel is the first of its row.
    pub fn first(&self, index: usize) -> bool {
        index.is_multiple_of(self.columns)
    }

    /// The middle of all panels of a row.
    pub fn middle(&self) -> f64 {
        let columns = self.columns as f64;
        self.left + (columns * self.panel[0] + (columns - 1.0) * self.gap) / 2.0
    }

    /// The lower end of all panels that start at `top`, their labels included.
    pub fn bottom(&self, top: f64) -> f64 {
        let rows = self.count.div_ceil(self.columns).max(1);
        top + rows as f64 * (self.head + self.panel[1] + self.foot)
    }

    /// The size of a panel's plot.
    pub fn panel(&self) -> [f64; 2] {
        self.panel
    }
}
