//! Faults injected for real: kill -9, lost and damaged objects, files that are not what they should be, a full disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

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
    let mut objects = Vec::new();
    for folder in fs::read_dir(project.path(".fracture/objects")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            objects.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    objects.sort();
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
    let again = project.run(&[]);
    assert_eq!(
        (count(&again, "rows", "generated"), count(&again, "rows", "judged")),
        (0, 0),
        "the memo has the rows"
    );
    assert_eq!(project.outputs(), expected);
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}

#[test]
fn a_flipped_byte_is_noticed_and_the_task_computed_again() {
    let project = Project::small();
    project.run(&["--only", "prompts"]);
    let mut damaged = 0;
    for folder in fs::read_dir(project.path(".fracture/objects")).unwrap() {
        for object in fs::read_dir(folder.unwrap().path()).into_iter().flatten() {
            let object = object.unwrap().path();
            fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
            let mut bytes = fs::read(&object).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x20;
            fs::write(&object, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    // The damage is noticed when the table is read; the object is set aside, and the next run makes it again.
    let noticed = project.fracture(&["run", SPEC]);
    if noticed.code != 0 {
        assert!(noticed.stderr.contains("damaged"), "{}", noticed.stderr);
        project.run(&[]);
    }
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    assert_eq!(project.outputs(), undisturbed.outputs());
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

#[test]
fn a_full_disk_gives_one_clear_error_and_leaves_the_store_usable() {
    let project = Project::small();
    let small_disk = project.path("small-disk");
    fs::create_dir(&small_disk).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=96k", "tmpfs"])
        .arg(&small_disk)
        .stderr(Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a small file system can not be mounted here, so a full disk was not tested");
        return;
    }
    let store = small_disk.join("store");
    let store = store.to_str().unwrap();
    let ran = project.fracture(&["run", SPEC, "--store", store]);
    let room = std::process::Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(&small_disk)
        .status()
        .unwrap();
    let after = room
        .success()
        .then(|| project.fracture(&["run", SPEC, "--store", store, "--json"]));
    let _ = std::process::Command::new("umount").arg("-l").arg(&small_disk).status();
    let ran = ran.code(1);
    assert!(ran.stderr.contains("no room left"), "{}", ran.stderr);
    assert!(ran.stderr.contains("free some space"), "{}", ran.stderr);
    after.unwrap().ok();
    let undisturbed = Project::small();
    undisturbed.run(&[]);
    assert_eq!(project.outputs(), undisturbed.outputs());
}
