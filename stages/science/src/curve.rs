//! FRACTURE and ANTI as exact step functions of tau (SCIENCE.md B1).

use serde::Serialize;

use crate::fracture::{Aggregate, Pair, WHOLE, number, reduce_samples};

/// The curve at one observed score. The functions are constant on the half-open stretch from the next lower observed
/// score (exclusive) up to `tau` (inclusive), and 0 above the highest and at or below the lowest score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// An observed score.
    pub tau: f64,
    /// FRACTURE at this threshold.
    pub fracture: f64,
    /// ANTI at this threshold.
    pub anti: f64,
}

/// Changes of the two sums just above a score.
#[derive(Clone, Copy)]
struct Event {
    score: f64,
    fracture: i128,
    anti: i128,
}

/// FRACTURE and ANTI at every observed score, ascending; no grid. One sort: a pair of samples with `u < v` is a flip
/// for `u < tau <= v`, one with `v < u` a reverse flip for `v < tau <= u`.
pub fn curve(pairs: &[Pair], aggregate: Aggregate) -> Vec<CurvePoint> {
    let mut events = Vec::with_capacity(pairs.len() * 2);
    let mut n = 0usize;
    for pair in pairs {
        n += usize::from(push(pair, aggregate, &mut events));
    }
    // `-0.0` and `0.0` are one threshold, as they are in a comparison.
    events.iter_mut().for_each(|e: &mut Event| e.score += 0.0);
    events.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
    let (mut fracture, mut anti) = (0i128, 0i128);
    let mut points = Vec::new();
    for here in events.chunk_by(|a, b| a.score == b.score) {
        points.push(CurvePoint {
            tau: here[0].score,
            fracture: number(fracture) / n as f64,
            anti: number(anti) / n as f64,
        });
        for event in here {
            fracture += event.fracture;
            anti += event.anti;
        }
    }
    points
}

/// Adds the events of one row; whether it had a valid pair.
fn push(pair: &Pair, aggregate: Aggregate, events: &mut Vec<Event>) -> bool {
    if pair.first.is_empty() || pair.second.is_empty() {
        return false;
    }
    if aggregate != Aggregate::Product {
        let u = reduce_samples(pair.first, aggregate, f64::NAN);
        let v = reduce_samples(pair.second, aggregate, f64::NAN);
        return push_single(u, v, WHOLE, events);
    }
    let apart = pair.first.len() >= 2 && pair.second.len() >= 2;
    let valid = || {
        let rows = pair.first.iter().enumerate();
        rows.flat_map(|(k, &u)| pair.second.iter().enumerate().map(move |(l, &v)| (k, l, u, v)))
            .filter(move |&(k, l, u, v)| !(apart && k == l || u.is_nan() || v.is_nan()))
    };
    let count = valid().count() as i128;
    if count == 0 {
        return false;
    }
    for (_, _, u, v) in valid() {
        push_single(u, v, WHOLE / count, events);
    }
    true
}

fn push_single(u: f64, v: f64, weight: i128, events: &mut Vec<Event>) -> bool {
    if u.is_nan() || v.is_nan() {
        return false;
    }
    let (fracture, anti) = match u.partial_cmp(&v) {
        Some(std::cmp::Ordering::Less) => (weight, 0),
        Some(std::cmp::Ordering::Greater) => (0, -weight),
        _ => (0, 0),
    };
    events.push(Event {
        score: u,
        fracture,
        anti,
    });
    events.push(Event {
        score: v,
        fracture: -fracture,
        anti: -anti,
    });
    true
}
