//! A game whose payoffs are measured: audits and types are found among the rows, and every audit and type gets its pairs.

use std::collections::{BTreeMap, BTreeSet};

use fracture_measure::order;
use fracture_measure::rows::{BETWEEN, Measured, Sample, verdict};
use fracture_science::{FlipDraws, FlipOptions, Pair, Watched};
use fracture_stage::{Error, Open};

use super::parameters::{NONE, StackelbergParameters};

/// The regime with the training cue when no other is named.
const TRAIN: &str = "train";
/// What stands between the values that make a name.
pub(super) const JOIN: &str = "/";
/// Columns that make an audit beside its regime, where they have several values.
const ALSO: [&str; 2] = ["decoder", "tau"];

/// Audits and types with their flip tables.
pub struct Measurement {
    /// The audits' names, `none` last.
    pub audits: Vec<String>,
    /// What each looks like.
    pub watched: Vec<Watched>,
    /// The types' names.
    pub types: Vec<String>,
    /// `[audit][type]`.
    pub tables: Vec<Vec<FlipDraws>>,
}

/// What is measured, and how.
pub struct Measurer<'a> {
    pub measured: &'a Measured,
    pub parameters: &'a StackelbergParameters,
    /// The columns of audits.
    audit_columns: Vec<usize>,
    /// The columns of types.
    type_columns: Vec<usize>,
    /// The columns that the truth holds at one value.
    pub(super) held: Vec<(usize, String)>,
    /// The truth's regime.
    truth: usize,
    /// The group that shows the truth of each group.
    truths: Vec<Option<usize>>,
}

/// An audit: a regime and values of the other columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Audit {
    regime: usize,
    values: Vec<String>,
}

/// The verdicts on one item, of the audit and of the truth.
struct Row {
    item: u64,
    cluster: u64,
    verdicts: [Vec<f64>; 2],
}

impl<'a> Measurer<'a> {
    /// Finds the columns among the group columns of `measured`, which are all that tell rows apart.
    ///
    /// # Errors
    /// When a column or the truth's regime is not there.
    pub fn new(measured: &'a Measured, parameters: &'a StackelbergParameters) -> Result<Self, Error> {
        let place = |name: &str, what: &str| {
            measured.by.iter().position(|(other, _)| other == name).ok_or_else(|| {
                let names: Vec<&str> = measured.by.iter().map(|(name, _)| name.as_str()).collect();
                Error::pipeline(format!("there is no column `{name}` for the {what}"))
                    .hint(format!("the columns are regime, {}", names.join(", ")))
            })
        };
        let several = |name: &&str| {
            let column = measured.by.iter().position(|(other, _)| other == name);
            column.is_some_and(|column| {
                measured.by_text[column]
                    .iter()
                    .any(|v| *v != measured.by_text[column][0])
            })
        };
        let audits: Vec<&str> = match &parameters.actions {
            Some(columns) => columns
                .iter()
                .map(String::as_str)
                .filter(|name| *name != "regime")
                .collect(),
            None => ALSO.into_iter().filter(several).collect(),
        };
        let types: Vec<&str> = match &parameters.types {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => ["model"]
                .into_iter()
                .filter(|name| place(name, "types").is_ok())
                .collect(),
        };
        let audit_columns: Vec<usize> = audits
            .iter()
            .map(|name| place(name, "audits"))
            .collect::<Result<_, _>>()?;
        let truth = &parameters.truth;
        let regime = measured.regimes.iter().position(|regime| *regime == truth.regime);
        let regime = regime.ok_or_else(|| {
            Error::pipeline(format!("there is no regime `{}` that shows the truth", truth.regime))
                .hint(format!("the regimes are {}; say `truth:`", measured.regimes.join(", ")))
        })?;
        let tau = audits
            .iter()
            .position(|name| *name == "tau")
            .map(|at| audit_columns[at]);
        let taus: BTreeSet<_> = tau.into_iter().flat_map(|column| &measured.by_text[column]).collect();
        if taus.len() > 1 && truth.tau.is_none() {
            return Err(
                Error::pipeline("audits have several values of tau, but the truth has one").hint(format!(
                    "say from which score on a deployed answer is unsafe: `truth: {{ regime: {}, tau: 0.5 }}`",
                    truth.regime
                )),
            );
        }
        let held = truth
            .held
            .iter()
            .map(|(name, value)| Ok((place(name, "truth")?, value.clone())));
        let mut measurer = Self {
            measured,
            parameters,
            audit_columns,
            type_columns: types
                .iter()
                .map(|name| place(name, "types"))
                .collect::<Result<_, _>>()?,
            held: held.collect::<Result<_, Error>>()?,
            truth: regime,
            truths: Vec::new(),
        };
        measurer.truths = measurer.find_truths()?;
        Ok(measurer)
    }

