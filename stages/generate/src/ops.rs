//! The decoder's operations as candle operations: on the CPU our invariant kernels, as custom ops.

use crate::kernel::{self, Activation, Unit};
use crate::weight::Weight;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Tensor, bail};
use std::ops::Range;

/// How kernels run: on which unit, on how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The vector unit.
    pub unit: Unit,
    /// Threads of the team that is installed that one operation may use.
    pub threads: usize,
}

/// Values below which an operation is done by the thread that gives it.
const SPREAD: usize = 1 << 12;

impl Run {
    /// Fills `out`, runs of `width` at a time, on all threads: `fill` gets which values these are, and their room. What
    /// such an operation takes is mostly the time in which lines come over from the cache of the thread that wrote them.
    fn by_rows(self, out: &mut [f32], width: usize, fill: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let rows = out.len() / width.max(1);
        if self.threads <= 1 || out.len() < SPREAD || rows < self.threads {
            return fill(0..out.len(), out);
        }
        let length = rows.div_ceil(self.threads) * width;
        kernel::scatter_mut(self.threads, out, length, |number, out| {
            fill(number * length..number * length + out.len(), out);
        });
    }
}

/// The values of a contiguous f32 tensor on the CPU.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("a kernel was given a tensor that is not contiguous: {layout:?}"),
    }
}

/// A weight `[out, in]` and a bias `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Weight, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `x · Wᵀ + b`: `[rows, in]` to `[rows, out]`.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn forward(&self, run: Run, x: &Tensor) -> Result<Tensor> {
        let product = self.weight.product(run, x)?;
        self.with_bias(product)
    }

    fn with_bias(&self, product: Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    /// [`Linear::forward`] of several projections of the same rows, in the same bits and with less waiting.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_all<const N: usize>(linears: [&Self; N], run: Run, x: &Tensor) -> Result<[Tensor; N]> {
        let products = Weight::products(linears.map(|linear| &linear.weight), run, x)?;
        let mut outs = Vec::with_capacity(N);
        for (linear, product) in linears.into_iter().zip(products) {
            outs.push(linear.with_bias(product)?);
        }
        match outs.try_into() {
            Ok(outs) => Ok(outs),
            Err(_) => bail!("projections were lost"),
        }
    }
}

/// A root-mean-square norm over the last dimension.
#[derive(Debug, Clone)]
pub struct Norm {
    weight: Tensor,
    eps: f32,
}

impl Norm {
    /// With a weight `[width]`; `from_one` says that it is stored as the difference from one.
    ///
    /// # Errors
    /// Candle's.
    pub fn new(weight: Tensor, eps: f32, from_one: bool) -> Result<Self> {
        let weight = if from_one {
            (weight.to_dtype(DType::F32)? + 1.0)?
        } else {
            weight
        };
        Ok(Self { weight, eps })
    }

    /// Norms each run of `width` values; the shape stays.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn forward(&self, run: Run, x: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(&self.weight, &RmsNorm(run, self.eps))
    }
}

struct RmsNorm(Run, f32);

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "invariant-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        let (x, w) = (values(x, x_layout)?, values(w, w_layout)?);
        if w.is_empty() || !x.len().is_multiple_of(w.len()) {
            bail!("a norm of {:?} over {}", x_layout.shape(), w.len());
        }
        let mut out = vec![0.0; x.len()];
        self.0.by_rows(&mut out, w.len(), |own, out| {
            kernel::rms_norm(self.0.unit, &x[own], w, self.1, out);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// `activation(gate) · up`.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn gate(run: Run, activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2_no_bwd(up, &Gate(run, activation))
}

struct Gate(Run, Activation);

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        let (gate, up) = (values(gate, gate_layout)?, values(up, up_layout)?);
        if gate.len() != up.len() {
            bail!("a gate of {:?} on {:?}", gate_layout.shape(), up_layout.shape());
        }
        let mut out = vec![0.0; gate.len()];
        let width = gate_layout.dims().last().copied().unwrap_or(1);
        self.0.by_rows(&mut out, width, |own, out| {
            kernel::gate(self.0.unit, self.1, &gate[own.clone()], &up[own], out);
        });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }
}

/// `cap · tanh(x / cap)`.
///
/// # Errors
/// Another type than f32.
pub fn soft_cap(run: Run, x: &Tensor, cap: f32) -> Result<Tensor> {
    x.apply_op1_no_bwd(&SoftCap(run, cap))
}

struct SoftCap(Run, f32);

impl CustomOp1 for SoftCap {
    fn name(&self) -> &'static str {
        "soft-cap"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, candle_core::Shape)> {
        let mut out = values(x, layout)?.to_vec();
        kernel::soft_cap(self.0.unit, &mut out, self.1);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// `a + b`, element by element; candle's own addition wakes a pool of threads for a batch of some rows.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn add(run: Run, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Sum(run))
}

struct Sum(Run);

impl CustomOp2 for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        let (a, b) = (values(a, a_layout)?, values(b, b_layout)?);
        if a_layout.shape() != b_layout.shape() {
            bail!("a sum of {:?} and {:?}", a_layout.shape(), b_layout.shape());
        }
        let mut out = vec![0.0; a.len()];
        let width = a_layout.dims().last().copied().unwrap_or(1);
        self.0.by_rows(&mut out, width, |own, out| {
            for ((out, a), b) in out.iter_mut().zip(&a[own.clone()]).zip(&b[own]) {
                *out = a + b;
            }
        });
        Ok((CpuStorage::F32(out), a_layout.shape().clone()))
    }
}
