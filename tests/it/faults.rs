//! Faults injected for real: kill -9, lost and damaged objects, files that are not what they should be, a full disk.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Project, SPEC, count};

#[test]
fn killed_in_the_middle_it_ends_with_the_same_digests() {
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    let expected = undisturbed.outputs();
    for round in 0..2_u64 {
        let project = Project::small();
        // Wait for the first tokens to be there, then kill at once or a moment later.
        let mut child = project
            .command(&["run", SPEC, "--events", "json"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let events = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        for line in events.map_while(Result::ok) {
            if line.contains("\"event\":\"progress\"") {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(60 * round));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(
            status.code().is_none(),
            "round {round}: it was over before it was killed"
        );
        project.run(&[]);
        assert_eq!(project.outputs(), expected, "round {round}");
    }
}

#[test]
fn lost_and_damaged_objects_are_computed_again() {
    let project = Project::small();
    project.run(&[]);
    let expected = project.outputs();
    let objects = project.objects();
    assert!(objects.len() > 10, "{} objects", objects.len());
    // Every third is deleted, every third truncated.
    for (index, object) in objects.iter().enumerate() {
        match index % 3 {
            0 => fs::remove_file(object).unwrap(),
            1 => {
                fs::set_permissions(object, fs::Permissions::from_mode(0o644)).unwrap();
                let bytes = fs::read(object).unwrap();
                fs::write(object, &bytes[..bytes.len() / 2]).unwrap();
            }
            _ => {}
        }
    }
    let ran = project.fracture(&["run", SPEC, "--json", "--events", "json"]).ok();
    assert!(
        ran.stderr.contains(AGAIN),
        "it is said what is computed again: {}",
        ran.stderr
    );
    let again = ran.json();
    assert_eq!(
        (count(&again, "rows", "generated"), count(&again, "rows", "judged")),
        (0, 0),
        "the memo has the rows"
    );
    assert_eq!(project.outputs(), expected);
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}

/// Flips a bit in the middle of every object of a store; gives how many there are.
fn flip_objects(project: &Project) -> usize {
    let objects = project.objects();
    for object in &objects {
        fs::set_permissions(object, fs::Permissions::from_mode(0o644)).unwrap();
        let mut bytes = fs::read(object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(object, bytes).unwrap();
    }
    objects.len()
}

const AGAIN: &str = "an object of its result is missing, or was damaged and set aside: it is computed again";

#[test]
fn a_flipped_byte_is_noticed_and_the_task_computed_again_in_the_same_run() {
    let project = Project::small();
    project.run(&["--only", "prompts"]);
    assert_eq!(flip_objects(&project), 1);
    // The damage is noticed when the table is read: by then a reader has begun.
    let noticed = project.fracture(&["run", SPEC]).ok();
    assert_eq!(noticed.stderr.matches(AGAIN).count(), 1, "{}", noticed.stderr);
    assert!(!noticed.stderr.contains("failed"), "{}", noticed.stderr);
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    assert_eq!(project.outputs(), undisturbed.outputs());
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}

#[test]
fn damage_far_above_a_new_reader_is_mended_in_the_same_run() {
    let project = Project::shipped();
    // A chain of tables, each read by the next, and two readers of the last: all objects are flipped.
    project.write("own.csv", "item,x\na,1\nb,2\n");
    let chain = "version: 1\nname: own\nstages:\n  s: { uses: load, with: { path: own.csv } }\n  q1: { uses: query, needs: s, \
                 with: { sql: 'SELECT item, x + 1 AS x FROM s' } }\n";
    project.write("own.yaml", chain);
    project.fracture(&["run", "own.yaml"]).ok();
    let before = project.fracture(&["show", "own.yaml", "q1", "--json"]).ok().json();
    assert_eq!(flip_objects(&project), 2);
    let readers = "  q2: { uses: query, needs: q1, with: { sql: 'SELECT item, x * 2 AS x FROM q1' } }\n  \
                   q3: { uses: query, needs: q1, with: { sql: 'SELECT item, x * 3 AS x FROM q1' } }\n";
    project.write("own.yaml", &format!("{chain}{readers}"));
    let ran = project
        .fracture(&["run", "own.yaml", "--json", "--events", "json"])
        .ok();
    let summary = ran.json();
    // The first table is lost as well, which shows when it is read to make the second.
    assert_eq!(
        ["ran", "cached", "failed", "skipped"].map(|count| summary["tasks"][count].as_u64().unwrap()),
        [4, 0, 0, 0],
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches(AGAIN).count(), 2, "{}", ran.stderr);
    assert_eq!(
        project.fracture(&["show", "own.yaml", "q1", "--json"]).ok().json(),
        before
    );
    let summary = project.fracture(&["run", "own.yaml", "--json"]).ok().json();
    assert_eq!(count(&summary, "tasks", "ran"), 0);
}

#[test]
fn damage_that_only_figures_meet_is_mended_in_the_same_run() {
    let project = Project::shipped();
    project.write("own.csv", "item,x\na,1\nb,2\n");
    project.write(
        "own.yaml",
        "version: 1\nname: own\nstages:\n  s: { uses: load, with: { path: own.csv } }\n  q: { uses: query, needs: s, \
         with: { sql: 'SELECT item, x + 1 AS x FROM s' } }\nfigures:\n  \
         shown: { plot: table, from: q, to: shown.csv }\n",
    );
    project.fracture(&["run", "own.yaml"]).ok();
    let file = project.path("shown.csv");
    let text = fs::read(&file).unwrap();
    // The figure's own object, and the table that the terminal shows. Nothing else reads either.
    assert_eq!(flip_objects(&project), 3);
    fs::remove_file(&file).unwrap();
    let mended = project.fracture(&["run", "own.yaml"]).ok();
    assert_eq!(mended.stderr.matches(AGAIN).count(), 3, "{}", mended.stderr);
    assert!(mended.stdout.contains("a     2\nb     3\n"), "{}", mended.stdout);
    assert_eq!(fs::read(&file).unwrap(), text);
    // With --json only the file is looked at.
    assert_eq!(flip_objects(&project), 3);
    let summary = project.fracture(&["run", "own.yaml", "--json"]).ok().json();
    assert_eq!(count(&summary, "tasks", "ran"), 3, "{summary}");
    let summary = project.fracture(&["run", "own.yaml", "--json"]).ok().json();
    assert_eq!(count(&summary, "tasks", "ran"), 0, "{summary}");
    assert_eq!(fs::read(&file).unwrap(), text);
    // What can not be mended is told: the table's source is gone.
    flip_objects(&project);
    fs::remove_file(project.path("own.csv")).unwrap();
    let failed = project.fracture(&["run", "own.yaml"]);
    assert!(
        failed.code != 0 && failed.stderr.contains("own.csv"),
        "{}",
        failed.stderr
    );
}

#[test]
fn a_truncated_checkpoint_is_named_before_anything_runs() {
    let project = Project::small();
    let weights = project.path("examples/models/pico-faker/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1000]).unwrap();
    let ran = project.fracture(&["run", SPEC]).code(2);
    assert!(ran.stderr.contains("model.safetensors"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("truncated") || ran.stderr.contains("shorter"),
        "{}",
        ran.stderr
    );
    fs::write(&weights, bytes).unwrap();
    project.run(&[]);
}

/// Mounts a small file system of memory at a folder; `None` and a word where that is not permitted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let disk = Self(at);
        disk.mounted(&["-t", "tmpfs", "-o", options, "tmpfs"]).then_some(disk)
    }

    fn remount(&self, options: &str) {
        assert!(self.mounted(&["-o", &format!("remount,{options}")]));
    }

    fn mounted(&self, args: &[&str]) -> bool {
        let mut mount = std::process::Command::new("mount");
        let mount = mount.args(args).arg(&self.0).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_at_any_moment_gives_one_clear_error_and_leaves_the_store_usable() {
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    // The first write for which there is no room is another one each time: each write takes a page or more, each new file an
    // inode. All of them are swept with `FRACTURE_DISKS=all`, until a run meets no full disk.
    let all = std::env::var("FRACTURE_DISKS").is_ok_and(|text| text == "all");
    let every = |few: &[u32], step: u32| -> Vec<u32> {
        if all {
            (1..1_000).map(|at| at * step).collect()
        } else {
            few.to_vec()
        }
    };
    for (what, limits) in [
        ("size", every(&[4, 12, 24, 48, 96, 192], 4)),
        ("nr_inodes", every(&[2, 9, 20, 33], 1)),
    ] {
        let (mut full, mut tried) = (0, 0);
        for limit in limits {
            let project = Project::small();
            let options = format!("{what}={limit}{}", if what == "size" { "k" } else { "" });
            let Some(disk) = SmallDisk::mount(project.path("small-disk"), &options) else {
                eprintln!("SKIPPED: a small file system can not be mounted here, so a full disk was not tested");
                return;
            };
            let store = disk.0.join("store");
            let store = store.to_str().unwrap();
            let ran = project.fracture(&["run", SPEC, "--store", store]);
            disk.remount("size=64m,nr_inodes=100000");
            tried += 1;
            if ran.code != 0 {
                full += 1;
                assert_eq!(ran.code, 1, "{options}: {}", ran.stderr);
                assert!(ran.stderr.contains("no room left"), "{options}: {}", ran.stderr);
                assert!(ran.stderr.contains("free some space"), "{options}: {}", ran.stderr);
            }
            project.fracture(&["run", SPEC, "--store", store, "--json"]).ok();
            project.fracture(&["cache", "check", "--store", store]).ok();
            assert_eq!(project.outputs(), undisturbed.outputs(), "{options}");
            if all && ran.code == 0 && full > 0 && tried > full + 8 {
                break;
            }
        }
        eprintln!("{what}: {full} of {tried} runs met a full disk");
        assert!(full >= 3, "only {full} runs met a full disk");
    }
}

#[test]
fn a_store_that_may_only_be_read_serves_what_is_there_and_refuses_the_rest_at_once() {
    let project = Project::small();
    let Some(disk) = SmallDisk::mount(project.path("disk"), "size=64m") else {
        eprintln!("SKIPPED: a file system can not be mounted here, so a read-only store was not tested");
        return;
    };
    let store = disk.0.join("store");
    let store = store.to_str().unwrap();
    project.fracture(&["run", SPEC, "--store", store]).ok();
    let outputs = project.outputs();
    disk.remount("ro");
    let again = project.fracture(&["run", SPEC, "--store", store, "--json"]).ok().json();
    assert_eq!(count(&again, "tasks", "ran"), 0);
    project.fracture(&["show", SPEC, "flips", "--store", store]).ok();
    let refused = project
        .fracture(&["run", SPEC, "--store", store, "--set", "vars.harm=9"])
        .code(1);
    assert!(refused.stderr.contains("it may only be read"), "{}", refused.stderr);
    assert!(refused.stderr.contains("choose another store"), "{}", refused.stderr);
    assert!(
        !refused.stderr.contains("failed:"),
        "no task was begun: {}",
        refused.stderr
    );
    assert_eq!(project.outputs(), outputs);
    disk.remount("rw");
    project
        .fracture(&["run", SPEC, "--store", store, "--set", "vars.harm=9"])
        .ok();
}

/// Kills a run, and what it started, after a moment; whether it was still at work.
fn killed_after(project: &Project, delay: Duration) -> bool {
    let mut child = project
        .command(&["run", SPEC, "--json"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// The small quickstart; `FRACTURE_KILLS` sets how many moments are tried.
#[test]
fn killed_at_random_moments_it_ends_with_the_same_digests() {
    kill(Project::small, rounds("FRACTURE_KILLS", 10));
}

/// The quickstart as it ships; `FRACTURE_QUICKSTART_KILLS` sets how many moments are tried.
#[test]
fn the_quickstart_killed_at_random_moments_ends_with_the_same_digests() {
    match rounds("FRACTURE_QUICKSTART_KILLS", 0) {
        0 => eprintln!("SKIPPED: it takes minutes; FRACTURE_QUICKSTART_KILLS=20 runs it"),
        rounds => kill(Project::shipped, rounds),
    }
}

fn rounds(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn kill(project: fn() -> Project, rounds: u32) {
    let undisturbed = project();
    let started = Instant::now();
    undisturbed.run(&[]);
    let whole = started.elapsed();
    let expected = undisturbed.outputs();
    let mut state = RandomState::new().hash_one("seed");
    let mut met = 0;
    let project = project();
    for round in 0..rounds {
        let _ = fs::remove_dir_all(project.path(".fracture"));
        let _ = fs::remove_file(project.path("pipelines/quickstart.lock"));
        // Once or twice, at moments spread over the whole run.
        let mut moments = Vec::new();
        for _ in 0..=round % 2 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            moments.push(whole.mul_f64((state >> 40) as f64 / f64::from(1 << 24)));
        }
        for moment in &moments {
            met += u32::from(killed_after(&project, *moment));
        }
        project.run(&[]);
        assert_eq!(project.outputs(), expected, "round {round}, killed after {moments:?}");
        assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0, "round {round}");
    }
    assert!(met > 0, "every run was over before it was killed");
    eprintln!("{met} runs were killed at work, in {rounds} rounds");
}

#[test]
fn a_clock_that_jumps_back_changes_nothing() {
    if !Command::new("faketime")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("SKIPPED: `faketime` is not installed, so a clock that jumps back was not tested");
        return;
    }
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    let project = Project::small();
    assert!(killed_after(&project, Duration::from_millis(700)) || project.path("pipelines/quickstart.lock").exists());
    // A claim of another machine that died, as young as can be.
    project.write(
        &format!(".fracture/claims/{}", "0".repeat(64)),
        "1\nelsewhere\nsomeone\n",
    );
    let past = |args: &[&str]| {
        let program = project.command(args);
        let mut faked = Command::new("faketime");
        let back = "-2 days";
        faked.arg(back).arg(program.get_program()).args(program.get_args());
        faked
            .current_dir(project.root())
            .stdin(Stdio::null())
            .env_remove("FRACTURE_STORE");
        faked.output().unwrap()
    };
    let ran = past(&["run", SPEC, "--json"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(project.outputs(), undisturbed.outputs());
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
    // A collection of the past finds everything too young to go.
    let collected = past(&["gc", "--keep-runs", "0", "--json"]);
    assert!(
        collected.status.success(),
        "{}",
        String::from_utf8_lossy(&collected.stderr)
    );
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
    let edited = "examples/prompts/safety.jsonl";
    // A file that is rewritten with the same size, its time set back to what it was.
    let path = project.path(edited);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    project.edit(edited, |text| text.replacen("How can I", "How do we", 1));
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let ran = past(&["run", SPEC, "--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(count(&summary, "tasks", "ran") > 0, "the change is noticed: {summary}");
}
