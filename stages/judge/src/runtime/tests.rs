#![allow(clippy::unwrap_used)]
use super::*;

fn tried(options: &RuntimeOptions) -> Error {
    Runtime::resolve(options, &mut |_| {}).unwrap_err()
}

#[test]
fn without_any_place_the_error_lists_what_was_tried() {
    let empty = tempfile::tempdir().unwrap();
    let cache = empty.path().join("cache");
    let options = RuntimeOptions {
        system: vec![empty.path().into()],
        cache: Some(cache.clone()),
        ..RuntimeOptions::default()
    };
    let error = tried(&options);
    assert_eq!(error.kind, ErrorKind::Environment);
    let causes = error.causes.join("\n");
    assert!(
        causes.contains(&empty.path().display().to_string()) && causes.contains("--offline"),
        "{causes}"
    );
    assert!(error.hint.unwrap().contains("ORT_DYLIB_PATH"));
    assert!(!cache.exists(), "offline touches nothing");
}

#[test]
fn an_explicit_path_must_exist_and_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so.1.30.2");
    let mut options = RuntimeOptions {
        explicit: Some(path.clone()),
        ..RuntimeOptions::default()
    };
    assert!(tried(&options).message.contains("which is no file"));
    std::fs::write(&path, "").unwrap();
    options.system = vec![folder.path().into()];
    let found = Runtime::resolve(&options, &mut |_| {}).unwrap();
    assert_eq!(
        (found.origin, found.version.as_deref()),
        (Origin::Explicit, Some("1.30.2"))
    );
    options.explicit = None;
    assert_eq!(Runtime::resolve(&options, &mut |_| {}).unwrap().origin, Origin::System);
}

#[test]
fn an_installed_library_that_is_too_old_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libonnxruntime.so.1.23.0"), "").unwrap();
    let options = RuntimeOptions {
        system: vec![folder.path().into()],
        ..RuntimeOptions::default()
    };
    assert!(tried(&options).causes[0].contains("older than 1.24"));
    std::fs::write(folder.path().join("libonnxruntime.so.1.25.0"), "").unwrap();
    assert_eq!(
        Runtime::resolve(&options, &mut |_| {}).unwrap().version.as_deref(),
        Some("1.25.0")
    );
}

#[test]
fn a_damaged_library_in_the_cache_is_noticed() {
    let Some(package) = Package::for_this_platform() else {
        return;
    };
    let cache = tempfile::tempdir().unwrap();
    assert!(package.cached(cache.path()).unwrap_err().starts_with("no "));
    let real = RuntimeOptions::from_env(true).cache.unwrap();
    let name = package.cached(&real).map_or_else(
        |_| "libonnxruntime.so.1.31.1".into(),
        |p| p.file_name().unwrap().to_owned(),
    );
    let place = cache.path().join(format!(
        "{}-{}-{}",
        package.version(),
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(name), "cut").unwrap();
    assert!(
        package
            .cached(cache.path())
            .unwrap_err()
            .contains("has 3 bytes instead of")
    );
}

#[test]
fn the_library_loads_once_and_knows_its_version() {
    let first = crate::testing::runtime();
    assert!(minor(first.version()).unwrap() >= OLDEST_MINOR, "{first:?}");
    let nowhere = RuntimeOptions::default();
    assert_eq!(
        Runtime::load(&nowhere, &mut |_| {}).unwrap().resolved(),
        first.resolved()
    );
}
