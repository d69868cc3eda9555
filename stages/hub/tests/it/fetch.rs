//! What is fetched, what is asked for, and what the cache looks like afterwards.

use std::fs;
use std::path::Path;

use fracture_hub::{Found, Step};
use fracture_stage::Part;

use crate::server::{Fault, commit, folder};
use crate::{PICO, User, assert_pico, pico};

#[test]
fn a_model_is_fetched_once_and_only_what_is_needed() {
    let server = pico();
    let user = User::new(&server);
    assert!(matches!(user.find(PICO, Part::Weights, None), Found::Missing(missing) if missing.commit.is_none()));
    assert_eq!(server.seen().len(), 0, "looking asks nobody");
    let fetched = user.fetch(PICO, Part::Weights, None).unwrap();
    assert_eq!(fetched.commit, commit(1));
    assert_pico(&fetched);
    let seen = server.seen();
    assert!(
        seen.iter()
            .all(|one| !one.path.contains("pytorch_model") && !one.path.contains("README"))
    );
    // Neither again nor by looking is anything asked.
    assert_eq!(user.fetch(PICO, Part::Weights, None).unwrap(), fetched);
    assert_eq!(user.find(PICO, Part::Weights, None), Found::Here(fetched));
    assert_eq!(server.seen().len(), 0);
    let steps = user.steps.lock().unwrap();
    let last = steps
        .iter()
        .rfind(|step| matches!(step, Step::File { file, .. } if file == "model.safetensors"));
    assert!(
        matches!(
            last,
            Some(Step::File {
                done: 1_872_640,
                total: 1_872_640,
                ..
            })
        ),
        "{last:?}"
    );
}

#[test]
fn the_cache_is_the_one_of_python() {
    let server = pico();
    let user = User::new(&server);
    user.fetch("hf://org/pico@main", Part::Weights, None).unwrap();
    let root = user.repository();
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), commit(1));
    let link = fs::read_link(root.join("snapshots").join(commit(1)).join("model.safetensors")).unwrap();
    assert!(
        link.starts_with("../../blobs") && link.file_name().unwrap().len() == 64,
        "{link:?}"
    );
    let left: Vec<_> = fs::read_dir(root.join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().contains("incomplete")),
        "{left:?}"
    );
}

#[test]
fn what_python_fetched_is_used() {
    let server = pico();
    let user = User::new(&server);
    let fetched = user.fetch(PICO, Part::Weights, None).unwrap();
    // What Python leaves is the same without the list of files.
    fs::remove_dir_all(user.repository().join(".fracture")).unwrap();
    server.seen();
    let found = user.find(PICO, Part::Weights, None);
    assert!(matches!(&found, Found::Here(folder) if folder.path == fetched.path && !folder.listed));
    assert_eq!(server.seen().len(), 0);
    // A run asks once whether that is all, and then no more.
    assert_eq!(user.fetch(PICO, Part::Weights, None).unwrap(), fetched);
    assert_eq!(server.seen().len(), 1);
    user.fetch(PICO, Part::Weights, None).unwrap();
    assert_eq!(server.seen().len(), 0);
    // Without an answer, it is taken as it is, and that is told.
    fs::remove_dir_all(user.repository().join(".fracture")).unwrap();
    server.fault(Fault::Status(503, 9));
    assert!(!user.fetch(PICO, Part::Weights, None).unwrap().listed);
    assert!(user.notes().contains("as it lies in the cache"), "{}", user.notes());
    // A part of it is not enough.
    server.heal();
    fs::remove_file(fetched.path.join("tokenizer.json")).unwrap();
    assert!(matches!(user.find(PICO, Part::Weights, None), Found::Missing(_)));
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
}

#[test]
fn a_pin_holds_and_the_newest_commit_is_asked_for() {
    let server = pico();
    let user = User::new(&server);
    let old = user.fetch(PICO, Part::Weights, None).unwrap();
    let mut files = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-faker"));
    files.insert("chat_template.jinja".to_owned(), b"{{ messages }}".to_vec());
    server.push("org/pico", "main", 2, files);
    assert_eq!(
        user.fetch(PICO, Part::Weights, None).unwrap(),
        old,
        "nothing is missing, so nobody is asked"
    );
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    let watch = fracture_hub::unwatched(&cancelled);
    let reference = fracture_hub::Reference::parse(PICO).unwrap();
    assert_eq!(user.hub().newest(&reference, &watch).unwrap(), commit(2));
    server.seen();
    let new = user.fetch(PICO, Part::Weights, Some(&commit(2))).unwrap();
    assert!(new.path.join("chat_template.jinja").is_file());
    // What both commits have is not fetched twice.
    let seen = server.seen();
    assert!(seen.iter().all(|one| !one.path.contains("tokenizer.json")), "{seen:?}");
    assert_eq!(user.fetch(PICO, Part::Weights, Some(&commit(1))).unwrap(), old);
    // A pin of which nothing is here is fetched as it is pinned, and the revision means what it meant.
    let other = User::new(&server);
    let pinned = other.fetch(PICO, Part::Weights, Some(&commit(1))).unwrap();
    assert_pico(&pinned);
    assert!(!other.repository().join("refs/main").exists());
}

