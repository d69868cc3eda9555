#![allow(clippy::unwrap_used)]
use super::*;

fn sampler() -> Sampler {
    Sampler::new(Unit::best())
}

fn choose(logits: &[f32], sampling: &Sampling, seen: &[u32], uniform: f64) -> Choice {
    sampler()
        .choose(logits, sampling, seen.iter().copied(), || uniform)
        .unwrap()
}

/// Logits of a peaked distribution over `count` tokens in no order.
fn logits(count: usize) -> Vec<f32> {
    let stream = Stream::new(1, "logits", "x", 0, 0);
    (0..count as u64)
        .map(|i| (6.0 * stream.uniform(i) - 3.0) as f32)
        .collect()
}

/// The distribution after the filters, written down plainly in `f64`.
fn exact(logits: &[f32], sampling: &Sampling, seen: &[u32]) -> Vec<f64> {
    let mut x: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
    let penalty = f64::from(sampling.repetition_penalty);
    for token in std::collections::BTreeSet::from_iter(seen) {
        let value = &mut x[*token as usize];
        *value = if *value < 0.0 {
            *value * penalty
        } else {
            *value / penalty
        };
    }
    let softmax = |x: &[f64], keep: &[bool]| -> Vec<f64> {
        let weights: Vec<f64> = x
            .iter()
            .zip(keep)
            .map(|(x, keep)| {
                if *keep {
                    (x / f64::from(sampling.temperature)).exp()
                } else {
                    0.0
                }
            })
            .collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    };
    let mut keep = vec![true; x.len()];
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
    if sampling.top_k > 0 {
        let least = x[order[sampling.top_k as usize - 1]];
        keep.iter_mut().zip(&x).for_each(|(keep, x)| *keep = *x >= least);
    }
    let p = softmax(&x, &keep);
    let mut mass = 0.0;
    for (rank, &id) in order.iter().enumerate() {
        keep[id] &= rank == 0 || mass < f64::from(sampling.top_p);
        mass += p[id];
    }
    let p = softmax(&x, &keep);
    let top = p.iter().copied().fold(0.0, f64::max);
    keep.iter_mut()
        .zip(&p)
        .for_each(|(keep, p)| *keep &= *p >= f64::from(sampling.min_p) * top);
    softmax(&x, &keep)
}

#[test]
fn draws_follow_the_filtered_distribution() {
    const DRAWS: u64 = 100_000;
    let logits = logits(60);
    let seen = [3, 3, 17];
    let settings = [
        Sampling {
            temperature: 1.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: 0.8,
            top_p: 0.95,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.3,
            top_k: 20,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.1,
            min_p: 0.1,
            ..Sampling::default()
        },
        Sampling {
            temperature: 0.9,
            top_p: 0.7,
            top_k: 25,
            min_p: 0.05,
            repetition_penalty: 1.4,
            ..Sampling::default()
        },
    ];
    for sampling in settings {
        let expected = exact(&logits, &sampling, &seen);
        let stream = Stream::new(99, "chi", "squared", 0, 0);
        let mut counts = vec![0u32; logits.len()];
        let mut sampler = sampler();
        let mut entropy = 0.0;
        for draw in 0..DRAWS {
            let choice = sampler
                .choose(&logits, &sampling, seen.into_iter(), || stream.uniform(draw))
                .unwrap();
            counts[choice.token as usize] += 1;
            entropy = choice.entropy;
        }
        let (mut statistic, mut degrees) = (0.0, -1.0);
        for (count, p) in counts.iter().zip(&expected) {
            assert!(
                *p > 0.0 || *count == 0,
                "{sampling:?} drew a token that is filtered out"
            );
            if *p > 0.0 {
                let mean = p * DRAWS as f64;
                statistic += (f64::from(*count) - mean).powi(2) / mean;
                degrees += 1.0;
            }
        }
        // The 99.9% quantile by Wilson and Hilferty; the seed is fixed, so this passes always or never.
        let spread = 2.0 / (9.0 * degrees);
        let limit = degrees * (1.0_f64 - spread + 3.09 * f64::sqrt(spread)).powi(3);
        assert!(
            statistic < limit,
            "{sampling:?}: {statistic} with {degrees} degrees, limit {limit}"
        );
        let exact: f64 = -expected.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        assert!(
            (f64::from(entropy) - exact).abs() < 1e-5,
            "{sampling:?}: entropy {entropy}, exact {exact}"
        );
    }
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let mut logits = vec![0.5; 40];
    logits[7] = 2.0;
    logits[23] = 2.0;
    let choice = choose(&logits, &Sampling::default(), &[], 0.9);
    assert_eq!((choice.token, choice.entropy), (7, 0.0));
    let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    assert!((f64::from(choice.logprob) - (2.0 - total.ln())).abs() < 1e-6);
}

