//! The rows of both tables of `agreement`.

use std::collections::BTreeMap;

use fracture_science::{
    Agreement, Estimate, FlipOptions, FlipSummary, RatedUnit, agreement, cells, flip_overlap, flips,
};
use fracture_stage::{Error, Open};

use super::parameters::AgreementParameters;
use crate::order;
use crate::read::science;
use crate::rows::{BETWEEN, Contrast, Measured, Sample, verdict};
use crate::table::{Column, count, number, text};

/// The name of all judges together.
const ALL: &str = "all";

/// A pair of judges, or all of them.
pub struct Line {
    pub group: usize,
    contrast: String,
    judges: [Option<String>; 2],
    raters: usize,
    agreement: Agreement,
    kappa: Estimate,
    jaccard: Estimate,
    common: Option<Common>,
}

/// What two judges find on the pairs that both have judged.
struct Common {
    pairs: usize,
    flips: [f64; 2],
}

impl Common {
    fn new(a: &Flips, b: &Flips) -> Self {
        let both = a.iter().filter_map(|(unit, (_, share))| Some((*share, b.get(unit)?.1)));
        let mut common = Self {
            pairs: 0,
            flips: [0.0; 2],
        };
        for (ours, theirs) in both {
            common.pairs += 1;
            common.flips[0] += ours;
            common.flips[1] += theirs;
        }
        common
    }

    fn fracture(&self, judge: usize) -> Option<f64> {
        (self.pairs > 0).then(|| self.flips[judge] / self.pairs as f64)
    }
}

/// The columns of the main table behind the group columns.
pub const COLUMNS: &[Column<Line>] = &[
    text("contrast", |line| Some(&line.contrast)),
    text("judge_a", |line| line.judges[0].as_deref()),
    text("judge_b", |line| line.judges[1].as_deref()),
    count("judges", |line| line.raters),
    count("n", |line| line.agreement.n),
    number("both_unsafe", |line| cell(line, |c| c.both_unsafe)),
    number("only_a_unsafe", |line| cell(line, |c| c.first_only)),
    number("only_b_unsafe", |line| cell(line, |c| c.second_only)),
    number("both_safe", |line| cell(line, |c| c.both_safe)),
    number("raw", |line| line.agreement.raw.value),
    number("raw_low", |line| line.agreement.raw.low),
    number("raw_high", |line| line.agreement.raw.high),
    number("kappa", |line| line.kappa.value),
    number("kappa_low", |line| line.kappa.low),
    number("kappa_high", |line| line.kappa.high),
    number("alpha", |line| line.agreement.alpha.value),
    number("alpha_low", |line| line.agreement.alpha.low),
    number("alpha_high", |line| line.agreement.alpha.high),
    number("flip_jaccard", |line| line.jaccard.value),
    number("flip_jaccard_low", |line| line.jaccard.low),
    number("flip_jaccard_high", |line| line.jaccard.high),
    // On the same pairs for both, as the overlap is: what a judge finds on all of its own stands in `.judges`.
    number("pairs", |line| line.common.as_ref().map(|common| common.pairs as f64)),
    number("flips_a", |line| line.common.as_ref().map(|common| common.flips[0])),
    number("flips_b", |line| line.common.as_ref().map(|common| common.flips[1])),
    number("fracture_a", |line| line.common.as_ref()?.fracture(0)),
    number("fracture_b", |line| line.common.as_ref()?.fracture(1)),
];

fn cell(line: &Line, read: fn(&fracture_science::Confusion) -> usize) -> Option<f64> {
    line.agreement
        .confusion
        .as_ref()
        .map(|confusion| read(confusion) as f64)
}

/// The flips that one judge finds.
pub struct Judge {
    pub group: usize,
    contrast: String,
    judge: String,
    summary: FlipSummary,
    labelled: usize,
    sensitivity: Option<f64>,
    specificity: Option<f64>,
}

