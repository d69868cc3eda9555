//! Reads the tables of a port into units, groups and regimes.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use fracture_science::identity;
use fracture_stage::{Error, View};

use super::codes::Codes;
use super::groups::Groups;
use super::labels::Labels;
use super::{CLUSTER, Measured, Reading, Sample, Side, TOLD, Unit, duplicates};
use crate::read;

/// The units, each row's unit, and the hash of each unit under which groups are matched.
type Units = (Codes, Vec<u32>, Vec<u64>);

/// Columns that never tell units apart.
const WITHIN: [&str; 3] = ["regime", "draw", "sample"];

impl Measured {
    /// Reads the rows.
    ///
    /// # Errors
    /// When two rows can not be told apart, a row lacks its item, regime or threshold, or a group column differs within one
    /// unit; the error names the item and what to do.
    pub fn load(views: &[&View], reading: &Reading<'_>) -> Result<Self, Error> {
        Self::load_labelled(views, &[], reading)
    }

    /// Reads the rows, each with the verdict of people where `labels` holds one ([`Labels::join`]).
    ///
    /// # Errors
    /// As [`Self::load`], and when the labels do not fit the rows.
    ///
    /// [`Labels::join`]: super::Labels::join
    pub fn load_labelled(views: &[&View], labels: &[&View], reading: &Reading<'_>) -> Result<Self, Error> {
        let rows: usize = views.iter().map(|view| view.rows()).sum();
        let columns = Columns::read(views, reading, rows)?;
        let labels = match labels {
            [] => None,
            labels => Some(Labels::join(views, labels)?),
        };
        let (units, unit_of_row, matched) = columns.units(views, rows, reading.apart)?;
        let regimes = Codes::of(&columns.regime);
        let (names, rank) = sorted_names(&columns.regime, &regimes);
        let mut order: Vec<usize> = (0..rows).collect();
        let place = |row: usize| {
            let regime = rank[regimes.of_row[row] as usize];
            (unit_of_row[row], regime, columns.draw(row), columns.sample(row))
        };
        order.sort_unstable_by_key(|&row| place(row));
        if let Some(pair) = order.windows(2).find(|pair| place(pair[0]) == place(pair[1])) {
            return Err(duplicates::error(
                views,
                [pair[0].min(pair[1]), pair[0].max(pair[1])],
                reading,
            ));
        }
        let groups = Groups::new(views, reading, &units.example, &unit_of_row)?;
        let (objectives, objective_codes) = columns.objectives(rows);
        let told = Codes::all(&columns.told, rows);
        let mut measured = Self {
            by: groups.by,
            by_text: groups.by_text,
            groups: vec![Vec::new(); groups.count],
            cues: cues(&columns.regime, read::text(views, "cue")?.as_ref(), &regimes, &rank),
            regimes: names,
            objectives,
            says_told: read::has(views, "cue") || read::has(views, "cue_hash"),
            units: columns.identities(&units.example, &matched),
            labelling: labels.as_ref().map(|labels| labels.notes.clone()).unwrap_or_default(),
            sides: Vec::new(),
            samples: Vec::with_capacity(rows),
        };
        for (unit, group) in groups.of_unit.iter().enumerate() {
            measured.groups[*group].push(unit);
        }
        measured
            .sides
            .resize(measured.units.len() * measured.regimes.len(), None);
        for rows in order.chunk_by(|&a, &b| (place(a).0, place(a).1) == (place(b).0, place(b).1)) {
            let (unit, regime, draw, _) = place(rows[0]);
            let start = measured.samples.len();
            let (mut rank, mut last) = (0, draw);
            for &row in rows {
                if columns.draw(row) != last {
                    (rank, last) = (rank + 1, columns.draw(row));
                }
                let human = labels.as_ref().map_or(f64::NAN, |labels| labels.majority[row]);
                measured.samples.push(Sample {
                    human,
                    ..columns.sample_of(row, rank, reading)?
                });
            }
            let side = Side {
                samples: start..measured.samples.len(),
                draw,
                told: told.of_row[rows[0]],
                objective: objective_codes.as_ref().map_or(0, |codes| codes.of_row[rows[0]]),
            };
            let width = measured.regimes.len();
            measured.sides[unit as usize * width + regime] = Some(side);
        }
        Ok(measured)
    }
}

