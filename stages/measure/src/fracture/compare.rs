//! Declared comparisons: groups that differ in one column, paired by item.
//!
//! `order` runs from the lowest expected value to the highest; each is compared with the next: `a` is the value of the
//! earlier, `b` of the later, `difference` is `b - a`, and `pr_order` the share of bootstrap draws in which `b` is higher,
//! ties half; `pr_whole_order` is the same of the whole order. Where the two groups share no item (two axes) each is estimated on its own items and `paired` is false.

use arrow::record_batch::RecordBatch;
use fracture_science::{Comparison, compare, holm, pr_ascending};
use fracture_stage::{Error, Field, Open, Schema};

use super::flips::Flips;
use super::parameters::Compare;
use crate::order::same;
use crate::parameters::Aggregate;
use crate::read::science;
use crate::rows::{Contrast, Measured};
use crate::table::{self, Column, Lead, count, number, text};

/// A row of the comparisons.
pub struct Line {
    group: usize,
    column: String,
    contrast: String,
    aggregate: &'static str,
    levels: [String; 2],
    value: &'static str,
    comparison: Comparison,
    p_adjusted: Option<f64>,
    /// Pr that the whole declared order holds.
    pr_whole_order: Option<f64>,
}

const FIRST: &[Column<Line>] = &[text("column", |line| Some(&line.column))];

const COLUMNS: &[Column<Line>] = &[
    text("contrast", |line| Some(&line.contrast)),
    text("aggregate", |line| Some(line.aggregate)),
    text("level_a", |line| Some(&line.levels[0])),
    text("level_b", |line| Some(&line.levels[1])),
    text("value", |line| Some(line.value)),
    count("n", |line| line.comparison.n),
    // The numbers' crate compares its first group with its second: ours are handed over the other way round.
    number("a", |line| line.comparison.b),
    number("b", |line| line.comparison.a),
    number("difference", |line| line.comparison.difference.value),
    number("difference_low", |line| line.comparison.difference.low),
    number("difference_high", |line| line.comparison.difference.high),
    number("p", |line| line.comparison.p),
    number("p_adjusted", |line| line.p_adjusted),
    number("pr_order", |line| line.comparison.pr_order),
    text("design", |line| {
        Some(if line.comparison.paired { "paired" } else { "unpaired" })
    }),
    number("pr_whole_order", |line| line.pr_whole_order),
];

/// The names that group columns can not have when something is compared.
pub fn names(compares: &[Compare]) -> impl Iterator<Item = &'static str> {
    let all = FIRST.iter().chain(COLUMNS).map(|column| column.name);
    all.filter(|_| !compares.is_empty())
}

/// Whether a group column is left out: every comparison is over it.
fn left_out(name: &str, compares: &[Compare]) -> bool {
    !compares.is_empty() && compares.iter().all(|compare| compare.column == name)
}

/// The schema at plan time.
pub fn schema(by: Option<&[Field]>, compares: &[Compare]) -> Schema {
    let kept = |by: &[Field]| {
        by.iter()
            .filter(|field| !left_out(&field.name, compares))
            .cloned()
            .collect::<Vec<_>>()
    };
    let by = by.map(kept);
    let first = table::schema(Some(&[]), FIRST);
    let lead: Option<Vec<Field>> = by.map(|by| first.fields.iter().cloned().chain(by).collect());
    let mut schema = table::schema(lead.as_deref(), COLUMNS);
    if lead.is_none() {
        schema.fields.splice(0..0, first.fields);
    }
    schema
}

/// The table.
pub fn batch(measured: &Measured, compares: &[Compare], lines: &[Line]) -> Result<RecordBatch, Error> {
    let own = table::batch(Vec::new(), FIRST, lines)?;
    let place = (0..lines.len()).map(|line| Some(line as u32)).collect();
    let mut leads = vec![Lead {
        name: FIRST[0].name.to_owned(),
        groups: own.column(0).clone(),
        of_line: place,
    }];
    for (name, values) in measured.by.iter().filter(|(name, _)| !left_out(name, compares)) {
        let of_line = lines
            .iter()
            .map(|line| (line.column != *name).then_some(line.group as u32))
            .collect();
        leads.push(Lead {
            name: name.clone(),
            groups: values.clone(),
            of_line,
        });
    }
    table::batch(leads, COLUMNS, lines)
}