    /// Measures every audit against every type.
    ///
    /// # Errors
    /// When there is no audit, or an audit and a type share no item with the truth.
    pub fn measure(&self, options: &FlipOptions, open: &Open<'_>) -> Result<Measurement, Error> {
        let regimes = self.regimes()?;
        let audits = self.audits(&regimes);
        if audits.is_empty() {
            return Err(Error::pipeline("there is no audit to choose from")
                .hint("the verdicts need a regime beside the truth's, with rows"));
        }
        let types = self.types();
        let watched = self.watched(&audits)?;
        let mut measurement = Measurement {
            audits: audits.iter().map(|audit| self.name(audit)).collect(),
            watched,
            types: types.iter().map(|kind| type_name(kind)).collect(),
            tables: Vec::new(),
        };
        for audit in &audits {
            let mut row = Vec::new();
            for kind in &types {
                open.check()?;
                let rows = self.pairs(Some(audit), kind);
                let table = FlipDraws::new(&pairs(&rows), options);
                if table.n == 0 {
                    return Err(Error::task(format!(
                        "the audit `{}` has no valid pair with the truth `{}` for the type `{}`",
                        self.name(audit),
                        self.parameters.truth.regime,
                        type_name(kind)
                    ))
                    .hint("leave the audit out by `regimes:`, or measure it for every type"));
                }
                row.push(table);
            }
            measurement.tables.push(row);
            (open.progress)(measurement.tables.len() as u64, audits.len() as u64 + 1);
        }
        let nothing = types
            .iter()
            .map(|kind| FlipDraws::new(&pairs(&self.pairs(None, kind)), options));
        measurement.tables.push(nothing.collect());
        measurement.audits.push(NONE.to_owned());
        measurement.watched.push(Watched::Nothing);
        Ok(measurement)
    }

    /// The regimes that audit.
    fn regimes(&self) -> Result<Vec<usize>, Error> {
        let known = &self.measured.regimes;
        if let Some(asked) = &self.parameters.regimes {
            let find = |name: &String| {
                let found = known.iter().position(|regime| regime == name);
                found.ok_or_else(|| {
                    Error::pipeline(format!("there is no regime `{name}` that could audit"))
                        .hint(format!("the regimes are {}", known.join(", ")))
                })
            };
            return asked.iter().map(find).collect();
        }
        // What differs from the truth only in its random stream is the truth again.
        let twins = self.measured.same_but_draw();
        let again = |regime: usize| {
            let pairs = [[regime, self.truth], [self.truth, regime]];
            twins.iter().any(|pair| pairs.contains(&[pair.first, pair.second]))
        };
        Ok((0..known.len())
            .filter(|&regime| regime != self.truth && !again(regime))
            .collect())
    }

    pub(super) fn values(&self, group: usize, columns: &[usize]) -> Vec<String> {
        let value = |&column: &usize| self.measured.by_text[column][group].clone();
        columns
            .iter()
            .map(|column| value(column).unwrap_or_else(|| "null".to_owned()))
            .collect()
    }

    /// The audits that rows were made under, in the order of their columns' values.
    fn audits(&self, regimes: &[usize]) -> Vec<Audit> {
        let mut found: BTreeSet<Audit> = BTreeSet::new();
        for (group, units) in self.measured.groups.iter().enumerate() {
            let values = self.values(group, &self.audit_columns);
            for &regime in regimes {
                if units.iter().any(|&unit| self.measured.side(unit, regime).is_some()) {
                    let values = values.clone();
                    found.insert(Audit { regime, values });
                }
            }
        }
        let mut audits: Vec<Audit> = found.into_iter().collect();
        audits.sort_by(|a, b| {
            let by_value = a
                .values
                .iter()
                .zip(&b.values)
                .map(|(a, b)| order::compare(Some(a), Some(b)));
            let values = by_value.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
            self.measured.regimes[a.regime]
                .cmp(&self.measured.regimes[b.regime])
                .then(values)
        });
        audits
    }

    /// The name of an audit: its values in the order in which the columns were named.
    fn name(&self, audit: &Audit) -> String {
        let regime = self.measured.regimes[audit.regime].as_str();
        let mut values = audit.values.iter().map(String::as_str);
        let asked = self.parameters.actions.as_deref().unwrap_or_default();
        let at = asked.iter().position(|name| name == "regime").unwrap_or(0);
        let mut parts: Vec<&str> = values.by_ref().take(at).collect();
        parts.push(regime);
        parts.extend(values);
        parts.join(JOIN)
    }

