//! The items of a group under a contrast: where each lies under both regimes.

use std::cmp::Ordering;

use arrow::array::LargeStringArray;
use fracture_measure::parameters::Aggregate;
use fracture_measure::read;
use fracture_measure::rows::{Contrast, Measured, Sample};
use fracture_science::{FlowItem, embed_mean};
use fracture_stage::{Error, View};

use super::embeddings::Embeddings;

/// The names of the items, row by row over all tables.
pub fn names(verdicts: &[&View]) -> Result<LargeStringArray, Error> {
    if verdicts.is_empty() {
        return Ok(LargeStringArray::new_null(0));
    }
    read::required(read::text(verdicts, "item")?, "item", verdicts)
}

/// One item under both regimes.
#[derive(Debug, Clone)]
pub struct Item {
    /// A row of the verdicts that bears the item's name.
    pub row: usize,
    item: u64,
    cluster: u64,
    /// Where it lies under each regime, scaled to length 1.
    pub points: [Vec<f64>; 2],
    labels: [Option<bool>; 2],
    /// The mean cosine distance of its samples from their mean, with two or more.
    spread: [Option<f64>; 2],
}

/// The items of a group.
#[derive(Debug, Default)]
pub struct Items {
    /// Those that lie somewhere under both regimes, in an order of their own.
    pub paired: Vec<Item>,
    /// The most samples of one item and regime.
    pub k: usize,
    /// Items that lack a regime.
    pub unpaired: usize,
    /// Items that have both regimes and under one of them no embedding.
    pub invalid: usize,
}

impl Items {
    /// Reads the items of a group.
    ///
    /// # Errors
    /// When the samples of one item and regime have different thresholds.
    pub fn read(measured: &Measured, embeddings: &Embeddings, group: usize, contrast: Contrast) -> Result<Self, Error> {
        // Verdicts on the mean score; they come in the order of the sides.
        let verdicts = measured.verdicts(group, contrast, Aggregate::Mean, |sample| sample.tau)?;
        let mut items = Self {
            k: verdicts.k,
            ..Self::default()
        };
        for ((unit, sides), pair) in measured.sides(group, contrast).zip(verdicts.pairs()) {
            let [Some(first), Some(second)] = sides else {
                items.unpaired += 1;
                continue;
            };
            let samples = [measured.samples(first), measured.samples(second)];
            let placed = samples.map(|samples| place(samples, embeddings));
            let [Some(a), Some(b)] = placed else {
                items.invalid += 1;
                continue;
            };
            let label = |verdicts: &[f64]| verdicts.first().filter(|v| !v.is_nan()).map(|v| *v == 1.0);
            let identity = measured.unit(unit);
            items.paired.push(Item {
                row: samples[0].first().map_or(0, |sample| sample.row as usize),
                item: identity.item,
                cluster: identity.cluster,
                labels: [label(pair.first), label(pair.second)],
                spread: [a.spread, b.spread],
                points: [a.point, b.point],
            });
        }
        items.paired.sort_by(order);
        Ok(items)
    }

    /// The items as the numbers take them.
    pub fn flow(&self) -> Vec<FlowItem<'_>> {
        let item = |item| {
            let Item {
                item,
                cluster,
                points: [first, second],
                labels,
                ..
            }: &Item = item;
            FlowItem {
                item: *item,
                cluster: *cluster,
                first,
                second,
                labels: *labels,
            }
        };
        self.paired.iter().map(item).collect()
    }

    /// The median over items of the spread of samples under each regime.
    pub fn spread(&self) -> [Option<f64>; 2] {
        [0, 1].map(|side| {
            let spreads: Vec<f64> = self.paired.iter().filter_map(|item| item.spread[side]).collect();
            fracture_science::median(&spreads)
        })
    }
}

/// Items by identity, and where one item stands in a group several times (under several models) by where it lies, so that the
/// order of rows and tables is in no result.
fn order(a: &Item, b: &Item) -> Ordering {
    let along = |side: usize| {
        let pairs = a.points[side].iter().zip(&b.points[side]);
        pairs.map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne())
    };
    (a.cluster, a.item)
        .cmp(&(b.cluster, b.item))
        .then_with(|| along(0).or_else(|| along(1)).unwrap_or(Ordering::Equal))
        .then_with(|| a.labels.cmp(&b.labels))
}

/// Where the samples of one side lie.
struct Placed {
    point: Vec<f64>,
    spread: Option<f64>,
}

/// The mean of the samples' vectors, each scaled to length 1; `None` where none has one.
fn place(samples: &[Sample], embeddings: &Embeddings) -> Option<Placed> {
    let units: Vec<Vec<f64>> = samples
        .iter()
        .filter_map(|sample| embeddings.of(sample.row as usize))
        .filter_map(|vector| {
            let wide: Vec<f64> = vector.iter().map(|x| f64::from(*x)).collect();
            embed_mean([wide.as_slice()])
        })
        .collect();
    let dimension = units.first()?.len();
    // Vectors of several lengths have no mean; the numbers say so of the group.
    let like = units.iter().filter(|unit| unit.len() == dimension);
    let point = embed_mean(like.map(Vec::as_slice))?;
    let distance = |unit: &Vec<f64>| 1.0 - unit.iter().zip(&point).map(|(x, y)| x * y).sum::<f64>();
    let spread = (units.len() > 1).then(|| units.iter().map(distance).sum::<f64>() / units.len() as f64);
    Some(Placed { point, spread })
}