/// All declared comparisons, p adjusted over them by Holm.
pub fn comparisons(flips: &Flips<'_>, contrasts: &[Contrast], open: &Open<'_>) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for declared in &flips.parameters.compare {
        for chain in chains(flips.measured, declared)? {
            for contrast in contrasts {
                for aggregate in &flips.parameters.aggregate {
                    open.check()?;
                    let whole = whole_order(flips, declared, &chain, *contrast, *aggregate)?;
                    for pair in chain.windows(2) {
                        let [Some(a), Some(b)] = pair else { continue };
                        lines.push(Line {
                            pr_whole_order: whole,
                            ..line(flips, declared, [a, b], *contrast, *aggregate)?
                        });
                    }
                }
            }
        }
    }
    let adjusted = holm(&lines.iter().map(|line| line.comparison.p).collect::<Vec<_>>());
    lines
        .iter_mut()
        .zip(adjusted)
        .for_each(|(line, adjusted)| line.p_adjusted = adjusted);
    Ok(lines)
}

fn line(
    flips: &Flips<'_>,
    declared: &Compare,
    [a, b]: [&Level; 2],
    contrast: Contrast,
    aggregate: Aggregate,
) -> Result<Line, Error> {
    let verdicts = |level: &Level| {
        flips
            .measured
            .verdicts(level.group, contrast, aggregate, |sample| sample.tau)
    };
    let (low, high) = (verdicts(a)?, verdicts(b)?);
    let options = flips.options(aggregate);
    let comparison = compare(&high.pairs(), &low.pairs(), declared.value.into(), &options).map_err(|error| {
        science(error).context(format!(
            "`{}` {} and {} can not be compared",
            declared.column, a.name, b.name
        ))
    })?;
    Ok(Line {
        group: a.group,
        column: declared.column.clone(),
        contrast: flips.measured.contrast_name(contrast),
        aggregate: aggregate.name(),
        levels: [a.name.clone(), b.name.clone()],
        value: declared.value.name(),
        comparison,
        p_adjusted: None,
        pr_whole_order: None,
    })
}

/// Pr that the metric rises from each value of the order to the next; null where a value has no group.
fn whole_order(
    flips: &Flips<'_>,
    declared: &Compare,
    chain: &[Option<Level>],
    contrast: Contrast,
    aggregate: Aggregate,
) -> Result<Option<f64>, Error> {
    let mut tables = Vec::with_capacity(chain.len());
    for level in chain {
        let Some(level) = level else { return Ok(None) };
        tables.push(
            flips
                .measured
                .verdicts(level.group, contrast, aggregate, |sample| sample.tau)?,
        );
    }
    let groups: Vec<_> = tables.iter().map(|table| table.pairs()).collect();
    Ok(pr_ascending(&groups, declared.value.into(), &flips.options(aggregate)))
}

/// A group by the value of the compared column.
#[derive(Clone)]
struct Level {
    group: usize,
    name: String,
}

/// The groups that differ in the compared column alone, in its order; `None` where a value has no group.
fn chains(measured: &Measured, declared: &Compare) -> Result<Vec<Vec<Option<Level>>>, Error> {
    let column = measured
        .by
        .iter()
        .position(|(name, _)| *name == declared.column)
        .ok_or_else(|| {
            Error::pipeline(format!(
                "`compare` names `{}`, which is no group column",
                declared.column
            ))
            .hint("add it to `by:`")
        })?;
    let levels = declared.levels();
    let values = &measured.by_text[column];
    for level in levels.iter().filter(|_| !values.is_empty()) {
        if !values.iter().flatten().any(|value| same(value, level)) {
            let mut known: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
            known.dedup();
            known.sort_by(|a, b| crate::order::compare(Some(a), Some(b)));
            known.dedup();
            return Err(
                Error::pipeline(format!("`{}` has no value `{level}` to compare", declared.column))
                    .hint(format!("its values are {}", known.join(", "))),
            );
        }
    }
    let others = |group: usize| -> Vec<&Option<String>> {
        let columns = measured
            .by_text
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != column);
        columns.map(|(_, values)| &values[group]).collect()
    };
    let mut found = Vec::new();
    let mut seen: Vec<Vec<&Option<String>>> = Vec::new();
    for group in 0..measured.groups.len() {
        let rest = others(group);
        if seen.contains(&rest) {
            continue;
        }
        let at = |level: &String| {
            let fits = |other: &usize| {
                values[*other].as_ref().is_some_and(|value| same(value, level)) && others(*other) == rest
            };
            (0..measured.groups.len()).find(fits).map(|group| Level {
                group,
                name: level.clone(),
            })
        };
        found.push(levels.iter().map(at).collect());
        seen.push(rest);
    }
    Ok(found)
}
