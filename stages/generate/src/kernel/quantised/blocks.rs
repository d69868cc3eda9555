//! The formats' blocks. Layouts and formulas are those of ggml's `ggml-quants.c`.
//!
//! Every formula is evaluated so that it rounds where ggml's dequantisation rounds: a weight that is unpacked here has
//! the bits that ggml gives it. (A scale times a small integer fits into the 24 bits of an `f32`, so that a fused
//! multiply-add rounds like a multiplication and a subtraction.)

use super::unpack::{Unpack, half};

/// A format whose rows are blocks of `WIDTH` weights.
pub(super) trait Blocks {
    /// Weights of a block, a multiple of sixteen.
    const WIDTH: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// What all weights of a block share, unpacked.
    type Shared<V: Unpack>: Copy;
    /// # Safety
    /// A block is there; `V`'s unit is there.
    unsafe fn shared<V: Unpack>(block: *const u8) -> Self::Shared<V>;
    /// The sixteen weights number `part`.
    ///
    /// # Safety
    /// A block is there; `part` is below `WIDTH / 16`; `V`'s unit is there.
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &Self::Shared<V>, part: usize) -> V;
}

/// Half-precision numbers.
pub(super) struct F16;

impl Blocks for F16 {
    const WIDTH: usize = 16;
    const BYTES: usize = 32;
    type Shared<V: Unpack> = ();
    #[inline(always)]
    unsafe fn shared<V: Unpack>(_: *const u8) {}
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, (): &(), _: usize) -> V {
        unsafe { V::load_f16(block.cast()) }
    }
}

/// `bfloat16` numbers.
pub(super) struct Bf16;

impl Blocks for Bf16 {
    const WIDTH: usize = 16;
    const BYTES: usize = 32;
    type Shared<V: Unpack> = ();
    #[inline(always)]
    unsafe fn shared<V: Unpack>(_: *const u8) {}
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, (): &(), _: usize) -> V {
        unsafe { V::load_bf16(block.cast()) }
    }
}

/// A scale `f16`, then 32 integers `i8`: `scale · q`.
pub(super) struct Q8_0;

impl Blocks for Q8_0 {
    const WIDTH: usize = 32;
    const BYTES: usize = 34;
    type Shared<V: Unpack> = V;
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> V {
        unsafe { V::splat_half(block) }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &V, part: usize) -> V {
        unsafe { V::float(V::signed(block.add(2 + 16 * part))).times(*shared) }
    }
}

/// A scale `f16`, then 16 bytes whose low halves are the first 16 integers: `scale · (q - 8)`.
pub(super) struct Q4_0;

impl Blocks for Q4_0 {
    const WIDTH: usize = 32;
    const BYTES: usize = 18;
    type Shared<V: Unpack> = V;
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> V {
        unsafe { V::splat_half(block) }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &V, part: usize) -> V {
        unsafe {
            let low = V::cut(V::unsigned(block.add(2)), 4 * part as u32, 0xF);
            V::float(V::plus(low, -8)).times(*shared)
        }
    }
}

/// A scale `f16`, 32 fifth bits, then 16 bytes as in [`Q4_0`]: `scale · (q - 16)`.
pub(super) struct Q5_0;

impl Blocks for Q5_0 {
    const WIDTH: usize = 32;
    const BYTES: usize = 22;
    type Shared<V: Unpack> = V;
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> V {
        unsafe { V::splat_half(block) }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &V, part: usize) -> V {
        unsafe {
            let fifth = u32::from_le_bytes(block.add(2).cast::<[u8; 4]>().read_unaligned()) >> (16 * part);
            let low = V::cut(V::unsigned(block.add(6)), 4 * part as u32, 0xF);
            V::float(V::plus(V::above(low, V::bits(fifth & 0xFFFF), 4), -16)).times(*shared)
        }
    }
}

/// Eight scales and eight minima of a block of 256.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    scales: [f32; 8],
    minima: [f32; 8],
}

