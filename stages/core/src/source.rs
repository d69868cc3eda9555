//! Which files of a model a stage reads, so that those of a hub can be fetched before the stage looks at them.

/// How a source on a hub begins: `hf://ORG/NAME@REVISION`.
pub const HUB: &str = "hf://";

/// The files of a model that a stage reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A language model: configuration, tokenizer, templates and safetensors, or the GGUF file that is named.
    Weights,
    /// An ONNX graph with its external data, configuration and tokenizer.
    Graph,
    /// What gives vectors: an ONNX graph where there is one, else a language model; and how its states are pooled.
    Vectors,
    /// A low-rank adapter.
    Adapter,
}

/// A model that a stage reads: where it comes from and what of it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelFiles {
    /// A folder or file of the project, or `hf://ORG/NAME@REVISION`.
    pub source: String,
    /// What of it is read.
    pub part: Part,
    /// The file that the user chose: a GGUF, or a variant of the graph.
    pub file: Option<String>,
}

impl ModelFiles {
    /// That part of a model.
    pub fn new(source: impl Into<String>, part: Part, file: Option<&str>) -> Self {
        Self {
            source: source.into(),
            part,
            file: file.map(str::to_owned),
        }
    }

    /// An adapter.
    pub fn adapter(source: &str) -> Self {
        Self::new(source, Part::Adapter, None)
    }

    /// Whether it lies on a hub.
    pub fn on_hub(&self) -> bool {
        self.source.starts_with(HUB)
    }
}

/// The name that a model without one under `models:` goes by: the last part of its folder, or its name on the hub, without
/// the revision.
pub fn last_part(source: &str) -> &str {
    let whole = match source.strip_prefix(HUB) {
        Some(rest) => rest.split('@').next().unwrap_or(rest),
        None => source,
    };
    let whole = whole.trim_end_matches('/');
    whole.rsplit('/').next().unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_goes_by_its_last_name() {
        for (source, name) in [
            ("examples/models/pico", "pico"),
            ("examples/models/pico/", "pico"),
            ("pico", "pico"),
            ("a@b/c@d", "c@d"),
            ("hf://org/pico", "pico"),
            ("hf://org/pico@refs/pr/5", "pico"),
        ] {
            assert_eq!(last_part(source), name, "{source}");
        }
    }
}
