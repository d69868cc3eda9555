//! Norms, activations and exponentials, each row in a fixed order.
//!
//! The loops are plain Rust over arrays of sixteen; compiled for a unit they become vector code. Rust never reorders
//! or contracts floating point operations, so every unit gives the same bits.

use super::lanes::{LANES, Lanes, tree};
use super::{Unit, on_unit};

/// The activation of a gated feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// The tanh approximation of the Gaussian error linear unit.
    GeluTanh,
    /// The Gaussian error linear unit, `x · Φ(x)`.
    Gelu,
}

/// `e^x` for finite `x`, NaN for NaN, to about one unit in the last place. Below -87.3 the result is the smallest
/// normal number, above 88 it stops growing.
///
/// Cody-Waite reduction `x = n·ln 2 + r` and the degree-6 polynomial of the Cephes library, in fused operations.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOW: f32 = -87.3;
    const HIGH: f32 = 88.0;
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer in the low bits
    let x = if x < LOW { LOW } else { x };
    let x = if x > HIGH { HIGH } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r + 1.0);
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(power)
}

/// `tanh(x)` to about 1e-7 absolute.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(2.0 * x);
    1.0 - 2.0 / (e + 1.0)
}

on_unit! {
    unsafe fn exp_shifted_on = exp_shifted_body(values: &mut [f32], shift: f32) -> f32
}

#[inline(always)]
unsafe fn exp_shifted_body<V: Lanes>(values: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (value, sum) in chunk.iter_mut().zip(&mut sums) {
            *value = exp(*value - shift);
            *sum += *value;
        }
    }
    for (value, sum) in chunks.into_remainder().iter_mut().zip(&mut sums) {
        *value = exp(*value - shift);
        *sum += *value;
    }
    tree(sums)
}

/// Replaces each value by `e^(value - shift)` and returns their sum, added in sixteen lanes by position.
pub(crate) fn exp_shifted(unit: Unit, values: &mut [f32], shift: f32) -> f32 {
    // SAFETY: the body touches the slice alone.
    unsafe { exp_shifted_on(unit, values, shift) }
}

on_unit! {
    unsafe fn maximum_on = maximum_body(values: &[f32]) -> f32
}

#[inline(always)]
unsafe fn maximum_body<V: Lanes>(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (best, &value) in best.iter_mut().zip(chunk) {
            *best = if value > *best { value } else { *best };
        }
    }
    for (best, &value) in best.iter_mut().zip(rest) {
        *best = if value > *best { value } else { *best };
    }
    best.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The greatest value; NaN is passed over (it comes out in the sum of [`exp_shifted`]).
pub(crate) fn maximum(unit: Unit, values: &[f32]) -> f32 {
    // SAFETY: the body touches the slice alone.
    unsafe { maximum_on(unit, values) }
}

on_unit! {
    unsafe fn soft_cap_on = soft_cap_body(values: &mut [f32], cap: f32)
}

#[inline(always)]
unsafe fn soft_cap_body<V: Lanes>(values: &mut [f32], cap: f32) {
    for value in values {
        *value = cap * tanh(*value / cap);
    }
}

/// `cap · tanh(value / cap)`, in place.
pub(crate) fn soft_cap(unit: Unit, values: &mut [f32], cap: f32) {
    // SAFETY: the body touches the slice alone.
    unsafe { soft_cap_on(unit, values, cap) }
}

on_unit! {
    unsafe fn rms_norm_on = rms_norm_body(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32])
}

#[inline(always)]
unsafe fn rms_norm_body<V: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mut sums = [0.0f32; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (sum, &value) in sums.iter_mut().zip(chunk) {
                *sum = value.mul_add(value, *sum);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum = value.mul_add(value, *sum);
        }
        let scale = 1.0 / (tree(sums) / width as f32 + eps).sqrt();
        for ((out, &value), &weight) in out.iter_mut().zip(x).zip(weight) {
            *out = value * scale * weight;
        }
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` for each row; rows are as long as `weight`.
///
/// # Panics
/// When `x` is no whole number of rows or `out` has another length.
pub(crate) fn rms_norm(unit: Unit, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(weight.len()));
    // SAFETY: the body touches the slices alone.
    unsafe { rms_norm_on(unit, x, weight, eps, out) }
}

on_unit! {
    unsafe fn gate_on = gate_body(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn gate_body<V: Lanes>(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => {
            for ((out, &x), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = x / (1.0 + exp(-x)) * up;
            }
        }
        Activation::GeluTanh => {
            const SQRT_2_OVER_PI: f32 = 0.797_884_6;
            for ((out, &x), &up) in out.iter_mut().zip(gate).zip(up) {
                let inner = SQRT_2_OVER_PI * (0.044_715 * x * x).mul_add(x, x);
                *out = 0.5 * x * (1.0 + tanh(inner)) * up;
            }
        }
        Activation::Gelu => {
            for ((out, &x), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)) * up;
            }
        }
    }
}

/// `activation(gate) · up`, element by element.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn gate(unit: Unit, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == out.len());
    // SAFETY: the body touches the slices alone.
    unsafe { gate_on(unit, activation, gate, up, out) }
}
