//! What the hub refuses, what is refused of the hub, and where the token goes.

use std::fs;
use std::time::{Duration, Instant};

use fracture_hub::Found;
use fracture_stage::{Error, Part};

use crate::server::{Fault, Server};
use crate::{PICO, User, assert_pico, pico};

const TOKEN: &str = "hf_abcdefgh";

#[track_caller]
fn refused(user: &User, source: &str) -> Error {
    let error = user.fetch(source, Part::Weights, None).unwrap_err();
    let told = format!("{error:?}");
    assert!(!told.contains(TOKEN) && !told.contains("s3cret"), "{told}");
    error
}

#[test]
fn the_token_goes_to_the_hub_and_no_further() {
    let server = pico();
    server.fault(Fault::Gated(TOKEN));
    let user = User::new(&server).with("HF_TOKEN", TOKEN);
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    let seen = server.seen();
    let (hub, store): (Vec<_>, Vec<_>) = seen.iter().partition(|one| one.server == "hub");
    assert!(!store.is_empty() && !hub.is_empty());
    let bearer = format!("Bearer {TOKEN}");
    assert!(
        hub.iter()
            .all(|one| one.authorization.as_deref() == Some(bearer.as_str())),
        "{hub:?}"
    );
    assert!(store.iter().all(|one| one.authorization.is_none()), "{store:?}");
    // It is nowhere in the cache.
    let mut open = vec![user.home.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => assert!(
                    !String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(TOKEN),
                    "{path:?}"
                ),
            }
        }
    }
}

#[test]
fn the_token_comes_from_its_file_too() {
    let server = pico();
    server.fault(Fault::Gated(TOKEN));
    let user = User::new(&server);
    fs::write(user.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
}

#[test]
fn a_gated_model_says_what_to_do() {
    let server = pico();
    server.fault(Fault::Gated(TOKEN));
    for user in [User::new(&server), User::new(&server).with("HF_TOKEN", "hf_other")] {
        let error = refused(&user, PICO);
        let hint = error.hint.unwrap();
        assert!(error.message.contains("gated"), "{}", error.message);
        assert!(
            hint.contains("licence") && hint.contains("HF_TOKEN") && hint.contains("/org/pico"),
            "{hint}"
        );
        assert_eq!(error.kind.name(), "input");
    }
}

#[test]
fn a_hub_that_repeats_the_token_is_told_without_it() {
    let server = pico();
    server.fault(Fault::Word(format!("{}{TOKEN}", "NoSuchThing".repeat(500))));
    let error = refused(&User::new(&server).with("HF_TOKEN", TOKEN), PICO);
    assert!(error.to_string().len() < 1000, "{error}");
    server.heal();
    server.fault(Fault::Word(format!("No-{TOKEN}")));
    let error = refused(&User::new(&server).with("HF_TOKEN", TOKEN), PICO);
    assert!(error.to_string().contains("(No-…)"), "{error}");
}

#[test]
fn what_is_not_there_is_told_apart() {
    let server = pico();
    let user = User::new(&server);
    let revision = refused(&user, "hf://org/pico@v9");
    assert!(revision.message.contains("no revision `v9`"), "{revision}");
    let model = refused(&user, "hf://org/other");
    assert!(model.message.contains("no model `org/other`"), "{model}");
}

#[test]
fn what_passes_is_tried_again() {
    let server = pico();
    for status in [429, 500, 503] {
        let user = User::new(&server);
        server.fault(Fault::Status(status, 3));
        assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    }
    server.fault(Fault::Status(429, 100));
    let error = refused(&User::new(&server), PICO);
    assert!(error.message.contains("refuses more requests"), "{error}");
    server.heal();
    server.fault(Fault::Status(500, 100));
    let error = refused(&User::new(&server), PICO);
    assert!(
        error.to_string().contains("500") && error.kind.name() == "environment",
        "{error}"
    );
    assert_eq!(
        server.seen().iter().filter(|one| one.path.contains("/api/")).count(),
        3 * 4 + 2 * 5
    );
}

#[test]
fn a_hub_says_how_long_to_wait() {
    let server = pico();
    let mut user = User::new(&server);
    user.pace = Duration::from_secs(20);
    for wait in ["0", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"] {
        server.fault(Fault::Wait(wait));
    }
    let asked = Instant::now();
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
fn nobody_there_is_told() {
    let server = pico();
    let user = User::new(&server).with("HF_ENDPOINT", "http://127.0.0.1:9");
    let error = refused(&user, PICO);
    assert!(error.message.contains("http://127.0.0.1:9") && error.hint.unwrap().contains("HF_ENDPOINT"));
}

#[test]
fn offline_asks_nobody() {
    let server = pico();
    let user = User::new(&server);
    user.fetch(PICO, Part::Weights, None).unwrap();
    let user = user.with("HF_HUB_OFFLINE", "1");
    server.seen();
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    fs::remove_file(
        user.repository()
            .join("snapshots")
            .join(crate::server::commit(1))
            .join("tokenizer.json"),
    )
    .unwrap();
    let error = refused(&user, PICO);
    assert!(
        error.message.contains("HF_HUB_OFFLINE") && error.to_string().contains("tokenizer.json"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn names_that_lead_outside_are_never_followed() {
    let server = pico();
    server.fault(Fault::Names(vec![
        "../../../../evil.json".to_owned(),
        "/tmp/evil.onnx".to_owned(),
        "onnx/../../evil.onnx".to_owned(),
    ]));
    let user = User::new(&server);
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    let error = user
        .fetch_file(PICO, Part::Graph, Some("../../evil.onnx"), None)
        .unwrap_err();
    assert!(error.message.contains("no file `../../evil.onnx`"), "{error}");
    let error = user.fetch(PICO, Part::Graph, None).unwrap_err();
    assert!(
        error.message.contains("no an .onnx file") || error.message.contains(".onnx"),
        "{error}"
    );
}

#[test]
fn names_of_contents_that_lead_outside_are_not_used() {
    let server = pico();
    server.fault(Fault::Etag("../../../evil".to_owned()));
    let user = User::new(&server);
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    assert!(!user.home.path().join("evil").exists());
    assert!(!user.home.path().parent().unwrap().join("evil").exists());
}

#[test]
fn the_file_of_another_commit_is_refused() {
    let server = pico();
    server.fault(Fault::OtherCommit);
    let error = refused(&User::new(&server), PICO);
    assert!(error.to_string().contains("another commit"), "{error}");
}

#[test]
fn a_redirect_without_end_ends() {
    let server = pico();
    let around = format!("{}/org/pico/resolve/main/model.safetensors", server.endpoint);
    server.fault(Fault::Elsewhere(around));
    let error = refused(&User::new(&server), PICO);
    assert!(error.to_string().contains("more than"), "{error}");
}

#[test]
fn a_list_without_end_is_refused() {
    let server = Server::start();
    let mut files = std::collections::BTreeMap::new();
    files.insert("config.json".to_owned(), b"{}".to_vec());
    server.push("org/pico", "main", 1, files);
    server.fault(Fault::Names((0..100_001).map(|number| format!("{number}")).collect()));
    let user = User::new(&server);
    let error = refused(&user, PICO);
    assert!(error.to_string().contains("100002 files"), "{error}");
    assert!(matches!(user.find(PICO, Part::Weights, None), Found::Missing(_)));
}
