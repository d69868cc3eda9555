//! The token, damage in the cache, and what `doctor` says of a hub.

use std::fs;

use serde_json::Value;

use super::{PIPELINE, World};
use crate::project::{Ran, count};
use crate::server::{Fault, commit};

#[test]
fn the_token_is_in_nothing_that_is_written_or_said() {
    const TOKEN: &str = "hf_topsecret";
    let world = World::new();
    world.server.fault(Fault::Gated(TOKEN));
    let refused = world.fracture(&["run", PIPELINE]).code(2);
    for told in ["is gated", "accept the licence", "HF_TOKEN", "hub.yaml:3"] {
        assert!(refused.stderr.contains(told), "no {told} in\n{}", refused.stderr);
    }
    let mut command = world.command(&["run", PIPELINE, "--events", "json"]);
    command.env("HF_TOKEN", TOKEN).env("FRACTURE_LOG", "trace");
    let ran = Ran::new(&command.output().unwrap()).ok();
    assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN));
    let seen = world.server.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|one| one.server == "store").collect();
    assert!(
        !elsewhere.is_empty() && elsewhere.iter().all(|one| one.authorization.is_none()),
        "{elsewhere:?}"
    );
    for root in [world.project.root(), world.home.path()] {
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    assert!(
                        !bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()),
                        "{path:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn damage_in_the_cache_is_noticed() {
    let world = World::new();
    world.run(&[]);
    let snapshot = world
        .home
        .path()
        .join("hub/models--org--pico-honest/snapshots")
        .join(commit(1));
    let blob = fs::canonicalize(snapshot.join("model.safetensors")).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let ran = world.fracture(&["run", PIPELINE]).code(1);
    for told in ["hf://org/pico-honest/model.safetensors", "damaged", "blake3", "remove"] {
        assert!(ran.stderr.contains(told), "no {told} in\n{}", ran.stderr);
    }
    fs::write(&blob, &bytes[..end]).unwrap();
    assert_eq!(
        count(&world.run(&[]), "tasks", "ran"),
        0,
        "nothing needs it, and it counts as locked"
    );
    let set = world.run(&["--set", "stages.answers.with.max_new_tokens=3"]);
    assert!(count(&set, "rows", "generated") > 0, "{set}");
    assert_eq!(fs::read(&blob).unwrap().len(), end + 1);
}

#[test]
fn doctor_tells_of_the_hub() {
    let world = World::new();
    let checks = world.fracture(&["doctor", "--json", "--offline"]);
    let hub = |ran: &Ran| -> Value {
        let all = ran.json();
        all.as_array()
            .unwrap()
            .iter()
            .find(|check| check["check"] == "hub")
            .unwrap()
            .clone()
    };
    let told = hub(&checks)["detail"].as_str().unwrap().to_owned();
    assert!(
        told.contains("offline by --offline") && told.contains("no token"),
        "{told}"
    );
    let mut command = world.command(&["doctor", "--json"]);
    let checks = Ran::new(&command.env("HF_TOKEN", "hf_secret").output().unwrap());
    let told = hub(&checks)["detail"].as_str().unwrap().to_owned();
    assert!(
        told.contains(&world.server.endpoint) && told.contains("token from HF_TOKEN"),
        "{told}"
    );
    assert!(!checks.stdout.contains("hf_secret"));
    let mut command = world.command(&["doctor", "--json"]);
    let checks = Ran::new(&command.env("HF_ENDPOINT", "nowhere").output().unwrap());
    assert!(hub(&checks)["ok"] == false && hub(&checks)["hint"].is_string());
}
