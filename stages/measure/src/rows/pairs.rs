//! The pairs of a group under a contrast, as `fracture-science` takes them.

use std::ops::Range;

use fracture_science::Pair;

use super::{Contrast, Measured, Sample, Side};

/// The samples of one unit and regime by slot; `None` where the other regime has a sample that this one lacks.
pub type Slots<'a> = [Option<&'a Sample>];

/// The pairs of a group: one row per unit, with a number per sample.
#[derive(Debug, Default)]
pub struct PairTable {
    rows: Vec<Row>,
    numbers: Vec<f64>,
    /// The most samples of one unit and regime.
    pub k: usize,
}

#[derive(Debug)]
struct Row {
    item: u64,
    cluster: u64,
    first: Range<usize>,
    second: Range<usize>,
}

impl PairTable {
    /// The pairs; a side that is missing is empty.
    pub fn pairs(&self) -> Vec<Pair<'_>> {
        let pair = |row: &Row| Pair {
            item: row.item,
            cluster: row.cluster,
            first: &self.numbers[row.first.clone()],
            second: &self.numbers[row.second.clone()],
        };
        self.rows.iter().map(pair).collect()
    }
}

impl Measured {
    /// The units of a group that have at least one of the two regimes, with their samples under both.
    pub fn sides(&self, group: usize, contrast: Contrast) -> impl Iterator<Item = (usize, [Option<&Side>; 2])> {
        let units = self.groups[group].iter();
        units.filter_map(move |&unit| {
            let sides = [self.side(unit, contrast.first), self.side(unit, contrast.second)];
            sides.iter().any(Option::is_some).then_some((unit, sides))
        })
    }

    /// The pairs of a group; `fill` turns the samples of one side into one number each.
    pub fn pair_table(
        &self,
        group: usize,
        contrast: Contrast,
        mut fill: impl FnMut(&Slots<'_>, &mut Vec<f64>),
    ) -> PairTable {
        let mut table = PairTable::default();
        for (unit, sides) in self.sides(group, contrast) {
            let samples = sides.map(|side| side.map_or(&[][..], |side| self.samples(side)));
            table.k = table.k.max(samples[0].len()).max(samples[1].len());
            let mut ends = [0..0, 0..0];
            for (slots, range) in aligned(samples).iter().zip(&mut ends) {
                let start = table.numbers.len();
                fill(slots, &mut table.numbers);
                *range = start..table.numbers.len();
            }
            let [first, second] = ends;
            let identity = &self.units[unit];
            table.rows.push(Row {
                item: identity.item,
                cluster: identity.cluster,
                first,
                second,
            });
        }
        table
    }
}

/// Puts equal slots at equal places. Where a regime has a single sample there is nothing to align.
fn aligned(samples: [&[Sample]; 2]) -> [Vec<Option<&Sample>>; 2] {
    let [first, second] = samples;
    let slots = |samples: &[Sample]| samples.iter().map(|sample| sample.slot).collect::<Vec<_>>();
    if first.len() < 2 || second.len() < 2 || slots(first) == slots(second) {
        return samples.map(|side| side.iter().map(Some).collect());
    }
    let mut all: Vec<_> = slots(first).into_iter().chain(slots(second)).collect();
    all.sort_unstable();
    all.dedup();
    samples.map(|side| {
        all.iter()
            .map(|slot| side.iter().find(|sample| sample.slot == *slot))
            .collect()
    })
}
