//! Joins the tables that the four numbers come from, a row a cell of the grid.

use fracture_stage::Error;

use super::super::Drawing;
use super::super::contour::reported;
use super::{DECODERS, JOINED, Joined, NUMBERS, Number, WITHIN};
use crate::groups::{beside, choose, needless};
use crate::order;
use crate::rows::{Rows, list};

/// The four numbers of every cell.
///
/// # Errors
/// When two rows of a table belong to one cell.
pub fn join(drawing: &Drawing<'_>) -> Result<Joined, Error> {
    let parameters = drawing.parameters;
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &[])?;
    let keys: Vec<String> = rows
        .keys()
        .iter()
        .filter(|key| !WITHIN.contains(&key.as_str()))
        .cloned()
        .collect();
    let rows = sorted(&rows, &keys)?;
    let keys = varying(&rows, &keys)?;
    let mut numbers = Vec::new();
    let mut withheld = false;
    for (column, _, place) in NUMBERS {
        let other = match drawing.beside(*place).filter(|_| *place > 0) {
            Some(other) if *place == 3 => Some(one_budget(&reported(&beside(other, &rows, parameters)?)?)?),
            Some(other) => Some(beside(other, &rows, parameters)?),
            None => None,
        };
        let source = other.as_ref().unwrap_or(&rows);
        let of = match &other {
            Some(other) => partners(&rows, other, *place == 3)?,
            None => (0..rows.count()).map(Some).collect(),
        };
        let joined = JOINED
            .iter()
            .find(|(name, joined)| name == column && source.column(joined).is_some());
        let name = joined.map_or(*column, |(_, joined)| joined);
        let columns = ["", "_low", "_high"].map(|end| source.maybe(&format!("{name}{end}")));
        // Entry is no headline where its boundary does not hold.
        let headline = (*column == "entry").then(|| source.numbers("headline")).flatten();
        let headline = headline.filter(|_| other.is_some());
        let number = |row: &Option<usize>| -> Number {
            let Some(row) = *row else { return [None; 3] };
            if headline.as_ref().is_some_and(|headline| headline[row].is_none()) {
                return [None; 3];
            }
            [0, 1, 2].map(|part: usize| columns[part][row])
        };
        let own: Vec<Number> = of.iter().map(number).collect();
        withheld |= headline.is_some()
            && of
                .iter()
                .zip(&own)
                .any(|(row, own)| own[0].is_none() && row.is_some_and(|row| columns[0][row].is_some()));
        numbers.push(own);
    }
    Ok(Joined {
        keys,
        numbers,
        withheld,
        rows,
        notes,
    })
}

/// The rows in the order of their keys.
fn sorted(rows: &Rows, keys: &[String]) -> Result<Rows, Error> {
    let known = ["axis", "algorithm", "model", "decoder"];
    let first = known.into_iter().filter(|name| keys.iter().any(|key| key == name));
    let others = keys.iter().map(String::as_str).filter(|key| !known.contains(key));
    let mut by = Vec::new();
    for key in first.chain(others) {
        by.push((key, rows.texts(key)?));
    }
    let mut order: Vec<usize> = (0..rows.count()).collect();
    order.sort_by(|one, other| {
        let mut orders = by
            .iter()
            .map(|(name, texts)| order::compare(name, &texts[*one], &texts[*other]));
        orders.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    rows.at(&order)
}

/// The keys that the table shows, with their texts: those with several values.
fn varying(rows: &Rows, keys: &[String]) -> Result<Vec<(String, Vec<String>)>, Error> {
    let first = ["axis", "algorithm", "model", "decoder"];
    let mut names: Vec<&str> = first
        .into_iter()
        .filter(|name| keys.iter().any(|key| key == name))
        .collect();
    // A decoder's settings and a model's labels say again what their names say.
    let named = |name: &str| DECODERS[1..].contains(&name) && names.contains(&"decoder");
    let more: Vec<&str> = keys
        .iter()
        .map(String::as_str)
        .filter(|name| !names.contains(name) && !named(name))
        .collect();
    names.extend(more);
    names.retain(|name| rows.distinct(name).len() > 1);
    if names.is_empty() {
        names.extend(keys.iter().map(String::as_str).take(1));
    }
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut texts = Vec::new();
    for name in &names {
        texts.push(rows.texts(name)?);
    }
    needless(&mut names, &mut texts, &[], 0);
    Ok(names.into_iter().zip(texts).collect())
}

/// For every row the row of another table that agrees in the key columns both have.
fn partners(rows: &Rows, other: &Rows, caps: bool) -> Result<Vec<Option<usize>>, Error> {
    let shared = rows.keys().iter().filter(|key| {
        other.column(key).is_some() && !WITHIN.contains(&key.as_str()) && !(caps && DECODERS.contains(&key.as_str()))
    });
    let mut texts = Vec::new();
    for key in shared {
        texts.push((rows.texts(key)?, other.texts(key)?));
    }
    let chosen = other.flags("chosen");
    let mut found = Vec::with_capacity(rows.count());
    for row in 0..rows.count() {
        let fits = |at: &usize| texts.iter().all(|(own, others)| own[row] == others[*at]);
        let mut all: Vec<usize> = (0..other.count()).filter(fits).collect();
        if caps && chosen.contains(&true) {
            all.retain(|at| chosen[*at]);
        }
        if all.len() > 1 {
            let cell: Vec<String> = texts.iter().map(|(own, _)| own[row].clone()).collect();
            return Err(Error::pipeline(format!(
                "{} rows belong to one cell of the grid, {}",
                all.len(),
                list(&cell)
            ))
            .hint("give all stages of `from` the same `by`, or choose rows with `where`"));
        }
        found.push(all.first().copied());
    }
    Ok(found)
}

/// Of caps for several budgets those for the smallest.
fn one_budget(caps: &Rows) -> Result<Rows, Error> {
    match caps.distinct("budget").as_slice() {
        [first, _, ..] => caps.any_of("budget", std::slice::from_ref(first)),
        _ => Ok(caps.clone()),
    }
}
