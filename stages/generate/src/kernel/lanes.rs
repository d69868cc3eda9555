//! Sixteen `f32` lanes, the same arithmetic on every vector unit.
//!
//! A kernel is written once over [`Lanes`] and compiled for each unit. Every operation here is one correctly rounded
//! IEEE operation per lane (a fused multiply-add is one rounding), and [`Lanes::sum`] adds the lanes in one fixed tree:
//! `i + (i+8)`, then `i + (i+4)`, `i + (i+2)`, `i + (i+1)`. So the bits of a result depend neither on the unit nor on
//! how rows are tiled.

use half::{bf16, f16};

/// How many lanes an accumulator has on every unit.
pub(crate) const LANES: usize = 16;

/// The vector unit that kernels run on. Only units that this CPU has can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit(pub(super) UnitKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitKind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Unit {
    /// The widest unit of this CPU.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("f16c")
            {
                return Self(UnitKind::Avx512);
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("f16c")
            {
                return Self(UnitKind::Avx2);
            }
        }
        Self(UnitKind::Portable)
    }

    /// Every unit of this CPU, the widest first; tests compare their bits.
    pub fn all() -> Vec<Self> {
        let mut units = vec![Self::best()];
        #[cfg(target_arch = "x86_64")]
        if units[0].0 == UnitKind::Avx512 {
            units.push(Self(UnitKind::Avx2));
        }
        if units[0].0 != UnitKind::Portable {
            units.push(Self(UnitKind::Portable));
        }
        units
    }

    /// The unit's name, for provenance.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            UnitKind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            UnitKind::Avx2 => "avx2+fma",
            UnitKind::Portable => "portable",
        }
    }
}

/// Adds sixteen lanes in the fixed tree.
#[inline(always)]
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Sixteen lanes of `f32`.
///
/// # Safety
/// Every method needs the CPU feature of its type (guaranteed by [`Unit`]); pointers must be valid for the `f32`s
/// named: 16 for `load` and `store`, `count` (below 16) for the `_part` forms. No alignment is needed.
pub(crate) trait Lanes: Copy {
    /// How many rows a tile of a product holds so that its accumulators stay in registers.
    const ROWS: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` lanes from memory, the others zero.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    /// Sixteen half-precision numbers, widened exactly.
    unsafe fn load_f16(from: *const f16) -> Self;
    /// Sixteen bfloat16 numbers, widened exactly.
    unsafe fn load_bf16(from: *const bf16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_part(self, to: *mut f32, count: usize);
    /// `a * b + self`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// The lanes added in the fixed tree.
    unsafe fn sum(self) -> f32;
    /// Asks for the cache line of an address, of whatever memory it is, into the second-level cache.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    /// [`Lanes::sum`] of four accumulators.
    #[inline(always)]
    unsafe fn sum4(of: [Self; 4]) -> [f32; 4] {
        unsafe { [of[0].sum(), of[1].sum(), of[2].sum(), of[3].sum()] }
    }
}

/// Lanes as an array; `mul_add` is the hardware's where the target has it, else exact software.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(super) [f32; LANES]);

impl Lanes for Portable {
    const ROWS: usize = 1;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; LANES];
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        Self(unsafe { from.cast::<[f16; LANES]>().read_unaligned() }.map(f16::to_f32))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        Self(unsafe { from.cast::<[bf16; LANES]>().read_unaligned() }.map(bf16::to_f32))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) }
    }
    #[inline(always)]
    unsafe fn fma(mut self, a: Self, b: Self) -> Self {
        for i in 0..LANES {
            self.0[i] = a.0[i].mul_add(b.0[i], self.0[i]);
        }
        self
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        tree(self.0)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes};
    use half::{bf16, f16};
    use std::arch::x86_64::*;

    /// One AVX-512 register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(pub(in crate::kernel) __m512);

    impl Lanes for Avx512 {
        const ROWS: usize = 6;
        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps((1u16 << count) - 1, from) })
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, (1u16 << count) - 1, self.0) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { Self::sum4([self, Self::zero(), Self::zero(), Self::zero()])[0] }
        }
        #[inline(always)]
        unsafe fn sum4(of: [Self; 4]) -> [f32; 4] {
            let [a, b, c, d] = of;
            // Pairs of accumulators are folded together; within each, lane i meets lane i+8, then i+4, i+2, i+1.
            unsafe {
                let fold = |x: __m512, y: __m512| {
                    _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xEE))
                };
                let (ab, cd) = (fold(a.0, b.0), fold(c.0, d.0));
                let four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
                let two = _mm512_add_ps(four, _mm512_permute_ps(four, 0b01_00_11_10));
                let one = _mm512_add_ps(two, _mm512_permute_ps(two, 0b10_11_00_01));
                let picked =
                    _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), one);
                let mut sums = [0.0; 4];
                _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(picked));
                sums
            }
        }
    }

    /// Two AVX registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(pub(in crate::kernel) __m256, pub(in crate::kernel) __m256);

    impl Lanes for Avx2 {
        const ROWS: usize = 1;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            let mut lanes = [0.0; LANES];
            unsafe {
                std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
                Self::load(lanes.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            unsafe {
                Self(
                    _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
                )
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
                Self(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                )
            }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            let mut lanes = [0.0; LANES];
            unsafe {
                self.store(lanes.as_mut_ptr());
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
            }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { Self::sum4([self, Self::zero(), Self::zero(), Self::zero()])[0] }
        }
        #[inline(always)]
        unsafe fn sum4(of: [Self; 4]) -> [f32; 4] {
            unsafe {
                let fold = |x: Self| {
                    let eight = _mm256_add_ps(x.0, x.1);
                    _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1))
                };
                let [a, b, c, d] = [fold(of[0]), fold(of[1]), fold(of[2]), fold(of[3])];
                let pair = |x: __m128, y: __m128| _mm_add_ps(_mm_movelh_ps(x, y), _mm_movehl_ps(y, x));
                let (ab, cd) = (pair(a, b), pair(c, d));
                let sums = _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xDD));
                let mut out = [0.0; 4];
                _mm_storeu_ps(out.as_mut_ptr(), sums);
                out
            }
        }
    }
}
