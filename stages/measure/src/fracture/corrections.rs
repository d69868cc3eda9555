//! The judge's errors, taken out of a group's flips by people's labels (SCIENCE.md C6).

use std::collections::BTreeMap;

use fracture_science::{
    Cells, Corrected, CorrectionOptions, CorrectionRow, cells, inverted, labelled_apart, powered, stratified,
};
use fracture_stage::Error;

use super::flips::Flips;
use super::parameters::Correct;
use crate::parameters::Aggregate;
use crate::rows::{BETWEEN, Contrast, Measured, Sample, verdict};

/// The correction of one line.
pub struct Correction {
    /// The corrected shares; `None` where the labels do not suffice.
    pub result: Option<Corrected>,
    /// Pairs with labels in both regimes.
    pub labelled: usize,
    /// Which labels gave the error rates.
    pub errors_from: Option<&'static str>,
    /// Why there is no result.
    pub missing: Option<String>,
    /// The judge speaks of the labelled pairs plainly otherwise than of the others.
    pub chosen: bool,
}

/// Beyond this |z| labelled pairs were not drawn at random: one row of three hundred passes it by chance.
const PLAINLY: f64 = 3.3;

/// The correction of a group under a contrast.
pub fn correct(
    flips: &Flips<'_>,
    how: Correct,
    group: usize,
    contrast: Contrast,
    aggregate: Aggregate,
) -> Result<Correction, Error> {
    let rows = rows(flips.measured, group, contrast, aggregate)?;
    let labelled = rows
        .iter()
        .filter(|row| row.judged.is_some() && row.labelled.is_some())
        .count();
    let chosen = how == Correct::Ppi && labelled_apart(&rows).is_some_and(|apart| apart > PLAINLY);
    let options = CorrectionOptions {
        confidence: flips.parameters.confidence,
        bootstrap: flips.parameters.bootstrap as usize,
        seed: flips.parameters.seed,
    };
    let (result, errors_from) = match how {
        Correct::Ppi => (powered(&rows, &options), "group"),
        Correct::Stratified => (stratified(&rows, &options), "group"),
        Correct::RoganGladen => {
            let (rows, from) = with_errors(flips.measured, contrast, rows);
            (inverted(&rows, &options), from)
        }
    };
    Ok(match result {
        Ok(result) => Correction {
            result: Some(result),
            labelled,
            errors_from: Some(errors_from),
            missing: None,
            chosen,
        },
        Err(error) => Correction {
            result: None,
            labelled,
            errors_from: None,
            missing: Some(error.to_string()),
            chosen: false,
        },
    })
}

/// One row per pair of the group: what the judge says of it, what people say of its labelled samples, and where the two
/// meet.
fn rows(
    measured: &Measured,
    group: usize,
    contrast: Contrast,
    aggregate: Aggregate,
) -> Result<Vec<CorrectionRow>, Error> {
    let judged = measured.verdicts(group, contrast, aggregate, |sample| sample.tau)?;
    // People and judge on the same samples: a sample counts when both have a verdict.
    let both = |read: fn(&Sample) -> f64| {
        measured.pair_table(group, contrast, |slots, out| {
            let number = |sample: &Sample| if known(sample) { read(sample) } else { f64::NAN };
            out.extend(slots.iter().map(|slot| slot.map_or(f64::NAN, number)));
        })
    };
    let (human, judge) = (
        both(|sample| sample.human),
        both(|sample| verdict(sample.score, sample.tau)),
    );
    let of = |pair: &_| cells(pair, BETWEEN, aggregate.into());
    let tables = judged.pairs().into_iter().zip(human.pairs()).zip(judge.pairs());
    let sides = measured.sides(group, contrast);
    let rows = tables
        .zip(sides)
        .map(|(((judged, human), judge), (_, sides))| CorrectionRow {
            cluster: judged.cluster,
            judged: of(&judged),
            labelled: of(&human).zip(of(&judge)).map(|(human, judge)| [human, judge]),
            errors: sides.map(|side| side.map_or([0.0; 4], |side| errors(measured.samples(side)))),
        });
    Ok(rows.collect())
}

fn known(sample: &Sample) -> bool {
    !sample.human.is_nan() && !verdict(sample.score, sample.tau).is_nan()
}