#[test]
fn log_probabilities_are_those_of_the_raw_logits() {
    let logits = logits(50);
    let sampling = Sampling {
        temperature: 0.3,
        top_k: 5,
        repetition_penalty: 1.7,
        ..Sampling::default()
    };
    let choice = choose(&logits, &sampling, &[1, 2, 3], 0.5);
    let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    assert!((f64::from(choice.logprob) - (f64::from(logits[choice.token as usize]) - total.ln())).abs() < 1e-6);
}

#[test]
fn the_most_probable_tokens_are_told_in_order() {
    let mut logits = logits(50);
    logits[9] = 4.0;
    logits[31] = 4.0;
    let mut sampler = sampler();
    for top in [0, 1, 5, 50, 80] {
        let sampling = Sampling {
            temperature: 0.7,
            top_k: 2,
            repetition_penalty: 3.0,
            top,
            ..Sampling::default()
        };
        sampler.choose(&logits, &sampling, [9, 9].into_iter(), || 0.3).unwrap();
        let mut order: Vec<u32> = (0..50).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        order.truncate(top as usize);
        let told: Vec<u32> = sampler.top().iter().map(|(id, _)| *id).collect();
        assert_eq!(told, order);
        let weighed = sampler.weigh(&logits, &told.clone()).unwrap();
        let told = sampler.top().iter().map(|(_, logprob)| f64::from(*logprob));
        assert!(told.zip(weighed).all(|(told, weighed)| (told - weighed).abs() < 1e-6));
    }
}

#[test]
fn a_penalty_changes_the_greedy_token() {
    let logits = [1.0, 3.0, 2.5, -1.0];
    assert_eq!(
        choose(
            &logits,
            &Sampling {
                repetition_penalty: 1.5,
                ..Sampling::default()
            },
            &[1, 1],
            0.0
        )
        .token,
        2
    );
}

#[test]
fn the_ends_of_the_unit_interval_give_tokens_that_are_kept() {
    let logits = logits(30);
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 0.5,
        ..Sampling::default()
    };
    let kept = exact(&logits, &sampling, &[]);
    for uniform in [0.0, 0.5, 1.0 - f64::EPSILON] {
        assert!(kept[choose(&logits, &sampling, &[], uniform).token as usize] > 0.0);
    }
    let tight = Sampling {
        top_p: 1e-6,
        ..sampling
    };
    assert_eq!(
        choose(&logits, &tight, &[], 0.99).token,
        choose(&logits, &Sampling::default(), &[], 0.0).token
    );
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut logits = logits(40);
        logits[11] = bad;
        assert_eq!(
            sampler().choose(&logits, &Sampling::default(), std::iter::empty(), || 0.0),
            Err(NotFinite)
        );
    }
    assert_eq!(
        sampler().choose(&[f32::NAN; 5], &Sampling::default(), std::iter::empty(), || 0.0),
        Err(NotFinite)
    );
}

/// What the filters leave, and with which probabilities, is what `transformers` leaves; see `tests/families/sampling.py`.
#[test]
fn distributions_are_those_of_transformers() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/families/sampling.json")).unwrap();
    let logits: Vec<f32> = serde_json::from_value(golden["logits"].clone()).unwrap();
    let seen: Vec<u32> = serde_json::from_value(golden["seen"].clone()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let number = |name: &str, default: f64| case[name].as_f64().unwrap_or(default) as f32;
        let sampling = Sampling {
            temperature: number("temperature", 1.0),
            top_p: number("top_p", 1.0),
            top_k: number("top_k", 0.0) as u32,
            min_p: number("min_p", 0.0),
            repetition_penalty: number("repetition_penalty", 1.0),
            top: 0,
        };
        let mut sampler = sampler();
        sampler
            .choose(&logits, &sampling, seen.iter().copied(), || 0.5)
            .unwrap();
        let filtered = sampling.top_p < 1.0 || sampling.min_p > 0.0 || sampling.top_k > 0;
        let kept: Vec<u32> = match filtered {
            true => sampler.kept.clone(),
            false => (0..logits.len() as u32).collect(),
        };
        let total: f64 = kept.iter().map(|id| f64::from(sampler.weights[*id as usize])).sum();
        for (id, wanted) in case["probabilities"].as_array().unwrap().iter().enumerate() {
            let ours = match kept.contains(&(id as u32)) {
                true => f64::from(sampler.weights[id]) / total,
                false => 0.0,
            };
            let wanted = wanted.as_f64().unwrap();
            assert_eq!(
                ours > 0.0,
                wanted > 0.0,
                "{sampling:?}: token {id}, {ours} and {wanted}"
            );
            assert!(
                (ours - wanted).abs() < 1e-6,
                "{sampling:?}: token {id}, {ours} and {wanted}"
            );
        }
    }
}
