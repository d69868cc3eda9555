//! Kernels whose results do not depend on how work is batched, tiled or spread over threads.
//!
//! Every output of a product is one dot product over `k` in a fixed order (sixteen lanes, fused multiply-add, one fixed
//! reduction); attention, softmax and norms work row by row in a fixed order with an `exp` of our own. So a row's bits
//! are the same alone and in a batch of 64, on one thread and on two, on AVX-512, on AVX2 and in portable code.

mod attention;
mod element;
mod elementwise;
mod lanes;
mod product;
mod quantised;
mod team;
mod tile;

pub(crate) use attention::{Head, Part, Seen, attend};
pub(crate) use element::Matrix;
pub use elementwise::Activation;
pub(crate) use elementwise::{exp_shifted, gate, maximum, rms_norm, soft_cap};
pub use lanes::Unit;
pub(crate) use product::{Part as ProductPart, Shape, product, products};
pub(crate) use quantised::{Order, Packed, can_be_packed, packed_product, unpack_row};
pub(crate) use team::{Team, scatter, scatter_mut};

/// Defines a function that runs a generic kernel on the chosen [`Unit`].
///
/// The body must be `#[inline(always)]`, so that it is compiled with the features of the wrapper it lands in.
macro_rules! on_unit {
    ($(#[$meta:meta])* unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name(unit: $crate::kernel::Unit, $($arg: $type),*) $(-> $result)? {
            use $crate::kernel::lanes::UnitKind;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) $(-> $result)? {
                unsafe { $body::<$crate::kernel::lanes::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) $(-> $result)? {
                unsafe { $body::<$crate::kernel::lanes::Avx2>($($arg),*) }
            }
            // SAFETY: a `Unit` exists only for features that were detected; the rest is the caller's promise.
            unsafe {
                match unit.0 {
                    #[cfg(target_arch = "x86_64")]
                    UnitKind::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    UnitKind::Avx2 => avx2($($arg),*),
                    UnitKind::Portable => $body::<$crate::kernel::lanes::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use on_unit;

#[cfg(test)]
mod tests;
