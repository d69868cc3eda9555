//! The intervals and tests of a flip table: closed forms for single, unclustered samples, else the cluster bootstrap.

use crate::bootstrap::{ClusterSums, bca, percentile};
use crate::fracture::{FlipOptions, IntervalChoice, Table, WHOLE, number};
use crate::interval::{Estimate, Interval, Method, newcombe_10, rule_of_three, wilson};
use crate::mcnemar::{mcnemar_exact, mcnemar_mid_p, sign_flip_p};
use crate::power::minimal_effect;

/// The flip tables of the rows of a group.
pub(crate) struct Cells(Vec<(u64, u64, Table)>);

/// What is inferred from them; the fields are those of [`crate::FlipSummary`].
pub(crate) struct Inference {
    pub n: usize,
    pub items: usize,
    pub clusters: usize,
    pub fracture: Estimate,
    pub anti: Estimate,
    pub net: Estimate,
    pub train_unsafe: Estimate,
    pub deploy_unsafe: Estimate,
    pub given_safe: Estimate,
    pub given_unsafe: Estimate,
    pub p_mcnemar: Option<f64>,
    pub p_mid: Option<f64>,
    pub p_net: Option<f64>,
    pub mde: Option<f64>,
}

/// A share of the table: numerator and denominator as selections of the four cells (+1, 0, -1).
struct Ratio {
    over: [i8; 4],
    under: [i8; 4],
}

const ALL: [i8; 4] = [1, 1, 1, 1];
const FRACTURE: Ratio = Ratio {
    over: [0, 1, 0, 0],
    under: ALL,
};
const ANTI: Ratio = Ratio {
    over: [0, 0, 1, 0],
    under: ALL,
};
const NET: Ratio = Ratio {
    over: [0, 1, -1, 0],
    under: ALL,
};
const TRAIN_UNSAFE: Ratio = Ratio {
    over: [0, 0, 1, 1],
    under: ALL,
};
const DEPLOY_UNSAFE: Ratio = Ratio {
    over: [0, 1, 0, 1],
    under: ALL,
};
const GIVEN_SAFE: Ratio = Ratio {
    over: [0, 1, 0, 0],
    under: [1, 1, 0, 0],
};
const GIVEN_UNSAFE: Ratio = Ratio {
    over: [0, 0, 0, 1],
    under: [0, 0, 1, 1],
};

impl Ratio {
    /// The ratio of a table in fixed point, exact until the last division.
    fn of(&self, table: &Table) -> Option<f64> {
        let pick = |by: &[i8; 4]| -> i128 { table.iter().zip(by).map(|(cell, &s)| cell * i128::from(s)).sum() };
        let under = pick(&self.under);
        (under > 0).then(|| number(pick(&self.over)) / number(under))
    }

    /// The ratio in every bootstrap draw; `NaN` where the denominator drew nothing.
    fn draws(&self, columns: &[Vec<f64>]) -> Vec<f64> {
        let draws = columns.first().map_or(0, Vec::len);
        let pick = |by: &[i8; 4], b: usize| -> f64 {
            by.iter()
                .zip(columns)
                .filter(|(s, _)| **s != 0)
                .map(|(&s, column)| f64::from(s) * column[b])
                .sum()
        };
        (0..draws).map(|b| pick(&self.over, b) / pick(&self.under, b)).collect()
    }

    /// The ratio without each cluster in turn; those that leave nothing below the line are left out.
    fn jackknife(&self, sums: &ClusterSums) -> Vec<f64> {
        let total = sums.total();
        let without = |by: &[i8; 4], row: &[f64]| -> f64 {
            let cells = by.iter().zip(&total).zip(row);
            cells.map(|((&s, total), own)| f64::from(s) * (total - own)).sum()
        };
        (0..sums.len())
            .map(|cluster| sums.row(cluster))
            .map(|row| without(&self.over, row) / without(&self.under, row))
            .filter(|ratio| ratio.is_finite())
            .collect()
    }
}

/// The summed tables of the clusters.
struct Clusters {
    sums: ClusterSums,
    columns: Vec<Vec<f64>>,
    confidence: f64,
    bca: bool,
}

