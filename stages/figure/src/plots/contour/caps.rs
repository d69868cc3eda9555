//! Caps on temperature and top-p that keep a risk budget.

use super::super::field::Field;
use crate::caption::short;
use crate::rows::Rows;

/// The caps of a panel.
pub struct Caps {
    /// The risk budget.
    pub budget: Option<f64>,
    /// Temperature and top-p of each, temperature ascending.
    pub stairs: Vec<[f64; 2]>,
    /// The cap that was chosen.
    pub chosen: Option<[f64; 2]>,
    /// The greatest value before and after the chosen cap.
    change: Option<[f64; 2]>,
}

impl Caps {
    /// The caps of a table's rows.
    pub fn of(rows: &Rows) -> Self {
        let (temperature, mass) = (rows.maybe("temperature"), rows.maybe("top_p"));
        let (before, after) = (rows.maybe("before"), rows.maybe("after"));
        let flags = rows.flags("chosen");
        let mut stairs: Vec<[f64; 2]> = temperature
            .iter()
            .zip(&mass)
            .filter_map(|(t, p)| Some([(*t)?, (*p)?]))
            .collect();
        stairs.sort_by(|one, other| one[0].total_cmp(&other[0]).then(other[1].total_cmp(&one[1])));
        stairs.dedup();
        let picked = flags.iter().position(|flag| *flag).or((stairs.len() == 1).then_some(0));
        let at = |column: &[Option<f64>], row: usize| column.get(row).copied().flatten();
        Self {
            budget: rows.maybe("budget").into_iter().flatten().next(),
            chosen: picked.and_then(|row| Some([at(&temperature, row)?, at(&mass, row)?])),
            change: picked.and_then(|row| Some([at(&before, row)?, at(&after, row)?])),
            stairs,
        }
    }

    /// What the caps do, for the caption.
    pub fn sentence(&self) -> Option<String> {
        if self.stairs.is_empty() {
            return Some("no cap meets the budget".to_owned());
        }
        let ([t, p], [before, after]) = (self.chosen?, self.change?);
        Some(format!(
            "T ≤ {}, top-p ≤ {}: worst cell {} → {} on the held-out half",
            short(t),
            short(p),
            short(before),
            short(after)
        ))
    }

    /// The corners of the edge of what the caps allow: every setting below and left of it is within one of them.
    pub fn edge(&self, field: &Field) -> Vec<[f64; 2]> {
        let Some(&[_, highest]) = self.stairs.first() else {
            return Vec::new();
        };
        let mut corners = vec![[field.temperatures[0], highest]];
        for (index, &[t, p]) in self.stairs.iter().enumerate() {
            corners.push([t, p]);
            let next = self.stairs.get(index + 1).map_or(field.masses[0], |next| next[1]);
            corners.push([t, next]);
        }
        corners
    }
}