/// The columns of the table of judges behind the group columns.
pub const JUDGES: &[Column<Judge>] = &[
    text("contrast", |line| Some(&line.contrast)),
    text("judge", |line| Some(&line.judge)),
    count("n", |line| line.summary.n),
    count("invalid", |line| line.summary.invalid),
    count("unpaired", |line| line.summary.unpaired),
    number("fracture", |line| line.summary.fracture.value),
    number("fracture_low", |line| line.summary.fracture.low),
    number("fracture_high", |line| line.summary.fracture.high),
    number("anti", |line| line.summary.anti.value),
    number("anti_low", |line| line.summary.anti.low),
    number("anti_high", |line| line.summary.anti.high),
    number("net", |line| line.summary.net.value),
    number("net_low", |line| line.summary.net.low),
    number("net_high", |line| line.summary.net.high),
    number("train_unsafe", |line| line.summary.train_unsafe.value),
    number("deploy_unsafe", |line| line.summary.deploy_unsafe.value),
    count("labelled", |line| line.labelled),
    number("sensitivity", |line| line.sensitivity),
    number("specificity", |line| line.specificity),
];

/// The names that group columns can not have.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = COLUMNS.iter().map(|column| column.name);
    own.chain(JUDGES.iter().map(|column| column.name))
}

/// Both tables.
pub struct Found {
    pub pairs: Vec<Line>,
    pub judges: Vec<Judge>,
    pub notes: Vec<String>,
}

/// One judge's rows of a group.
struct Panel {
    name: String,
    group: usize,
}

/// A judge's flips under a contrast: for each pair, matched between judges, its cluster and its share of flips.
type Flips = BTreeMap<u64, (u64, f64)>;

/// All pairs of judges in every group. `raters` are the names of people.
pub fn lines(
    measured: &Measured,
    contrasts: &[Contrast],
    parameters: &AgreementParameters,
    raters: &[String],
    open: &Open<'_>,
) -> Result<Found, Error> {
    let mut found = Found {
        pairs: Vec::new(),
        judges: Vec::new(),
        notes: Vec::new(),
    };
    let panels = panels(measured);
    for panel in &panels {
        for &contrast in contrasts {
            open.check()?;
            one(measured, panel, contrast, parameters, raters, &mut found)?;
        }
    }
    let alone = panels.iter().filter(|panel| panel.len() < 2).count();
    if alone > 0 {
        found.notes.push(format!(
            "{alone} groups have a single judge, with nobody to agree with: judge the same texts by several, as in \
             `matrix: {{ {}: [...] }}`",
            parameters.judge
        ));
    }
    Ok(found)
}

/// The groups that differ in the judge alone, judges in order. The judge is the last group column.
fn panels(measured: &Measured) -> Vec<Vec<Panel>> {
    let mut panels: Vec<(Vec<Option<String>>, Vec<Panel>)> = Vec::new();
    for group in 0..measured.groups.len() {
        let mut values: Vec<Option<String>> = measured.by_text.iter().map(|column| column[group].clone()).collect();
        let name = values.pop().flatten().unwrap_or_else(|| "null".to_owned());
        let panel = Panel { name, group };
        match panels.iter_mut().find(|(rest, _)| *rest == values) {
            Some((_, judges)) => judges.push(panel),
            None => panels.push((values, vec![panel])),
        }
    }
    for (_, judges) in &mut panels {
        judges.sort_by(|a, b| order::compare(Some(&a.name), Some(&b.name)));
    }
    panels.into_iter().map(|(_, judges)| judges).collect()
}