impl Cells {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self(Vec::with_capacity(rows))
    }

    pub(crate) fn push(&mut self, item: u64, cluster: u64, table: Table) {
        self.0.push((cluster, item, table));
    }

    /// Everything that is inferred from the rows; `sum` is their total. `single`: every row is one sample a regime.
    pub(crate) fn infer(mut self, sum: Table, single: bool, options: &FlipOptions) -> Inference {
        self.0.sort_unstable();
        let n = self.0.len();
        let mut items: Vec<u64> = self.0.iter().map(|row| row.1).collect();
        items.sort_unstable();
        items.dedup();
        let sums = self.cluster_sums();
        let clusters = sums.len();
        let whole = single && items.len() == n;
        let unclustered = clusters == n;
        let [ss, su, us, uu] = sum.map(|cell| (cell / WHOLE) as u64);
        let p_mcnemar = (whole && n > 0).then(|| mcnemar_exact(su, us));
        let p_mid = (whole && n > 0).then(|| mcnemar_mid_p(su, us));
        let differences: Vec<(u64, f64)> = sums
            .ids()
            .iter()
            .enumerate()
            .map(|(i, &id)| (id, sums.row(i)[1] - sums.row(i)[2]))
            .collect();
        let mde = self.mde(sum, &differences, options);
        let p_net = if whole && unclustered {
            p_mcnemar
        } else {
            sign_flip_p(&differences, options.bootstrap, options.seed)
        };
        let closed = whole && unclustered && options.interval == IntervalChoice::Auto;
        let boot = (!closed).then(|| Clusters {
            columns: sums.draws(options.bootstrap, options.seed),
            sums,
            confidence: options.confidence,
            bca: options.interval == IntervalChoice::Bca,
        });
        let estimate = |ratio: &Ratio| match &boot {
            None => closed_form(ratio, [ss, su, us, uu], sum, options.confidence),
            Some(boot) => boot.estimate(ratio, &sum),
        };
        Inference {
            n,
            items: items.len(),
            clusters,
            fracture: estimate(&FRACTURE),
            anti: estimate(&ANTI),
            net: estimate(&NET),
            train_unsafe: estimate(&TRAIN_UNSAFE),
            deploy_unsafe: estimate(&DEPLOY_UNSAFE),
            given_safe: estimate(&GIVEN_SAFE),
            given_unsafe: estimate(&GIVEN_UNSAFE),
            p_mcnemar,
            p_mid,
            p_net,
            mde,
        }
    }

    /// Sums per cluster, exact before they become floats. The rows are sorted.
    fn cluster_sums(&self) -> ClusterSums {
        let (mut ids, mut sums) = (Vec::new(), Vec::new());
        for rows in self.0.chunk_by(|a, b| a.0 == b.0) {
            let mut table = [0i128; 4];
            for row in rows {
                table.iter_mut().zip(row.2).for_each(|(sum, cell)| *sum += cell);
            }
            ids.push(rows[0].0);
            sums.extend(table.map(number));
        }
        ClusterSums::from_sorted(ids, sums, 4)
    }

    /// The minimal detectable net shift. Its discordance is the mean square of the rows' differences (the discordant
    /// share with one sample); clusters divide the number of rows by the observed design effect.
    fn mde(&self, sum: Table, differences: &[(u64, f64)], options: &FlipOptions) -> Option<f64> {
        let n = self.0.len() as f64;
        if n == 0.0 {
            return None;
        }
        let mean = number(sum[1] - sum[2]) / n;
        let row_differences = || self.0.iter().map(|row| number(row.2[1] - row.2[2]));
        let psi = row_differences().map(|d| d * d).sum::<f64>() / n;
        let between_rows: f64 = row_differences().map(|d| (d - mean).powi(2)).sum();
        let mut between_clusters = 0.0;
        for (rows, (_, difference)) in self.0.chunk_by(|a, b| a.0 == b.0).zip(differences) {
            between_clusters += (difference - rows.len() as f64 * mean).powi(2);
        }
        let design_effect = if between_rows > 0.0 {
            (between_clusters / between_rows).max(1.0)
        } else {
            1.0
        };
        minimal_effect(n / design_effect, psi, options.confidence, options.power)
    }
}

/// Wilson for shares, Newcombe's method 10 for net.
fn closed_form(ratio: &Ratio, [ss, su, us, uu]: [u64; 4], sum: Table, confidence: f64) -> Estimate {
    let value = ratio.of(&sum);
    if ratio.over == NET.over {
        return Estimate::new(value, newcombe_10(uu, us, su, ss, confidence), Method::Newcombe10);
    }
    let pick = |by: &[i8; 4]| -> u64 {
        [ss, su, us, uu]
            .iter()
            .zip(by)
            .filter(|(_, s)| **s == 1)
            .map(|(c, _)| c)
            .sum()
    };
    Estimate::new(
        value,
        wilson(pick(&ratio.over), pick(&ratio.under), confidence),
        Method::Wilson,
    )
}

impl Clusters {
    /// The percentile interval; none with fewer than two clusters that bear on the ratio, since one cluster says nothing
    /// about how clusters vary. Where every draw gives the same extreme value, the rule of three over clusters.
    fn estimate(&self, ratio: &Ratio, sum: &Table) -> Estimate {
        let value = ratio.of(sum);
        let bearing = (0..self.sums.len())
            .filter(|&i| {
                self.sums
                    .row(i)
                    .iter()
                    .zip(ratio.under)
                    .any(|(cell, s)| s != 0 && *cell != 0.0)
            })
            .count();
        let Some(point) = value.filter(|_| bearing >= 2) else {
            return Estimate {
                value,
                ..Estimate::default()
            };
        };
        let draws = ratio.draws(&self.columns);
        let interval = if self.bca {
            bca(&draws, point, &ratio.jackknife(&self.sums), self.confidence)
        } else {
            percentile(&draws, self.confidence)
        };
        let discordant = sum[1] + sum[2] > 0;
        let extreme = if ratio.over == NET.over {
            !discordant || point.abs() == 1.0
        } else {
            point == 0.0 || point == 1.0
        };
        if extreme && interval.is_some() {
            return Estimate::new(
                value,
                unseen(point, ratio, bearing as u64, self.confidence),
                Method::RuleOfThree,
            );
        }
        let method = if self.bca {
            Method::Bca
        } else {
            Method::ClusterBootstrap
        };
        Estimate::new(value, interval, method)
    }
}

/// What an event unseen in `clusters` clusters leaves open.
fn unseen(point: f64, ratio: &Ratio, clusters: u64, confidence: f64) -> Option<Interval> {
    let limit = rule_of_three(clusters, confidence)?;
    let signed = ratio.over == NET.over;
    Some(Interval {
        low: if point > 0.0 || signed {
            (point - limit).max(-1.0)
        } else {
            0.0
        },
        high: if point < 1.0 { (point + limit).min(1.0) } else { 1.0 },
    })
}
