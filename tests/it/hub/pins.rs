//! Which commit a branch means, and when that may change.

use super::{PIPELINE, World, example, pipeline};
use crate::project::count;
use crate::server::commit;

#[test]
fn a_branch_that_moves_matters_when_the_user_says_so() {
    let world = World::new();
    world.run(&[]);
    let (before, lock) = (world.lines("task\t"), world.lock());
    world.move_branch();
    world.server.seen();
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    assert_eq!((world.server.seen().len(), world.lock()), (0, lock));
    let plan = world.fracture(&["plan", PIPELINE, "--update"]).ok();
    let moved = "revision of `hf://org/pico-honest@main`: 000000010000 → 000000020000";
    assert!(
        plan.stdout.contains(moved) && plan.stdout.contains("to be fetched"),
        "{}",
        plan.stdout
    );
    assert!(
        plan.stderr.contains("`hf://org/refusal@main` is still at"),
        "{}",
        plan.stderr
    );
    let ran = world.fracture(&["run", PIPELINE, "--update"]).ok();
    assert!(
        ran.stderr.contains("`hf://org/pico-honest@main` moved"),
        "{}",
        ran.stderr
    );
    let after = world.lines("task\t");
    assert_ne!(after, before);
    assert!(
        world
            .lines("file\thf://org/pico-honest/")
            .iter()
            .all(|line| line.contains(&commit(2))),
        "{}",
        world.lock()
    );
    // Back at the old commit everything is there.
    world
        .server
        .push("org/pico-honest", "main", 1, example("models/pico-honest"));
    let back = world.fracture(&["run", PIPELINE, "--update", "--json"]).ok().json();
    assert_eq!(count(&back, "tasks", "ran"), 0, "{back}");
    assert_eq!(world.lines("task\t"), before);
}

#[test]
fn what_an_update_brought_is_told_file_by_file() {
    let world = World::new();
    world.run(&[]);
    world.move_branch();
    // The new commit is here, but no task ran with it.
    let other = world.fracture(&["run", PIPELINE, "--update", "--only", "prompts"]).ok();
    assert!(other.stderr.contains("moved"), "{}", other.stderr);
    world
        .fracture(&[
            "run",
            PIPELINE,
            "--update",
            "--only",
            "answers",
            "--set",
            "stages.answers.with.max_new_tokens=2",
        ])
        .ok();
    let why = world.fracture(&["why", PIPELINE, "answers", "--update"]).ok();
    for told in [
        "file `weights`: blake3 fd00a15832f2… → 56c17cf7728f…",
        "revision of `hf://org/pico-honest@main`",
    ] {
        assert!(why.stdout.contains(told), "no {told} in\n{}", why.stdout);
    }
}

#[test]
fn locked_means_that_no_pin_moves() {
    let world = World::new();
    let ran = world.fracture(&["run", PIPELINE, "--locked"]).code(3);
    assert!(
        ran.stderr.contains("does not pin") && ran.stderr.contains("hf://org/refusal@main"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.server.seen().len(), 0);
    world.run(&[]);
    world.fracture(&["run", PIPELINE, "--locked"]).ok();
    // The same commit by another name: nothing else differs.
    world
        .server
        .push("org/pico-honest", "v1", 1, example("models/pico-honest"));
    world
        .project
        .write(PIPELINE, &pipeline("hf://org/pico-honest@v1", "hf://org/refusal"));
    let ran = world.fracture(&["run", PIPELINE, "--locked"]).code(3);
    assert!(ran.stderr.contains("hf://org/pico-honest@v1"), "{}", ran.stderr);
    world.fracture(&["run", PIPELINE, "--locked", "--update"]).code(2);
}

#[test]
fn update_without_a_model_on_a_hub_says_so() {
    let world = World::new();
    world.project.write(
        PIPELINE,
        &pipeline("examples/models/pico-honest", "examples/judges/refusal"),
    );
    let ran = world.fracture(&["run", PIPELINE, "--update"]).ok();
    assert!(ran.stderr.contains("names no model on a hub"), "{}", ran.stderr);
}
