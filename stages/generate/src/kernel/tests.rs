#![allow(clippy::unwrap_used)]
use super::*;
use crate::sampler::Stream;
use std::mem::MaybeUninit;

fn noise(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(3, "kernel", name, 0, 0);
    (0..count)
        .map(|i| (4.0 * stream.uniform(i as u64) - 2.0) as f32)
        .collect()
}

/// Room whose every place a product has to write: what is left over is not a number.
pub(super) fn unwritten(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    values.fill(f32::NAN);
    // SAFETY: products write numbers there and nothing else.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The definition: sixteen lanes, fused multiply-add, one tree.
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, (x, w)) in x.iter().zip(w).enumerate() {
        lanes[i % 16] = x.mul_add(*w, lanes[i % 16]);
    }
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

#[test]
fn products_of_the_same_rows_are_the_products_one_by_one() {
    let teams = [1, 2, 5].map(|threads| Team::new(threads).unwrap());
    for (rows, inner) in [(1, 384), (7, 33), (16, 96), (700, 160)] {
        let x = noise("x", rows * inner);
        let weights: Vec<(usize, Vec<f32>)> = [130, 64, 9]
            .map(|columns| (columns, noise(&columns.to_string(), columns * inner)))
            .into();
        for unit in Unit::all() {
            for (threads, team) in [1, 2, 5].into_iter().zip(&teams) {
                let mut outs: Vec<Vec<f32>> = weights
                    .iter()
                    .map(|(columns, _)| vec![f32::NAN; rows * columns])
                    .collect();
                let mut parts: Vec<ProductPart<'_>> = (weights.iter().zip(&mut outs))
                    .map(|((columns, w), out)| ProductPart {
                        w: Matrix::F32(w),
                        out: unwritten(out),
                        columns: *columns,
                    })
                    .collect();
                team.install(|| products(unit, &x, &mut parts, rows, inner, threads));
                for ((columns, w), out) in weights.iter().zip(&outs) {
                    let mut alone = vec![f32::NAN; rows * columns];
                    let shape = Shape {
                        rows,
                        columns: *columns,
                        inner,
                    };
                    product(unit, &x, Matrix::F32(w), unwritten(&mut alone), shape, 1);
                    assert_eq!(
                        bits(out),
                        bits(&alone),
                        "{rows} x {columns} x {inner} {} {threads}",
                        unit.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_product_is_its_definition_on_every_unit_in_every_shape() {
    let teams = [1, 2, 5].map(|threads| Team::new(threads).unwrap());
    for (rows, columns, inner) in [
        (1, 1, 1),
        (1, 9, 16),
        (2, 5, 40),
        (5, 7, 96),
        (7, 130, 33),
        (97, 12, 24),
        (64, 260, 64),
    ] {
        let (x, w) = (noise("x", rows * inner), noise("w", columns * inner));
        let wanted: Vec<f32> = x
            .chunks_exact(inner)
            .flat_map(|x| w.chunks_exact(inner).map(|w| dot(x, w)).collect::<Vec<_>>())
            .collect();
        for unit in Unit::all() {
            for (threads, team) in [1, 2, 5].into_iter().zip(&teams) {
                let mut out = vec![f32::NAN; rows * columns];
                let shape = Shape { rows, columns, inner };
                team.install(|| product(unit, &x, Matrix::F32(&w), unwritten(&mut out), shape, threads));
                assert_eq!(
                    bits(&out),
                    bits(&wanted),
                    "{rows} x {columns} x {inner} {} {threads}",
                    unit.name()
                );
            }
        }
    }
}

#[test]
fn row_kernels_agree_on_every_unit() {
    let (x, y, w) = (noise("a", 5 * 44), noise("b", 5 * 44), noise("c", 44));
    let run = |unit| {
        let mut normed = vec![0.0; x.len()];
        rms_norm(unit, &x, &w, 1e-5, &mut normed);
        let mut gated = vec![0.0; x.len()];
        gate(unit, Activation::Silu, &x, &y, &mut gated);
        let mut smooth = vec![0.0; x.len()];
        gate(unit, Activation::GeluTanh, &x, &y, &mut smooth);
        let mut capped = x.clone();
        soft_cap(unit, &mut capped, 1.5);
        let mut powers = x.clone();
        let total = exp_shifted(unit, &mut powers, maximum(unit, &x));
        [normed, gated, smooth, capped, powers, vec![total]].concat()
    };
    let units = Unit::all();
    for unit in &units {
        assert_eq!(bits(&run(*unit)), bits(&run(units[0])), "{}", unit.name());
    }
    let (normed, rest) = {
        let all = run(units[0]);
        (all[..220].to_vec(), all[220..].to_vec())
    };
    for row in 0..5 {
        let x = &x[row * 44..(row + 1) * 44];
        let mean: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 44.0;
        for (i, value) in x.iter().enumerate() {
            let exact = f64::from(*value) / (mean + 1e-5).sqrt() * f64::from(w[i]);
            assert!((f64::from(normed[row * 44 + i]) - exact).abs() < 1e-5);
        }
    }
    for (i, (x, y)) in x.iter().zip(&y).enumerate() {
        let (x, y) = (f64::from(*x), f64::from(*y));
        let gelu = 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh()) * y;
        for (ours, exact) in [
            (rest[i], x / (1.0 + (-x).exp()) * y),
            (rest[220 + i], gelu),
            (rest[440 + i], 1.5 * (x / 1.5).tanh()),
        ] {
            assert!((f64::from(ours) - exact).abs() < 2e-6, "{x}: {ours} {exact}");
        }
    }
}

#[test]
fn exponentials_are_accurate() {
    for unit in Unit::all() {
        let mut values: Vec<f32> = (-8700..=8800).map(|i| i as f32 / 100.0).collect();
        let exact: Vec<f64> = values.iter().map(|x| f64::from(*x).exp()).collect();
        exp_shifted(unit, &mut values, 0.0);
        for (ours, exact) in values.iter().zip(exact) {
            assert!((f64::from(*ours) / exact - 1.0).abs() < 2e-7, "{ours} {exact}");
        }
        let mut special = [f32::NAN, f32::NEG_INFINITY, 0.0];
        assert!(exp_shifted(unit, &mut special, 0.0).is_nan() && special[0].is_nan());
        assert!(special[1] < 1.3e-38 && special[2] == 1.0);
    }
}

#[test]
fn attention_is_a_softmax_mean_however_positions_are_cut() {
    let (group, head_dim, span) = (3, 20, 37);
    let (queries, keys, values) = (
        noise("q", group * head_dim),
        noise("k", span * head_dim),
        noise("v", span * head_dim),
    );
    let head = Head {
        group,
        head_dim,
        cap: None,
    };
    let run = |unit, cuts: &[usize]| {
        let mut seen = Seen::default();
        seen.row(|parts| {
            let mut from = 0;
            for &to in cuts.iter().chain([&span]) {
                let range = from * head_dim..to * head_dim;
                parts.push(Part {
                    keys: &keys[range.clone()],
                    values: &values[range],
                });
                from = to;
            }
        });
        let mut out = vec![0.0; group * head_dim];
        attend(unit, head, &queries, &seen, &mut Vec::new(), &mut out);
        out
    };
    let units = Unit::all();
    let whole = run(units[0], &[]);
    for unit in units {
        for cuts in [&[][..], &[1], &[16, 17, 36]] {
            assert_eq!(bits(&run(unit, cuts)), bits(&whole), "{} {cuts:?}", unit.name());
        }
    }
    for g in 0..group {
        let query = &queries[g * head_dim..(g + 1) * head_dim];
        let scores: Vec<f64> = keys
            .chunks_exact(head_dim)
            .map(|key| {
                key.iter()
                    .zip(query)
                    .map(|(k, q)| f64::from(*k) * f64::from(*q))
                    .sum::<f64>()
                    .exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        for d in 0..head_dim {
            let exact: f64 = scores
                .iter()
                .enumerate()
                .map(|(t, s)| s / total * f64::from(values[t * head_dim + d]))
                .sum();
            assert!((f64::from(whole[g * head_dim + d]) - exact).abs() < 1e-5);
        }
    }
}

/// Rows that begin alike go through their beginning together; each gets the bits that it gets alone.
#[test]
fn attention_of_rows_together_is_that_of_each_alone() {
    let (group, head_dim, span, rows) = (2, 68, 41, 9);
    let width = group * head_dim;
    let (queries, keys, values) = (
        noise("q", rows * width),
        noise("k", 2 * span * head_dim),
        noise("v", 2 * span * head_dim),
    );
    let head = Head {
        group,
        head_dim,
        cap: Some(1.5),
    };
    let part = |from: usize, to: usize| Part {
        keys: &keys[from * head_dim..to * head_dim],
        values: &values[from * head_dim..to * head_dim],
    };
    // Positions of one prompt, samples of one prompt, rows that have nothing or only a piece in common.
    let positions = |row: usize| vec![part(3, 20 + row)];
    let samples = |row: usize| vec![part(0, 17), part(17, 30), part(40 + row, 41 + 2 * row)];
    let mixed = |row: usize| match row % 3 {
        0 => vec![part(0, 9 + row), part(45, 47)],
        1 => vec![part(0, 9), part(30, 31)],
        _ => vec![part(row, 20)],
    };
    for number in 0..3 {
        let scene = |row: usize| match number {
            0 => positions(row),
            1 => samples(row),
            _ => mixed(row),
        };
        for unit in Unit::all() {
            let run = |rows: std::ops::Range<usize>| {
                let mut seen = Seen::default();
                rows.clone().for_each(|row| seen.row(|parts| parts.extend(scene(row))));
                let mut out = vec![f32::NAN; rows.len() * width];
                let queries = &queries[rows.start * width..rows.end * width];
                attend(unit, head, queries, &seen, &mut vec![f32::NAN; 7], &mut out);
                out
            };
            let alone: Vec<f32> = (0..rows).flat_map(|row| run(row..row + 1)).collect();
            assert!(alone.iter().all(|value| value.is_finite()));
            assert_eq!(bits(&run(0..rows)), bits(&alone), "scene {number} {}", unit.name());
        }
    }
}

#[test]
fn a_team_does_each_piece_once_and_outlives_a_panic() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for threads in [1, 2, 3] {
        let team = Team::new(threads).unwrap();
        team.install(|| {
            for pieces in [0, 1, 2, 7, 100].into_iter().cycle().take(2_000) {
                let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                scatter(threads, pieces, |piece| {
                    done[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
            let mut items: Vec<usize> = vec![0; 23];
            scatter_mut(threads, &mut items, 5, |number, run| {
                // What a piece gives out itself it does itself.
                scatter_mut(threads, run, 1, |at, item| item[0] = 5 * number + at);
            });
            assert!(items.iter().enumerate().all(|(at, item)| at == *item));
            // A team works for one thread; another one that would have it works alone.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let own = std::thread::current().id();
                    team.install(|| scatter(threads, 9, |_| assert_eq!(std::thread::current().id(), own)));
                });
                scatter(threads, 50, |_| std::thread::yield_now());
                other.join().unwrap();
            });
            let panic = std::panic::catch_unwind(|| scatter(threads, 8, |piece| assert_ne!(piece, 3)));
            assert!(panic.is_err());
            let sum = AtomicUsize::new(0);
            scatter(threads, 8, |piece| {
                sum.fetch_add(piece, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 28);
            // Long enough for helpers to fall asleep.
            std::thread::sleep(std::time::Duration::from_millis(30));
            let sum = AtomicUsize::new(0);
            scatter(threads, 8, |piece| {
                sum.fetch_add(piece, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 28);
        });
    }
}
