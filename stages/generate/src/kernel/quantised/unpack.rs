//! Sixteen packed weights at a time, on every vector unit.
//!
//! Integers are exact, and so is their conversion to `f32`; what is left is one multiplication or one fused
//! multiply-add per weight, rounded once, so that every unit gives the same bits.

use crate::kernel::lanes::{LANES, Lanes, Portable};

/// What [`Lanes`] need beyond arithmetic to unpack weights.
///
/// # Safety
/// As for [`Lanes`]; pointers must be valid for the bytes named. No alignment is needed.
pub(super) trait Unpack: Lanes {
    /// Sixteen integers of 32 bits.
    type Ints: Copy;
    /// Sixteen bytes as integers from 0 to 255.
    unsafe fn unsigned(from: *const u8) -> Self::Ints;
    /// Sixteen bytes as integers from -128 to 127.
    unsafe fn signed(from: *const u8) -> Self::Ints;
    /// Lane `i` is bit `i` of `bits`.
    unsafe fn bits(bits: u32) -> Self::Ints;
    /// Each lane shifted right by `by`, then masked.
    unsafe fn cut(of: Self::Ints, by: u32, mask: i32) -> Self::Ints;
    /// `a + (b << by)`.
    unsafe fn above(a: Self::Ints, b: Self::Ints, by: u32) -> Self::Ints;
    /// Each lane plus `value`.
    unsafe fn plus(of: Self::Ints, value: i32) -> Self::Ints;
    /// As floating-point numbers; exact for what the formats hold.
    unsafe fn float(of: Self::Ints) -> Self;
    /// Lane by lane, rounded once.
    unsafe fn times(self, other: Self) -> Self;
    /// One half-precision number in all lanes.
    #[inline(always)]
    unsafe fn splat_half(from: *const u8) -> Self {
        unsafe { Self::splat(half(from)) }
    }
}

/// The half-precision number at `from`. Exact, subnormal numbers, infinities and NaN included.
///
/// # Safety
/// Two bytes are there.
#[inline(always)]
pub(super) unsafe fn half(from: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    let bits = u32::from(u16::from_le_bytes(unsafe { from.cast::<[u8; 2]>().read_unaligned() }));
    // The exponent's bias is moved by a multiplication, which also normalises subnormal numbers.
    let scaled = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | (bits & 0x8000) << 16)
}

impl Unpack for Portable {
    type Ints = [i32; LANES];
    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> Self::Ints {
        unsafe { from.cast::<[u8; LANES]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn signed(from: *const u8) -> Self::Ints {
        unsafe { from.cast::<[i8; LANES]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn bits(bits: u32) -> Self::Ints {
        std::array::from_fn(|i| (bits >> i & 1) as i32)
    }
    #[inline(always)]
    unsafe fn cut(of: Self::Ints, by: u32, mask: i32) -> Self::Ints {
        of.map(|value| value >> by & mask)
    }
    #[inline(always)]
    unsafe fn above(a: Self::Ints, b: Self::Ints, by: u32) -> Self::Ints {
        std::array::from_fn(|i| a[i] + (b[i] << by))
    }
    #[inline(always)]
    unsafe fn plus(of: Self::Ints, value: i32) -> Self::Ints {
        of.map(|lane| lane + value)
    }
    #[inline(always)]
    unsafe fn float(of: Self::Ints) -> Self {
        Self(of.map(|value| value as f32))
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Unpack;
    use crate::kernel::lanes::{Avx2, Avx512};
    use std::arch::x86_64::*;

    impl Unpack for Avx512 {
        type Ints = __m512i;
        #[inline(always)]
        unsafe fn unsigned(from: *const u8) -> Self::Ints {
            unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn signed(from: *const u8) -> Self::Ints {
            unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn bits(bits: u32) -> Self::Ints {
            unsafe { _mm512_maskz_set1_epi32(bits as u16, 1) }
        }
        #[inline(always)]
        unsafe fn cut(of: Self::Ints, by: u32, mask: i32) -> Self::Ints {
            unsafe {
                _mm512_and_si512(
                    _mm512_srlv_epi32(of, _mm512_set1_epi32(by as i32)),
                    _mm512_set1_epi32(mask),
                )
            }
        }
        #[inline(always)]
        unsafe fn above(a: Self::Ints, b: Self::Ints, by: u32) -> Self::Ints {
            unsafe { _mm512_add_epi32(a, _mm512_sllv_epi32(b, _mm512_set1_epi32(by as i32))) }
        }
        #[inline(always)]
        unsafe fn plus(of: Self::Ints, value: i32) -> Self::Ints {
            unsafe { _mm512_add_epi32(of, _mm512_set1_epi32(value)) }
        }
        #[inline(always)]
        unsafe fn float(of: Self::Ints) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(of) })
        }
        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn splat_half(from: *const u8) -> Self {
            unsafe { Self(_mm512_cvtph_ps(_mm256_set1_epi16(from.cast::<i16>().read_unaligned()))) }
        }
    }

    impl Unpack for Avx2 {
        type Ints = (__m256i, __m256i);
        #[inline(always)]
        unsafe fn unsigned(from: *const u8) -> Self::Ints {
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                (
                    _mm256_cvtepu8_epi32(bytes),
                    _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)),
                )
            }
        }
        #[inline(always)]
        unsafe fn signed(from: *const u8) -> Self::Ints {
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                (
                    _mm256_cvtepi8_epi32(bytes),
                    _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)),
                )
            }
        }
        #[inline(always)]
        unsafe fn bits(bits: u32) -> Self::Ints {
            unsafe {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let (bits, one) = (_mm256_set1_epi32(bits as i32), _mm256_set1_epi32(1));
                let low = _mm256_and_si256(_mm256_srlv_epi32(bits, lanes), one);
                let high = _mm256_srlv_epi32(bits, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));
                (low, _mm256_and_si256(high, one))
            }
        }
        #[inline(always)]
        unsafe fn cut(of: Self::Ints, by: u32, mask: i32) -> Self::Ints {
            unsafe {
                let (by, mask) = (_mm256_set1_epi32(by as i32), _mm256_set1_epi32(mask));
                (
                    _mm256_and_si256(_mm256_srlv_epi32(of.0, by), mask),
                    _mm256_and_si256(_mm256_srlv_epi32(of.1, by), mask),
                )
            }
        }
        #[inline(always)]
        unsafe fn above(a: Self::Ints, b: Self::Ints, by: u32) -> Self::Ints {
            unsafe {
                let by = _mm256_set1_epi32(by as i32);
                (
                    _mm256_add_epi32(a.0, _mm256_sllv_epi32(b.0, by)),
                    _mm256_add_epi32(a.1, _mm256_sllv_epi32(b.1, by)),
                )
            }
        }
        #[inline(always)]
        unsafe fn plus(of: Self::Ints, value: i32) -> Self::Ints {
            unsafe {
                let value = _mm256_set1_epi32(value);
                (_mm256_add_epi32(of.0, value), _mm256_add_epi32(of.1, value))
            }
        }
        #[inline(always)]
        unsafe fn float(of: Self::Ints) -> Self {
            unsafe { Self(_mm256_cvtepi32_ps(of.0), _mm256_cvtepi32_ps(of.1)) }
        }
        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
    }
}