fn one(
    measured: &Measured,
    panel: &[Panel],
    contrast: Contrast,
    parameters: &AgreementParameters,
    raters: &[String],
    found: &mut Found,
) -> Result<(), Error> {
    let options = FlipOptions {
        tau: BETWEEN,
        aggregate: parameters.aggregate.into(),
        confidence: parameters.confidence,
        bootstrap: parameters.bootstrap as usize,
        seed: parameters.seed,
        ..FlipOptions::default()
    };
    let mut flip_sets: Vec<Flips> = Vec::with_capacity(panel.len());
    for judge in panel {
        let table = measured.verdicts(judge.group, contrast, parameters.aggregate, |sample| sample.tau)?;
        let pairs = table.pairs();
        let summary = flips(&pairs, &options).map_err(science)?;
        let units = measured
            .sides(judge.group, contrast)
            .map(|(unit, _)| measured.unit(unit));
        let shares = units.zip(&pairs).filter_map(|(unit, pair)| {
            let [_, flipped, _, _] = cells(pair, BETWEEN, options.aggregate)?;
            Some((unit.matched, (unit.cluster, flipped)))
        });
        flip_sets.push(shares.collect());
        let [hit, miss, clear, alarm] = against_people(measured, judge.group, contrast);
        let person = raters.contains(&judge.name);
        let share = |over: usize, under: usize| (!person && under > 0).then(|| over as f64 / under as f64);
        found.judges.push(Judge {
            group: judge.group,
            contrast: measured.contrast_name(contrast),
            judge: judge.name.clone(),
            summary,
            labelled: if person { 0 } else { hit + miss + clear + alarm },
            sensitivity: share(hit, hit + miss),
            specificity: share(clear, clear + alarm),
        });
    }
    let texts = texts(measured, panel, contrast);
    let rated = |which: &[usize]| -> Vec<RatedUnit> {
        let unit = |(cluster, verdicts): &(u64, Vec<Option<bool>>)| RatedUnit {
            cluster: *cluster,
            verdicts: which.iter().map(|&judge| verdicts[judge]).collect(),
        };
        texts.values().map(unit).collect()
    };
    let mut add = |which: &[usize], judges: [Option<String>; 2], jaccard: Estimate| {
        let agreement = agreement(&rated(which), options.confidence, options.bootstrap, options.seed);
        let pair = judges[1].is_some();
        found.pairs.push(Line {
            group: panel[0].group,
            contrast: measured.contrast_name(contrast),
            judges,
            raters: which.len(),
            kappa: if pair { agreement.cohen } else { agreement.fleiss },
            agreement,
            jaccard,
            common: pair.then(|| Common::new(&flip_sets[which[0]], &flip_sets[which[1]])),
        });
    };
    for a in 0..panel.len() {
        for b in a + 1..panel.len() {
            let jaccard = overlap(&flip_sets[a], &flip_sets[b], &options);
            add(&[a, b], [a, b].map(|judge| Some(panel[judge].name.clone())), jaccard);
        }
    }
    if panel.len() > 2 {
        let everyone: Vec<usize> = (0..panel.len()).collect();
        add(&everyone, [Some(ALL.to_owned()), None], Estimate::default());
    }
    Ok(())
}

/// The overlap of two judges' flips on the pairs that both have judged.
fn overlap(a: &Flips, b: &Flips, options: &FlipOptions) -> Estimate {
    let both = a
        .iter()
        .filter_map(|(unit, (cluster, share))| Some((*cluster, *share, b.get(unit)?.1)));
    let pairs: Vec<(u64, f64, f64)> = both.collect();
    flip_overlap(&pairs, options.confidence, options.bootstrap, options.seed)
}

/// A text: the matched unit, the regime and the sample's slot.
type Text = (u64, usize, (u32, i64));

/// Every text of the contrast's regimes with its cluster and each judge's verdict.
fn texts(measured: &Measured, panel: &[Panel], contrast: Contrast) -> BTreeMap<Text, (u64, Vec<Option<bool>>)> {
    let mut texts: BTreeMap<Text, (u64, Vec<Option<bool>>)> = BTreeMap::new();
    for (place, judge) in panel.iter().enumerate() {
        for (unit, sides) in measured.sides(judge.group, contrast) {
            let unit = measured.unit(unit);
            for (regime, side) in [contrast.first, contrast.second].into_iter().zip(sides) {
                for sample in side.map_or(&[][..], |side| measured.samples(side)) {
                    let text = (unit.matched, regime, sample.slot);
                    let verdicts = texts
                        .entry(text)
                        .or_insert_with(|| (unit.cluster, vec![None; panel.len()]));
                    verdicts.1[place] = judged(sample);
                }
            }
        }
    }
    texts
}

fn judged(sample: &Sample) -> Option<bool> {
    let verdict = verdict(sample.score, sample.tau);
    (!verdict.is_nan()).then_some(verdict == 1.0)
}

/// Hits, misses, cleared and alarms against the majority of people.
fn against_people(measured: &Measured, group: usize, contrast: Contrast) -> [usize; 4] {
    let mut counts = [0; 4];
    for (_, sides) in measured.sides(group, contrast) {
        for sample in sides.iter().flatten().flat_map(|side| measured.samples(side)) {
            let Some(judged) = judged(sample).filter(|_| !sample.human.is_nan()) else {
                continue;
            };
            let cell = match (sample.human == 1.0, judged) {
                (true, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (false, true) => 3,
            };
            counts[cell] += 1;
        }
    }
    counts
}
