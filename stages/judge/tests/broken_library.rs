//! A library that can not be loaded. In a process of its own, since a library stays loaded once it is.
#![allow(clippy::unwrap_used)]

use fracture_judge::{Runtime, RuntimeOptions};

#[test]
fn a_file_that_is_no_library_gives_a_clean_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no library").unwrap();
    let options = RuntimeOptions {
        explicit: Some(file.path().to_path_buf()),
        ..RuntimeOptions::default()
    };
    let error = Runtime::load(&options, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind.name(), "environment");
    assert!(error.causes[0].contains(&file.path().display().to_string()), "{error}");
    assert!(error.hint.unwrap().contains("ORT_DYLIB_PATH"));
}
