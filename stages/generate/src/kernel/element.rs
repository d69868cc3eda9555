//! The number types that a weight may have in memory. Each is widened exactly to `f32` where it is used, so that the
//! bits of a product are those of a product with weights that were converted before.

use super::lanes::{LANES, Lanes};
use half::{bf16, f16};

/// A weight `[columns, inner]`, row-major, in the type it has in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Matrix<'_> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Values `from..from + out.len()` as `f32`.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn widen(&self, from: usize, out: &mut [f32]) {
        let range = from..from + out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values[range]),
            Self::F16(values) => (out.iter_mut().zip(&values[range])).for_each(|(out, value)| *out = value.to_f32()),
            Self::Bf16(values) => (out.iter_mut().zip(&values[range])).for_each(|(out, value)| *out = value.to_f32()),
        }
    }
}

/// A number type that lanes can be loaded from.
///
/// # Safety
/// As for [`Lanes`]: the CPU has the unit of `V`; pointers are valid for sixteen numbers, or `count` of them.
pub(super) trait Element: Copy {
    unsafe fn load<V: Lanes>(from: *const Self) -> V;

    /// The first `count` lanes from memory, the others zero.
    unsafe fn load_part<V: Lanes>(from: *const Self, count: usize) -> V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn load_part<V: Lanes>(from: *const Self, count: usize) -> V {
        unsafe { V::load_part(from, count) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        unsafe { V::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn load_part<V: Lanes>(from: *const Self, count: usize) -> V {
        let mut all = [Self::ZERO; LANES];
        unsafe {
            std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count);
            V::load_f16(all.as_ptr())
        }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        unsafe { V::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn load_part<V: Lanes>(from: *const Self, count: usize) -> V {
        let mut all = [Self::ZERO; LANES];
        unsafe {
            std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count);
            V::load_bf16(all.as_ptr())
        }
    }
}
