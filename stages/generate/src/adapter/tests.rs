#![allow(clippy::unwrap_used)]
//! Adapters merged as `peft` merges them; see `tests/families/adapters.py`.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::engine::tests::oracles::{distance, families, rows};
use crate::{config::Config, decoder::Decoder, weights::Weights};
use serde_json::{Value, json};

fn decoder(base: &Path, adapter: Option<&Path>) -> Result<Decoder, Error> {
    let mut checkpoint = Checkpoint::open(base)?;
    if let Some(adapter) = adapter {
        checkpoint = checkpoint.with_adapter(adapter)?;
    }
    let config = Config::parse(&checkpoint.read("config")?.unwrap_or_default())?;
    let weights = Weights::open(&checkpoint, DType::F32, &Device::Cpu)?;
    Decoder::new(config, weights, &Device::Cpu)
}

#[test]
fn merged_models_compute_what_peft_merges() {
    let more = std::env::var_os("FRACTURE_ADAPTERS").map(PathBuf::from);
    let mut compared = 0;
    for root in [Some(families().join("adapters")), more].into_iter().flatten() {
        for folder in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
            let base = families().join(std::fs::read_to_string(folder.join("base")).unwrap().trim());
            let name = folder.file_name().unwrap().to_str().unwrap();
            let merged = decoder(&base, Some(&folder));
            if ["dora", "pissa"].contains(&name) {
                let error = merged.unwrap_err().to_string();
                assert!(error.contains("is not supported"), "{error}");
                continue;
            }
            let rows = rows(&folder);
            let far = distance(&merged.unwrap(), &rows);
            assert!(far < 5e-4, "{name}: {far}");
            assert!(
                distance(&decoder(&base, None).unwrap(), &rows) > 5e-3,
                "{name} changes nothing"
            );
            compared += 1;
        }
    }
    assert!(compared >= 3);
}

/// A copy of an adapter of the repository whose settings are changed.
fn changed(name: &str, changes: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = families().join("adapters").join(name);
    for (_, file) in FILES {
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join(FILES[0].1);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
    folder
}

#[test]
fn each_setting_counts() {
    let folder = |name: &str| families().join("adapters").join(name);
    let changes = [
        ("patterns", "mistral_windowed", json!({"lora_alpha": 13})),
        (
            "patterns",
            "mistral_windowed",
            json!({"alpha_pattern": {"down_proj": 5}}),
        ),
        ("patterns", "mistral_windowed", json!({"alpha_pattern": {}})),
        ("rank_stabilised", "phi3_fused", json!({"use_rslora": false})),
    ];
    for (name, base, changes) in changes {
        let decoder = decoder(&families().join(base), Some(changed(name, &changes).path())).unwrap();
        assert!(distance(&decoder, &rows(&folder(name))) > 5e-4, "{name} with {changes}");
    }
}

#[test]
fn what_cannot_be_merged_is_named() {
    let base = families().join("mistral_windowed");
    let refused = [
        (json!({"use_dora": true}), "use_dora"),
        (json!({"peft_type": "IA3"}), "IA3"),
        (json!({"init_lora_weights": "pissa"}), "init_lora_weights"),
        (json!({"lora_bias": true}), "lora_bias"),
        (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        (json!({"trainable_token_indices": [3]}), "trainable_token_indices"),
        (json!({"a_new_thing": 1}), "a_new_thing"),
        (json!({"alpha_pattern": {"(": 1}}), "alpha_pattern"),
        (json!({"rank_pattern": {"(": 1}}), "rank_pattern"),
        // Settings of another adapter than the tensors': whose is alpha?
        (json!({"r": 64}), "adapter_config.json says 64"),
        (
            json!({"rank_pattern": {}}),
            "have the rank 2, adapter_config.json says 4",
        ),
    ];
    for (changes, name) in refused {
        let folder = changed("patterns", &changes);
        let error = decoder(&base, Some(folder.path())).unwrap_err();
        assert!(format!("{error:?}").contains(name), "{changes}: {error:?}");
    }
}

#[test]
fn an_adapter_of_another_base_says_so() {
    let adapter = families().join("adapters/patterns");
    for other in ["phi3_fused", "gemma_scaled", "llama3_scaled_gqa"] {
        let error = decoder(&families().join(other), Some(&adapter)).unwrap_err();
        let shown = format!("{error:?}");
        assert!(
            shown.contains("does not fit the model") && shown.contains("mistral_windowed"),
            "{other}: {shown}"
        );
    }
    let missing = decoder(&families().join("phi3_fused"), Some(&families())).unwrap_err();
    assert!(
        missing.to_string().contains("adapter_config.json is missing"),
        "{missing}"
    );
    let broken = changed("patterns", &json!({}));
    let path = broken.path().join(FILES[1].1);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = decoder(&families().join("mistral_windowed"), Some(broken.path())).unwrap_err();
    assert!(format!("{error:?}").contains("truncated"), "{error:?}");
}