#[test]
fn branches_tags_and_commits_are_revisions() {
    let server = pico();
    let files = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-faker"));
    server.push("org/pico", "refs/pr/5", 5, files);
    let user = User::new(&server);
    let request = user.fetch("hf://org/pico@refs/pr/5", Part::Weights, None).unwrap();
    assert_eq!(request.commit, commit(5));
    assert_eq!(
        fs::read_to_string(user.repository().join("refs/refs/pr/5")).unwrap(),
        commit(5)
    );
    let source = format!("hf://org/pico@{}", commit(1));
    assert_pico(&user.fetch(&source, Part::Weights, None).unwrap());
    server.seen();
    user.fetch(&source, Part::Weights, None).unwrap();
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_cut_connection_is_resumed() {
    let server = pico();
    let user = User::new(&server);
    server.fault(Fault::Cut(700_000, 2));
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    let ranges: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|one| one.server == "store")
        .map(|one| one.range)
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=700000-".to_owned()),
            Some("bytes=1400000-".to_owned())
        ]
    );
}

#[test]
fn a_fetch_that_ended_is_resumed_by_the_next() {
    let server = pico();
    let user = User::new(&server);
    server.fault(Fault::Cut(700_000, 1));
    server.fault(Fault::Elsewhere("http://127.0.0.1:9/nobody".to_owned()));
    user.fetch(PICO, Part::Weights, None).unwrap_err();
    server.heal();
    server.fault(Fault::Cut(700_000, 1));
    // The part that another program left is begun with, if it is right.
    let blobs = user.repository().join("blobs");
    let all =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-honest/model.safetensors"))
            .unwrap();
    let etag = fracture_etag(&all);
    fs::write(blobs.join(format!("{etag}.incomplete")), &all[..500_000]).unwrap();
    assert!(
        matches!(user.find(PICO, Part::Weights, None), Found::Missing(_)),
        "a part is not visible"
    );
    server.seen();
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    let ranges: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|one| one.server == "store")
        .map(|one| one.range)
        .collect();
    assert_eq!(
        ranges,
        [Some("bytes=500000-".to_owned()), Some("bytes=1200000-".to_owned())]
    );
    assert!(!blobs.join(format!("{etag}.incomplete")).exists());
}

#[test]
fn a_part_that_is_wrong_is_noticed_and_fetched_again() {
    let server = pico();
    for left in [vec![7; 500_000], vec![7; 3_000_000], vec![7; 1_872_640]] {
        let user = User::new(&server);
        let blobs = user.repository().join("blobs");
        let all =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-honest/model.safetensors"))
                .unwrap();
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.incomplete", fracture_etag(&all))), &left).unwrap();
        assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    }
}

#[test]
fn a_server_without_ranges_gives_whole_files() {
    let server = pico();
    let user = User::new(&server);
    server.fault(Fault::Cut(700_000, 1));
    server.fault(Fault::NoRanges);
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
}

#[test]
fn damage_on_the_way_is_noticed() {
    let server = pico();
    let user = User::new(&server);
    server.fault(Fault::Flip(1));
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    assert!(user.notes().contains("arrived damaged"), "{}", user.notes());
    let other = User::new(&server);
    server.fault(Fault::Flip(2));
    let error = other.fetch(PICO, Part::Weights, None).unwrap_err();
    assert!(
        error.message.contains("arrives damaged") && error.to_string().contains("SHA-256"),
        "{error}"
    );
    assert!(
        matches!(other.find(PICO, Part::Weights, None), Found::Missing(_)),
        "damage is not visible"
    );
}

#[test]
fn damage_in_the_cache_is_noticed() {
    let server = pico();
    let user = User::new(&server);
    let fetched = user.fetch(PICO, Part::Weights, None).unwrap();
    let weights = fetched.path.join("model.safetensors");
    let blob = fs::canonicalize(&weights).unwrap();
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, &bytes[..1_000]).unwrap();
    match user.find(PICO, Part::Weights, None) {
        Found::Missing(missing) => {
            assert_eq!(missing.files, ["model.safetensors"]);
            assert_eq!(missing.damaged, ["model.safetensors (1000 of 1872640 bytes)"]);
        }
        Found::Here(_) => panic!("a truncated file was taken"),
    }
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    assert!(user.notes().contains("is damaged"), "{}", user.notes());
    // A link without its content is a file that is not there.
    fs::remove_file(&blob).unwrap();
    assert!(matches!(user.find(PICO, Part::Weights, None), Found::Missing(_)));
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
}

#[test]
fn a_hub_that_says_little_serves_too() {
    let server = pico();
    let user = User::new(&server);
    server.fault(Fault::Bare);
    let fetched = user.fetch(PICO, Part::Weights, None).unwrap();
    assert_pico(&fetched);
    // What was learned is kept: damage is noticed by size.
    let blob = fs::canonicalize(fetched.path.join("model.safetensors")).unwrap();
    fs::write(&blob, "short").unwrap();
    assert!(matches!(user.find(PICO, Part::Weights, None), Found::Missing(missing) if !missing.damaged.is_empty()));
}

#[test]
fn two_at_once_fetch_once() {
    let server = pico();
    let user = User::new(&server);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap()));
        }
    });
    let weights = server.seen().into_iter().filter(|one| one.server == "store").count();
    assert_eq!(weights, 1);
}

#[test]
fn a_user_who_interrupts_keeps_what_came() {
    let server = pico();
    let user = User::new(&server);
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    let tell = |step| {
        if matches!(&step, Step::File { file, .. } if file == "model.safetensors") {
            cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let watch = fracture_hub::Watch {
        cancelled: &cancelled,
        tell: &tell,
    };
    let reference = fracture_hub::Reference::parse(PICO).unwrap();
    let error = user
        .hub()
        .fetch(&reference, Part::Weights, None, None, &watch)
        .unwrap_err();
    assert_eq!(error.kind.name(), "interrupted");
    server.seen();
    assert_pico(&user.fetch(PICO, Part::Weights, None).unwrap());
    assert!(server.seen().iter().all(|one| !one.path.contains("/config.json")));
}

fn fracture_etag(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
