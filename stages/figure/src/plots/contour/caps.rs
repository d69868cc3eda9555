//! Caps on temperature and top-p that keep a risk budget.

use fracture_stage::Error;

use super::super::field::Field;
use crate::caption::short;
use crate::rows::Rows;

/// The caps of a panel for one budget.
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
    /// The caps of a table's rows, one for each budget, as reported on the half that they were not chosen on.
    ///
    /// # Errors
    /// An internal error when a mask does not fit.
    pub fn all(rows: &Rows) -> Result<Vec<Self>, Error> {
        let rows = reported(rows)?;
        let mut budgets: Vec<Option<f64>> = rows.maybe("budget");
        budgets.sort_by(|one, other| one.unwrap_or(0.0).total_cmp(&other.unwrap_or(0.0)));
        budgets.dedup();
        Ok(budgets.into_iter().map(|budget| Self::of(&rows, budget)).collect())
    }

    fn of(rows: &Rows, budget: Option<f64>) -> Self {
        let column = |name: &str| rows.maybe(name);
        let (budgets, temperature, mass) = (column("budget"), column("temperature"), column("top_p"));
        let (before, after, flags) = (column("before"), column("after"), rows.flags("chosen"));
        let own: Vec<usize> = (0..rows.count()).filter(|row| budgets[*row] == budget).collect();
        // At temperature 0 top-p has no effect: such a cap allows every one.
        let cap = |row: usize| Some([temperature[row]?, mass[row].unwrap_or(f64::INFINITY)]);
        let mut stairs: Vec<[f64; 2]> = own.iter().filter_map(|row| cap(*row)).collect();
        stairs.sort_by(|one, other| one[0].total_cmp(&other[0]).then(other[1].total_cmp(&one[1])));
        stairs.dedup();
        let picked = own.iter().copied().find(|row| flags[*row]);
        let picked = picked.or((stairs.len() == 1).then(|| own[0]));
        Self {
            budget,
            chosen: picked.and_then(cap),
            change: picked.and_then(|row| Some([before[row]?, after[row]?])),
            stairs,
        }
    }

    /// What the caps do, for the caption.
    pub fn sentence(&self) -> Option<String> {
        let budget = self
            .budget
            .map_or_else(String::new, |budget| format!(" {}", short(budget)));
        if self.stairs.is_empty() {
            return Some(format!("no cap meets the budget{budget}"));
        }
        let ([t, p], [before, after]) = (self.chosen?, self.change?);
        let place = if p.is_finite() {
            format!("T ≤ {}, top-p ≤ {}", short(t), short(p))
        } else {
            format!("T ≤ {}", short(t))
        };
        let (before, after) = (short(before), short(after));
        Some(format!("{place}: worst cell {before} → {after} on the held-out half"))
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

/// Of caps that are reported on both halves of the items, the rows of the half that they were not chosen on.
///
/// # Errors
/// An internal error when a mask does not fit.
pub fn reported(rows: &Rows) -> Result<Rows, Error> {
    const HALF: &str = "reporting";
    if rows.distinct("half").iter().any(|half| half == HALF) {
        return rows.any_of("half", &[HALF.to_owned()]);
    }
    Ok(rows.clone())
}
