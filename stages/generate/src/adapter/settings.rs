//! `adapter_config.json`: what an adapter is multiplied by, and whether it is of a kind that can be merged.

use fracture_stage::Error;
use serde_json::{Map, Value};
use tokenizers::utils::SysRegex;

/// Settings that change neither which tensors there are nor how they are merged: the tensors say the rest themselves.
/// `fan_in_fan_out` is of another type of layer than these models have; PEFT passes over it as well.
const HARMLESS: [&str; 27] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "alpha_pattern",
    "lora_alpha",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "loftq_config",
];
/// Ways of setting out that leave the base as it is.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What of the settings matters here.
#[derive(Debug)]
pub(super) struct Settings {
    /// The base that the adapter says it is for.
    pub base: Option<String>,
    /// Embedding and output projection stay one tensor when the embedding was trained.
    pub ties: bool,
    alpha: ByModule,
    rank: ByModule,
    stabilised: bool,
}

/// A number that is another one for modules whose names match.
#[derive(Debug)]
struct ByModule {
    usual: f64,
    own: Vec<(SysRegex, f64)>,
}

impl ByModule {
    /// The number under `name`, else `default`, and those under the patterns of `patterns`.
    fn read(map: &Map<String, Value>, name: &str, default: f64, patterns: &str) -> Result<Self, Error> {
        let usual = match map.get(name) {
            None | Some(Value::Null) => default,
            Some(value) => value.as_f64().ok_or_else(|| unsupported(name, value))?,
        };
        let mut own = Vec::new();
        for (pattern, value) in map.get(patterns).and_then(Value::as_object).into_iter().flatten() {
            // As PEFT matches: a whole name, or the end of one behind a dot.
            let regex = SysRegex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
                .map_err(|_| unsupported(patterns, &Value::from(pattern.as_str())))?;
            own.push((regex, value.as_f64().ok_or_else(|| unsupported(patterns, value))?));
        }
        Ok(Self { usual, own })
    }

    fn of(&self, module: &str) -> f64 {
        let own = self
            .own
            .iter()
            .find(|(regex, _)| regex.find_iter(module).next().is_some());
        own.map_or(self.usual, |(_, own)| *own)
    }
}

impl Settings {
    /// Reads the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// A text that is no object, or a setting that is not supported; named.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value: Value =
            serde_json::from_str(text).map_err(|cause| Error::input("adapter_config.json is not JSON").cause(cause))?;
        let map = value
            .as_object()
            .ok_or_else(|| Error::input("adapter_config.json does not hold an object"))?;
        refuse(map)?;
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        Ok(Self {
            base: map
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_owned),
            ties: flag("ensure_weight_tying"),
            alpha: ByModule::read(map, "lora_alpha", 8.0, "alpha_pattern")?,
            rank: ByModule::read(map, "r", 8.0, "rank_pattern")?,
            stabilised: flag("use_rslora"),
        })
    }

    /// What the product of a module's factors is multiplied by; `rank` is that of its factors.
    ///
    /// # Errors
    /// A number that is not finite, factors of another rank than the settings say.
    pub fn scale(&self, module: &str, rank: usize) -> Result<f64, Error> {
        let (alpha, told) = (self.alpha.of(module), self.rank.of(module));
        if told != rank as f64 {
            // So alpha may be another adapter's, too.
            return Err(Error::input(format!(
                "the factors of {module} have the rank {rank}, adapter_config.json says {told}: settings and tensors \
                 are not of one adapter"
            )));
        }
        let rank = match self.stabilised {
            true => libm::sqrt(rank as f64),
            false => rank as f64,
        };
        let scale = alpha / rank;
        match scale.is_finite() {
            true => Ok(scale),
            false => Err(Error::input(format!(
                "adapter_config.json: lora_alpha {alpha} of {module}"
            ))),
        }
    }
}

fn unsupported(name: &str, value: &Value) -> Error {
    let mut shown = value.to_string();
    if shown.len() > 80 {
        shown = "its value".to_owned();
    }
    Error::input(format!("adapter_config.json: {name}: {shown} is not supported"))
        .cause("merged without it, the model would compute something else than it was trained to")
        .hint("merge it with peft (`merge_and_unload`, `save_pretrained`) and give that folder as `source`")
}

/// Refuses what is no plain LoRA, and every setting that nobody reads here unless it is off.
fn refuse(map: &Map<String, Value>) -> Result<(), Error> {
    match map.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        other => {
            let named = Value::from(other.unwrap_or("nothing"));
            return Err(unsupported("peft_type", &named));
        }
    }
    match map.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => {}
        Some(Value::String(name)) if BEGINNINGS.contains(&&**name) => {}
        // These change the base too.
        Some(other) => return Err(unsupported("init_lora_weights", other)),
    }
    for (name, value) in map {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        if !off && !HARMLESS.contains(&&**name) {
            return Err(unsupported(name, value));
        }
    }
    Ok(())
}