/// The key columns that tell units apart.
pub fn names(views: &[&View]) -> Vec<String> {
    let mut names: Vec<String> = vec!["item".to_owned(), "axis".to_owned()];
    let others: BTreeSet<&String> = views.iter().flat_map(|view| view.keys()).collect();
    let others = others.into_iter().filter(|name| !WITHIN.contains(&name.as_str()));
    names.extend(others.filter(|name| *name != "item" && *name != "axis").cloned());
    names.retain(|name| read::has(views, name));
    names
}

/// The values of a column, sorted, and for each code its place among them.
fn sorted_names(column: &LargeStringArray, codes: &Codes) -> (Vec<String>, Vec<usize>) {
    let mut names: Vec<String> = codes.example.iter().map(|&row| column.value(row).to_owned()).collect();
    names.sort();
    let rank = codes
        .example
        .iter()
        .map(|&row| names.partition_point(|name| name.as_str() < column.value(row)));
    let rank = rank.collect();
    (names, rank)
}

/// The first cue by name of each regime.
fn cues(
    regime: &LargeStringArray,
    cue: Option<&LargeStringArray>,
    codes: &Codes,
    rank: &[usize],
) -> Vec<Option<String>> {
    let mut found: Vec<Option<&str>> = vec![None; rank.len()];
    for row in 0..regime.len() {
        let Some(cue) = cue.and_then(|cue| read::at(cue, row)) else {
            continue;
        };
        let slot = &mut found[rank[codes.of_row[row] as usize]];
        *slot = Some(slot.map_or(cue, |known| known.min(cue)));
    }
    found.into_iter().map(|cue| cue.map(str::to_owned)).collect()
}

/// The columns that are read, over all tables.
struct Columns {
    item: LargeStringArray,
    axis: Option<LargeStringArray>,
    regime: LargeStringArray,
    cluster: Option<LargeStringArray>,
    draw: Option<Int64Array>,
    sample: Option<Int64Array>,
    told: Vec<LargeStringArray>,
    objective: Option<LargeStringArray>,
    scores: Float64Array,
    invalid: Option<LargeStringArray>,
    finish: Option<LargeStringArray>,
    tau: Option<Float64Array>,
    tau_other: Option<Float64Array>,
    verdict: Option<BooleanArray>,
}

impl Columns {
    fn read(views: &[&View], reading: &Reading<'_>, rows: usize) -> Result<Self, Error> {
        let cluster = reading.cluster.unwrap_or(CLUSTER);
        let when = |wanted: bool| if wanted { views } else { &[] };
        let needed = |name: &str| -> Result<LargeStringArray, Error> {
            if views.is_empty() {
                return Ok(LargeStringArray::new_null(0));
            }
            let column = read::required(read::text(views, name)?, name, views)?;
            match column.null_count() {
                0 => Ok(column),
                nulls => Err(
                    Error::task(format!("column `{name}` is null in {nulls} of {rows} rows"))
                        .hint(format!("every row needs its {name}; leave such rows out with `where:`")),
                ),
            }
        };
        let scores = read::numbers(views, reading.score)?.unwrap_or_else(|| vec![None::<f64>; rows].into());
        Ok(Self {
            item: needed("item")?,
            axis: read::text(views, "axis")?,
            regime: needed("regime")?,
            cluster: read::text(views, cluster)?,
            draw: read::integers(views, "draw")?,
            sample: read::integers(views, "sample")?,
            told: TOLD
                .iter()
                .filter_map(|name| read::text(views, name).transpose())
                .collect::<Result<_, _>>()?,
            objective: read::text(views, "objective")?,
            scores,
            invalid: read::text(views, "invalid")?,
            finish: read::text(views, "finish_reason")?,
            tau: read::numbers(when(reading.verdicts), "tau")?,
            tau_other: read::numbers(when(reading.verdicts), "tau_other")?,
            verdict: read::flags(when(reading.verdicts), "unsafe")?,
        })
    }

    fn draw(&self, row: usize) -> i64 {
        whole(self.draw.as_ref(), row)
    }

    fn sample(&self, row: usize) -> i64 {
        whole(self.sample.as_ref(), row)
    }