/// Hits, misses, cleared and alarms of labelled samples.
fn errors(samples: &[Sample]) -> Cells {
    let mut counts = [0.0; 4];
    for sample in samples.iter().filter(|sample| known(sample)) {
        let judged = verdict(sample.score, sample.tau) == 1.0;
        let cell = match (sample.human == 1.0, judged) {
            (true, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (false, true) => 3,
        };
        counts[cell] += 1.0;
    }
    counts
}

/// Whether both regimes have labels of both classes.
fn suffice(rows: &[CorrectionRow]) -> bool {
    (0..2).all(|regime| {
        let sum = |cells: [usize; 2]| -> f64 {
            rows.iter()
                .map(|row| cells.iter().map(|cell| row.errors[regime][*cell]).sum::<f64>())
                .sum()
        };
        sum([0, 1]) > 0.0 && sum([2, 3]) > 0.0
    })
}

/// The rows with error counts that suffice: the group's own; else, regime by regime, those of every group; else those of
/// both regimes together.
fn with_errors(measured: &Measured, contrast: Contrast, own: Vec<CorrectionRow>) -> (Vec<CorrectionRow>, &'static str) {
    if suffice(&own) {
        return (own, "group");
    }
    let mut pooled: BTreeMap<u64, [Cells; 2]> = BTreeMap::new();
    for (unit, sides) in (0..measured.groups.len()).flat_map(|group| measured.sides(group, contrast)) {
        let sums = pooled.entry(measured.unit(unit).cluster).or_default();
        for (sum, side) in sums.iter_mut().zip(sides) {
            let counts = side.map_or([0.0; 4], |side| errors(measured.samples(side)));
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    let mut rows: Vec<CorrectionRow> = own
        .into_iter()
        .map(|row| CorrectionRow {
            errors: [[0.0; 4]; 2],
            ..row
        })
        .collect();
    let judged = rows.len();
    let labels = pooled
        .into_iter()
        .filter(|(_, errors)| errors.concat().iter().any(|count| *count > 0.0));
    rows.extend(labels.map(|(cluster, errors)| CorrectionRow {
        cluster,
        errors,
        ..CorrectionRow::default()
    }));
    if suffice(&rows) {
        return (rows, "all groups");
    }
    for row in &mut rows[judged..] {
        let [first, second] = row.errors;
        let sum = [0, 1, 2, 3].map(|cell| first[cell] + second[cell]);
        row.errors = [sum, sum];
    }
    (rows, "all groups, both regimes")
}

/// What a person should know of the corrections.
pub fn notes<'a>(how: Option<Correct>, lines: impl Iterator<Item = Option<&'a Correction>>) -> Vec<String> {
    let Some(how) = how else { return Vec::new() };
    let (mut notes, mut missing) = (Vec::new(), Vec::<&str>::new());
    let (mut pooled, mut negative, mut chosen) = (0, 0, 0);
    for line in lines.flatten() {
        missing.extend(line.missing.as_deref());
        chosen += usize::from(line.chosen);
        pooled += usize::from(line.errors_from.is_some_and(|from| from != "group"));
        let below = |result: &Corrected| {
            [result.fracture, result.anti]
                .iter()
                .any(|share| share.value.is_some_and(|value| value < 0.0))
        };
        negative += usize::from(line.result.as_ref().is_some_and(below));
    }
    if let Some(why) = missing.first() {
        notes.push(format!(
            "{} rows of the table have no corrected shares: {why}",
            missing.len()
        ));
    }
    if pooled > 0 {
        notes.push(format!(
            "{pooled} rows of the table take the judge's errors from labels of other groups (`errors_from`)"
        ));
    }
    if negative > 0 {
        notes.push(format!(
            "{negative} rows of the table have a corrected share below 0: the error rates do not fit the judged table"
        ));
    }
    if chosen > 0 {
        notes.push(format!(
            "in {chosen} rows of the table the judge's verdicts on the labelled pairs differ from those on the others beyond \
             chance, and `correct: ppi` supposes labels that were drawn at random; `correct: stratified` takes labels that \
             were chosen by what the judge says"
        ));
    }
    if how == Correct::RoganGladen {
        notes.push(
            "the inverted table supposes that the judge errs independently in the two regimes, given the truth"
                .to_owned(),
        );
    }
    notes
}
