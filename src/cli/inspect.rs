//! `config`, `schema` and `doctor`.

use std::fmt::Write as _;

use fracture_hub::Settings;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::project::Project;
use super::{DoctorArgs, SpecArgs, print};
use crate::catalogue::catalogue;

/// Prints the resolved pipeline.
pub fn config(args: &SpecArgs, as_json: bool) -> Result<Exit, Failure> {
    let project = Project::compile(args)?;
    let resolved = &project.pipeline.resolved;
    let told = |error: String| fracture_stage::Error::internal("the resolved pipeline can not be printed").cause(error);
    let text = if as_json {
        let value = serde_json::to_string_pretty(resolved).map_err(|error| told(error.to_string()))?;
        format!("{value}\n")
    } else {
        serde_yaml::to_string(resolved).map_err(|error| told(error.to_string()))?
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Prints the JSON Schema of pipelines.
pub fn schema() -> Result<Exit, Failure> {
    let schema = fracture_language::json_schema(&catalogue());
    print(&format!(
        "{}\n",
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}

/// Checks what fracture needs from this machine.
pub fn doctor(args: &DoctorArgs, as_json: bool) -> Result<Exit, Failure> {
    let checks = [onnx_runtime(args.offline), cpu(), cache_folder(), hub(args.offline)];
    let good = checks.iter().all(|check| check["ok"].as_bool() == Some(true));
    let mut text = String::new();
    if as_json {
        text = format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(checks.to_vec())).unwrap_or_default()
        );
    } else {
        for check in &checks {
            let mark = if check["ok"].as_bool() == Some(true) {
                "ok  "
            } else {
                "FAIL"
            };
            let word = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
            let _ = writeln!(text, "{mark} {}: {}", word("check"), word("detail"));
            if !word("hint").is_empty() {
                let _ = writeln!(text, "     hint: {}", word("hint"));
            }
        }
    }
    print(&text)?;
    Ok(if good { Exit::Done } else { Exit::Failed })
}

fn onnx_runtime(offline: bool) -> Value {
    match fracture_judge::stage::check_runtime(offline) {
        Ok(detail) => json!({ "check": "onnxruntime", "ok": true, "detail": detail, "hint": null }),
        Err(error) => {
            let detail = std::iter::once(&error.message)
                .chain(&error.causes)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ");
            json!({ "check": "onnxruntime", "ok": false, "detail": detail, "hint": error.hint })
        }
    }
}

fn cpu() -> Value {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let detail = format!("{}, {cores} threads", crate::engine::publish::cpu_class());
    json!({ "check": "cpu", "ok": true, "detail": detail, "hint": null })
}

/// Where models come from, and what is known of who asks.
fn hub(offline: bool) -> Value {
    match Settings::from_env(&|name| std::env::var(name).ok(), offline) {
        Ok(settings) => {
            let cache = settings.cache.display();
            let there = if settings.cache.is_dir() {
                ""
            } else {
                " (not there yet)"
            };
            let online = match settings.offline {
                Some(offline) => format!("offline by {}", offline.name()),
                None => format!("asks {}", settings.endpoint.as_str().trim_end_matches('/')),
            };
            let token = match &settings.token_from {
                Some(from) => format!("token from {from}"),
                None => "no token".to_owned(),
            };
            let hint = settings
                .keeps_token_back()
                .then_some("the token is not sent over plain http; give HF_ENDPOINT as https://");
            json!({ "check": "hub", "ok": true, "detail": format!("{online}, cache {cache}{there}, {token}"), "hint": hint })
        }
        Err(error) => {
            let detail = std::iter::once(&error.message).chain(&error.causes).cloned();
            let detail = detail.collect::<Vec<_>>().join("; ");
            json!({ "check": "hub", "ok": false, "detail": detail, "hint": error.hint })
        }
    }
}

fn cache_folder() -> Value {
    let hint = "make it writable, or set XDG_CACHE_HOME to a folder that is";
    let (ok, detail) = match fracture_stage::user::user_cache() {
        None => (false, "neither XDG_CACHE_HOME nor a home folder is known".to_owned()),
        Some(folder) => {
            match std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder).map(drop)) {
                Ok(()) => (true, folder.display().to_string()),
                Err(error) => (false, format!("{}: {error}", folder.display())),
            }
        }
    };
    json!({ "check": "cache folder", "ok": ok, "detail": detail, "hint": (!ok).then_some(hint) })
}