impl Steps {
    /// From two `f16` and twelve bytes that hold sixteen integers of six bits.
    #[inline(always)]
    unsafe fn read(block: *const u8) -> Self {
        // SAFETY: the block begins with these sixteen bytes.
        let (scale, minimum) = unsafe { (half(block), half(block.add(2))) };
        let packed = unsafe { block.add(4).cast::<[u8; 12]>().read_unaligned() };
        let mut steps = Self {
            scales: [0.0; 8],
            minima: [0.0; 8],
        };
        for i in 0..4 {
            let (a, b, c) = (packed[i], packed[i + 4], packed[i + 8]);
            steps.scales[i] = scale * f32::from(a & 0x3F);
            steps.minima[i] = -minimum * f32::from(b & 0x3F);
            steps.scales[i + 4] = scale * f32::from(c & 0xF | a >> 2 & 0x30);
            steps.minima[i + 4] = -minimum * f32::from(c >> 4 | b >> 2 & 0x30);
        }
        steps
    }

    /// `scale · q - minimum` of the 32 weights to which `part` belongs.
    #[inline(always)]
    unsafe fn apply<V: Unpack>(&self, part: usize, of: V::Ints) -> V {
        unsafe { V::splat(self.minima[part / 2]).fma(V::float(of), V::splat(self.scales[part / 2])) }
    }
}

/// [`Steps`], then four times 32 bytes whose low halves come before their high halves.
pub(super) struct Q4K;

impl Blocks for Q4K {
    const WIDTH: usize = 256;
    const BYTES: usize = 144;
    type Shared<V: Unpack> = Steps;
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> Steps {
        unsafe { Steps::read(block) }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &Steps, part: usize) -> V {
        unsafe { shared.apply(part, quarters::<V>(block.add(16), part)) }
    }
}

/// [`Steps`], 32 bytes whose bit `i` is the fifth bit of the `i`-th 32 weights, then the low bits as in [`Q4K`].
pub(super) struct Q5K;

impl Blocks for Q5K {
    const WIDTH: usize = 256;
    const BYTES: usize = 176;
    type Shared<V: Unpack> = Steps;
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> Steps {
        unsafe { Steps::read(block) }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &Steps, part: usize) -> V {
        unsafe {
            let fifth = V::cut(V::unsigned(block.add(16 + 16 * (part % 2))), part as u32 / 2, 1);
            shared.apply(part, V::above(quarters::<V>(block.add(48), part), fifth, 4))
        }
    }
}

/// Four bits each of sixteen weights.
#[inline(always)]
unsafe fn quarters<V: Unpack>(from: *const u8, part: usize) -> V::Ints {
    unsafe {
        V::cut(
            V::unsigned(from.add(32 * (part / 4) + 16 * (part % 2))),
            4 * (part as u32 / 2 % 2),
            0xF,
        )
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, sixteen scales `i8`, a scale `f16`:
/// `scale · scale · (q - 32)`.
pub(super) struct Q6K;

impl Blocks for Q6K {
    const WIDTH: usize = 256;
    const BYTES: usize = 210;
    type Shared<V: Unpack> = [f32; 16];
    #[inline(always)]
    unsafe fn shared<V: Unpack>(block: *const u8) -> [f32; 16] {
        unsafe {
            let scale = half(block.add(208));
            let scales = block.add(192).cast::<[i8; 16]>().read_unaligned();
            let mut products = [0.0; 16];
            for (product, each) in products.iter_mut().zip(scales) {
                *product = scale * f32::from(each);
            }
            products
        }
    }
    #[inline(always)]
    unsafe fn weights<V: Unpack>(block: *const u8, shared: &[f32; 16], part: usize) -> V {
        let (half, quarter, odd) = (part / 8, part % 8 / 2, part % 2);
        unsafe {
            let low = V::unsigned(block.add(64 * half + 32 * (quarter % 2) + 16 * odd));
            let high = V::unsigned(block.add(128 + 32 * half + 16 * odd));
            let (low, high) = (
                V::cut(low, 4 * (quarter as u32 / 2), 0xF),
                V::cut(high, 2 * quarter as u32, 3),
            );
            V::float(V::plus(V::above(low, high, 4), -32)).times(V::splat(shared[part]))
        }
    }
}