    /// The units, each row's unit, and for each unit the hash of all key columns but `apart`.
    fn units(&self, views: &[&View], rows: usize, apart: Option<&str>) -> Result<Units, Error> {
        let names = names(views);
        let mut columns = Vec::with_capacity(names.len());
        for name in &names {
            columns.extend(read::text(views, name)?);
        }
        let codes = Codes::all(&columns, rows);
        let of_row = codes.of_row.clone();
        let together = || {
            names
                .iter()
                .zip(&columns)
                .filter(|(name, _)| Some(name.as_str()) != apart)
        };
        let matched = |&row: &usize| {
            let parts: Vec<&str> = together()
                .flat_map(|(name, column)| match read::at(column, row) {
                    Some(value) => vec![name.as_str(), "is", value],
                    None => vec![name.as_str(), "null"],
                })
                .collect();
            identity(&parts)
        };
        let matched = codes.example.iter().map(matched).collect();
        Ok((codes, of_row, matched))
    }

    fn objectives(&self, rows: usize) -> (Vec<Option<String>>, Option<Codes>) {
        let Some(column) = &self.objective else {
            return (vec![None], None);
        };
        let codes = Codes::of(column);
        debug_assert_eq!(codes.of_row.len(), rows);
        (
            codes
                .example
                .iter()
                .map(|&row| read::at(column, row).map(str::to_owned))
                .collect(),
            Some(codes),
        )
    }

    /// Who each unit is: items by axis and name, clusters by their value or else the item itself.
    fn identities(&self, examples: &[usize], matched: &[u64]) -> Vec<Unit> {
        let mut known: HashMap<(&str, &str), u64> = HashMap::new();
        let mut clusters: HashMap<&str, u64> = HashMap::new();
        let unit = |(&row, &matched): (&usize, &u64)| {
            let axis = self
                .axis
                .as_ref()
                .and_then(|axis| read::at(axis, row))
                .unwrap_or_default();
            let name = self.item.value(row);
            let item = *known.entry((axis, name)).or_insert_with(|| identity(&[axis, name]));
            let cluster = self.cluster.as_ref().and_then(|cluster| read::at(cluster, row));
            let cluster = cluster.map_or(item, |name| {
                *clusters.entry(name).or_insert_with(|| identity(&["cluster", "", name]))
            });
            Unit { item, cluster, matched }
        };
        examples.iter().zip(matched).map(unit).collect()
    }

    fn sample_of(&self, row: usize, rank: u32, reading: &Reading<'_>) -> Result<Sample, Error> {
        let valid = self.invalid.as_ref().is_none_or(|reasons| reasons.is_null(row));
        let score = if valid {
            read::number_at(&self.scores, row)
        } else {
            f64::NAN
        };
        let number =
            |column: &Option<Float64Array>| column.as_ref().map_or(f64::NAN, |column| read::number_at(column, row));
        let (tau, tau_other) = (number(&self.tau), number(&self.tau_other));
        if reading.verdicts && !score.is_nan() {
            self.check_verdict(row, score, tau, reading)?;
        }
        Ok(Sample {
            slot: (rank, self.sample(row)),
            row: row as u32,
            score,
            tau,
            tau_other,
            human: f64::NAN,
            truncated: self.finish.as_ref().and_then(|finish| read::at(finish, row)) == Some("length"),
        })
    }

    /// A scored row has a threshold, and a verdict that follows from both.
    fn check_verdict(&self, row: usize, score: f64, tau: f64, reading: &Reading<'_>) -> Result<(), Error> {
        let place = || format!("item {}, regime {}", self.item.value(row), self.regime.value(row));
        if tau.is_nan() {
            return Err(Error::task(format!("a row has a score but no tau ({})", place()))
                .hint("put a `threshold` stage between the scores and this one"));
        }
        let Some(verdicts) = &self.verdict else { return Ok(()) };
        let verdict = verdicts.is_valid(row).then(|| verdicts.value(row));
        if verdict != Some(score >= tau) {
            let said = verdict.map_or("null".to_owned(), |verdict| verdict.to_string());
            return Err(Error::task(format!(
                "column `unsafe` is {said} where `{}` is {score} and `tau` is {tau} ({})",
                reading.score,
                place()
            ))
            .hint("`unsafe` must be score >= tau: change the score or tau, not the verdict"));
        }
        Ok(())
    }
}

fn whole(column: Option<&Int64Array>, row: usize) -> i64 {
    column
        .filter(|column| column.is_valid(row))
        .map_or(0, |column| column.value(row))
}
