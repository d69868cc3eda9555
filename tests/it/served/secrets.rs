//! Keys: they come in by the environment and are nowhere else.

use std::fs;
use std::path::Path;

use super::server::{Reply, Server, error, says};
use super::{KEY, SPEC, VARIABLE, project, run};
use crate::project::Ran;

#[test]
fn no_secret_is_anywhere() {
    let server = Server::start(|seen, number| {
        let key = seen.header("authorization").unwrap_or("no key").to_owned();
        match number {
            0 => error(500, "x", &format!("internal: {key}")),
            1 => error(400, "x", &format!("bad request of {key}")),
            _ => Reply::Json(200, says(seen, &format!("You are {key}."))),
        }
    });
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}, max_error_rate: 1"),
        "temperature: 0",
        4,
    );
    let cache = project.path("user-cache");
    let mut said = String::new();
    for args in [
        &["run", SPEC, "--events", "json"][..],
        &["run", SPEC, "--verbose"],
        &["show", SPEC, "answers"],
        &["runs"],
        &["why", SPEC, "answers"],
    ] {
        let ran = Ran::of(
            project
                .command(args)
                .env(VARIABLE, KEY)
                .env("FRACTURE_LOG", "trace")
                .env("XDG_CACHE_HOME", &cache),
        );
        said.push_str(&format!("{}{}", ran.stdout, ran.stderr));
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("authorization") == Some(&format!("Bearer {KEY}")))
    );
    assert!(said.contains("bad request of Bearer [key]"), "{said}");
    assert!(said.contains("You are Bearer [key]."));
    assert!(!said.contains(KEY), "{said}");
    let mut files = 0;
    holds_nowhere(project.root(), KEY.as_bytes(), &mut files);
    assert!(files > 8, "{files} files");
}

fn holds_nowhere(folder: &Path, key: &[u8], files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_nowhere(&path, key, files);
        } else {
            *files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(key.len()).any(|part| part == key), "{}", path.display());
        }
    }
}

#[test]
fn a_key_that_is_not_there_is_told_before_the_run_and_plans_go_without() {
    let server = Server::good();
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        1,
    );
    let ran = Ran::of(project.command(&["run", SPEC]).env_remove(VARIABLE)).code(1);
    assert!(
        ran.stderr
            .contains(&format!("the variable `{VARIABLE}` of the environment is not set")),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("prompts: "), "nothing ran: {}", ran.stderr);
    Ran::of(project.command(&["plan", SPEC]).env_remove(VARIABLE)).ok();
    let offline = run(&project, &["--offline"]).code(1);
    assert!(offline.stderr.contains("--offline asks nobody"), "{}", offline.stderr);
    assert_eq!(server.count(), 0);
    run(&project, &[]).ok();
    // What is there needs no key.
    Ran::of(project.command(&["run", SPEC]).env_remove(VARIABLE)).ok();
    assert_eq!(server.count(), 1);
}

#[test]
fn a_key_goes_to_no_other_machine_in_the_clear() {
    let project = project(
        "http://models.example.org/v1",
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        1,
    );
    let ran = run(&project, &[]).code(2);
    assert!(
        ran.stderr.contains("not sent over plain http to another machine"),
        "{}",
        ran.stderr
    );
    project.edit(SPEC, |text| {
        text.replace("http://models.example.org/v1", "${env.HOME}/v1")
    });
    let ran = run(&project, &[]).code(2);
    assert!(
        ran.stderr.contains("takes nothing from the environment"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_refused_key_says_what_to_look_at() {
    let server = Server::start(|_, _| error(401, "invalid_api_key", "Incorrect API key provided."));
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        30,
    );
    let ran = Ran::of(project.command(&["run", SPEC]).env(VARIABLE, KEY)).code(1);
    let told: String = ran
        .stderr
        .lines()
        .filter(|line| !line.contains(" in 0.") && !line.contains("; 0."))
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!(told.replace(&server.url(), "ADDRESS"));
    assert!(server.count() <= 8, "{}", server.count());
}