    fn types(&self) -> Vec<Vec<String>> {
        let mut types: Vec<Vec<String>> = Vec::new();
        for group in 0..self.measured.groups.len() {
            let kind = self.values(group, &self.type_columns);
            if !types.contains(&kind) {
                types.push(kind);
            }
        }
        types.sort_by(|a, b| {
            let compared = a.iter().zip(b).map(|(a, b)| order::compare(Some(a), Some(b)));
            compared.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        types
    }

    fn watched(&self, audits: &[Audit]) -> Result<Vec<Watched>, Error> {
        let known = &self.measured.regimes;
        let train: Vec<&str> = match &self.parameters.train {
            Some(names) => {
                if let Some(name) = names.iter().find(|name| !known.contains(name)) {
                    return Err(
                        Error::pipeline(format!("there is no regime `{name}` with the training cue"))
                            .hint(format!("the regimes are {}", known.join(", "))),
                    );
                }
                names.iter().map(String::as_str).collect()
            }
            None if audits.iter().any(|audit| known[audit.regime] == TRAIN) => vec![TRAIN],
            None => known.iter().map(String::as_str).collect(),
        };
        let look = |audit: &Audit| match train.contains(&known[audit.regime].as_str()) {
            true => Watched::Train,
            false => Watched::Paraphrase,
        };
        Ok(audits.iter().map(look).collect())
    }

    /// The pairs of an audit and a type; without an audit every deployed answer beside one that nobody flagged.
    fn pairs(&self, audit: Option<&Audit>, kind: &[String]) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut deployed: BTreeSet<usize> = BTreeSet::new();
        for group in 0..self.measured.groups.len() {
            if self.values(group, &self.type_columns) != kind {
                continue;
            }
            let Some(truth) = self.truths[group] else {
                continue;
            };
            let Some(audit) = audit else {
                deployed.insert(truth);
                continue;
            };
            if self.values(group, &self.audit_columns) == audit.values {
                self.group_pairs(group, audit.regime, truth, &mut rows);
            }
        }
        for group in deployed {
            for &unit in &self.measured.groups[group] {
                let who = self.measured.unit(unit);
                if let Some(side) = self.measured.side(unit, self.truth) {
                    let samples = self.measured.samples(side);
                    let verdicts = samples.iter().map(|sample| self.truth_verdict(sample)).collect();
                    rows.push(Row {
                        item: who.item,
                        cluster: who.cluster,
                        verdicts: [vec![0.0], verdicts],
                    });
                }
            }
        }
        rows
    }

    fn group_pairs(&self, group: usize, regime: usize, truth: usize, rows: &mut Vec<Row>) {
        let units = |group: usize| self.measured.groups[group].iter().copied();
        let of_item: BTreeMap<u64, usize> = units(truth).map(|unit| (self.measured.unit(unit).item, unit)).collect();
        for unit in units(group) {
            let who = self.measured.unit(unit);
            let Some(side) = self.measured.side(unit, regime) else {
                continue;
            };
            let deployed = of_item
                .get(&who.item)
                .and_then(|&unit| self.measured.side(unit, self.truth));
            let Some(deployed) = deployed else { continue };
            let sides = [self.measured.samples(side), self.measured.samples(deployed)];
            rows.push(Row {
                item: who.item,
                cluster: who.cluster,
                verdicts: self.aligned(sides),
            });
        }
    }

    fn truth_verdict(&self, sample: &Sample) -> f64 {
        verdict(sample.score, self.parameters.truth.tau.unwrap_or(sample.tau))
    }

    /// The verdicts of both sides, samples of one random stream at one place; NaN where a side lacks the stream.
    fn aligned(&self, [audit, truth]: [&[Sample]; 2]) -> [Vec<f64>; 2] {
        let flagged = |sample: &Sample| verdict(sample.score, sample.tau);
        let shown = |sample: &Sample| self.truth_verdict(sample);
        if audit.len() < 2 || truth.len() < 2 {
            return [audit.iter().map(flagged).collect(), truth.iter().map(shown).collect()];
        }
        let slots: BTreeSet<(u32, i64)> = audit.iter().chain(truth).map(|sample| sample.slot).collect();
        let find = |samples: &[Sample], read: &dyn Fn(&Sample) -> f64| -> Vec<f64> {
            let at = |slot| samples.iter().find(|sample| sample.slot == slot).map_or(f64::NAN, read);
            slots.iter().map(|&slot| at(slot)).collect()
        };
        [find(audit, &flagged), find(truth, &shown)]
    }
}

/// The rows as pairs of verdicts, counted at a threshold between 0 and 1.
fn pairs(rows: &[Row]) -> Vec<Pair<'_>> {
    let mut pairs = Vec::with_capacity(rows.len());
    for row in rows {
        pairs.push(Pair {
            item: row.item,
            cluster: row.cluster,
            first: &row.verdicts[0],
            second: &row.verdicts[1],
        });
    }
    pairs
}

/// The options that verdicts are counted with.
pub fn options(parameters: &StackelbergParameters) -> FlipOptions {
    FlipOptions {
        tau: BETWEEN,
        confidence: parameters.confidence,
        bootstrap: parameters.bootstrap as usize,
        seed: parameters.seed,
        ..FlipOptions::default()
    }
}

fn type_name(kind: &[String]) -> String {
    if kind.is_empty() {
        "all".to_owned()
    } else {
        kind.join(JOIN)
    }
}
