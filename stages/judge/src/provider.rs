//! Where ONNX Runtime computes: the CPU, or an accelerator that the program was built for.

use fracture_stage::Error;
use ort::ep::{self, ExecutionProviderDispatch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Kernels on the processor: the same bits for a text in any company.
    #[default]
    Cpu,
    /// NVIDIA GPUs; cargo feature `cuda`.
    Cuda,
    /// Apple's accelerators; cargo feature `coreml`.
    CoreMl,
}

impl Provider {
    /// The value of the parameter `provider`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::CoreMl => "coreml",
        }
    }

    /// Refuses a provider that this program was built without.
    ///
    /// # Errors
    /// When its feature is off.
    pub fn check(self) -> Result<(), Error> {
        let built = match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::CoreMl => cfg!(feature = "coreml"),
        };
        if built {
            return Ok(());
        }
        let name = self.name();
        Err(
            Error::pipeline(format!("this program was built without the provider `{name}`")).hint(format!(
                "build it with `--features fracture-judge/{name}` and point ORT_DYLIB_PATH at a library that has it, or \
                 leave out `provider`"
            )),
        )
    }

    /// What a session is told. An accelerator that is not there is an error, never a silent fall back to the CPU.
    /// One that this program was built without has been refused ([`Provider::check`]).
    pub(crate) fn dispatch(self) -> ExecutionProviderDispatch {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => ep::CUDA::default().build().error_on_failure(),
            #[cfg(feature = "coreml")]
            Self::CoreMl => ep::CoreML::default().build().error_on_failure(),
            // With ONNX Runtime's own arena: its buffers go from batch to batch, where the C library would hold some back in
            // every thread after they were freed.
            _ => ep::CPU::default().with_arena_allocator(true).build(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_provider_that_is_not_built_in_is_refused() {
        assert!(Provider::Cpu.check().is_ok());
        if !cfg!(feature = "cuda") {
            let error = Provider::Cuda.check().unwrap_err();
            assert!(error.message.contains("`cuda`") && error.hint.unwrap().contains("fracture-judge/cuda"));
        }
    }
}
