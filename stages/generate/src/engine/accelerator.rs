//! Where a model computes.

use candle_core::Device;
use fracture_stage::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a model computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor, by kernels whose bits do not depend on batch, threads or machine.
    #[default]
    Cpu,
    /// The first CUDA device, by candle's operations; needs a build with the feature `cuda`.
    Cuda,
    /// The first Metal device, by candle's operations; needs a build with the feature `metal`.
    Metal,
    /// The processor, by candle's operations as on a device, for comparison.
    CpuPlain,
}

impl Accelerator {
    /// Its name in a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::CpuPlain => "cpu-plain",
        }
    }

    /// Its name, when it is not the processor with its kernels.
    pub fn elsewhere(self) -> Option<&'static str> {
        (self != Self::Cpu).then(|| self.name())
    }

    /// What is missing of it in this build, if anything.
    pub fn lack(self) -> Option<String> {
        let there = match self {
            Self::Cpu | Self::CpuPlain => true,
            Self::Cuda => candle_core::utils::cuda_is_available(),
            Self::Metal => candle_core::utils::metal_is_available(),
        };
        let name = self.name();
        (!there).then(|| format!("this build computes on no {name} device: build it with `--features {name}`"))
    }

    /// The device.
    ///
    /// # Errors
    /// One that is not there, or not in this build.
    pub(crate) fn open(self) -> Result<Device, Error> {
        if let Some(lack) = self.lack() {
            return Err(Error::pipeline(lack));
        }
        let device = match self {
            Self::Cpu | Self::CpuPlain => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0),
            Self::Metal => Device::new_metal(0),
        };
        device.map_err(|cause| Error::task(format!("the {} device can not be used", self.name())).cause(cause))
    }
}
