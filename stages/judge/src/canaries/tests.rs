#![allow(clippy::unwrap_used)]
use super::*;

struct Folder(PathBuf);

impl Files for Folder {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = std::fs::read(path).map_err(|e| Error::input("no file").cause(e))?;
        bytes.truncate(limit);
        Ok(bytes)
    }
    fn size(&self, _: &Path) -> Option<u64> {
        None
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
    fn memory(&self) -> Option<PathBuf> {
        Some(self.0.join("memory"))
    }
}

fn canaries(folder: &Folder, settings: &str) -> Canaries {
    let model = folder.0.join("model");
    if !model.exists() {
        std::fs::write(&model, "weights").unwrap();
    }
    let uses = [FileUse::present("model", model), FileUse::absent("other")];
    Canaries::new(
        vec!["one".to_owned().into(), "two".to_owned().into()],
        "judge",
        &uses,
        settings,
        folder,
    )
    .unwrap()
}

fn readings(second: f64) -> Vec<Readings> {
    vec![Ok(vec![0.5, 0.5]), Ok(vec![1.0 - second, second])]
}

#[test]
fn shipped_canaries_are_a_handful_of_texts() {
    assert!((4..20).contains(&Canaries::shipped().len()));
}

#[test]
fn a_canary_that_moved_is_named_with_what_it_moved_by() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder(home.path().to_owned());
    let here = [("onnxruntime".to_owned(), "1.31.1".to_owned())];
    let mut first = canaries(&folder, "");
    first.check(readings(0.8), &here).unwrap();
    first.check(readings(0.8005), &here).unwrap();
    let error = first.check(readings(0.79), &here).unwrap_err();
    assert!(error.message.contains("canary 2 (\"two\") moved by 0.0100"), "{error}");
    // The next run compares with the record.
    canaries(&folder, "").check(readings(0.8004), &here).unwrap();
    let there = [("onnxruntime".to_owned(), "1.40.0".to_owned())];
    let error = canaries(&folder, "").check(readings(0.7), &there).unwrap_err();
    assert!(
        error.to_string().contains("1.31.1") && error.to_string().contains("1.40.0"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("memory"));
    // Another setting or another file is another judge.
    canaries(&folder, "stride 4").check(readings(0.1), &here).unwrap();
    std::fs::write(folder.0.join("model"), "other weights").unwrap();
    canaries(&folder, "").check(readings(0.1), &here).unwrap();
}

#[test]
fn a_canary_that_has_no_score_any_more_is_drift() {
    let home = tempfile::tempdir().unwrap();
    let mut canaries = canaries(&Folder(home.path().to_owned()), "");
    canaries.check(readings(0.8), &[]).unwrap();
    let mut broken = readings(0.8);
    broken[0] = Err("NaN".to_owned());
    let error = canaries.check(broken, &[]).unwrap_err();
    assert!(
        error.to_string().contains("canary 1") && error.to_string().contains("NaN"),
        "{error}"
    );
}

#[test]
fn files_of_three_forms_are_read() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder(home.path().to_owned());
    for (name, text) in [
        ("a.txt", "one\n\ntwo\n"),
        ("a.json", r#"["one", "two"]"#),
        ("a.jsonl", "{\"text\": \"one\", \"p\": 1}\n{\"text\": \"two\"}\n"),
    ] {
        std::fs::write(home.path().join(name), text).unwrap();
        let read = Canaries::read(name, &folder).unwrap();
        assert!(
            read.iter().map(|canary| canary.text.as_str()).eq(["one", "two"]),
            "{name}"
        );
    }
    std::fs::write(home.path().join("b.txt"), "\n").unwrap();
    assert!(
        Canaries::read("b.txt", &folder)
            .unwrap_err()
            .to_string()
            .contains("no text")
    );
    assert!(Canaries::read("none.txt", &folder).is_err());
}

/// A served judge is compared by its verdicts: numbers may move as long as few verdicts change.
#[test]
fn verdicts_that_changed_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder(home.path().to_owned());
    let watched = |least: f64| canaries(&folder, "served").by_verdict(least);
    let said = |first: f64, second: f64| -> Vec<Readings> { vec![Ok(vec![first, 1.0]), Ok(vec![second, 1.0])] };
    let mut first = watched(0.99);
    // A canary that was not answered is no measure for later runs.
    first
        .check(vec![Ok(vec![0.1, 1.0]), Err("429".to_owned())], &[])
        .unwrap();
    let mut first = watched(0.99);
    first.check(said(0.1, 0.9), &[]).unwrap();
    assert!(first.found().unwrap().contains("2 verdicts, to be compared"));
    first.check(said(0.4, 0.6), &[]).unwrap();
    let mut second = watched(0.99);
    second.check(said(0.3, 0.7), &[]).unwrap();
    assert!(
        second.found().unwrap().starts_with("2 of 2 verdicts are the same"),
        "{:?}",
        second.found()
    );
    let error = watched(0.99).check(said(0.1, 0.2), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("canary 2 (\"two\") is safe now and unsafe when this judge ran first: 1 of 2"),
        "{error}"
    );
    // Too little of the probability is no verdict, and that is a change as well.
    let error = watched(0.99)
        .check(vec![Ok(vec![0.1, 0.3]), Ok(vec![0.9, 1.0])], &[])
        .unwrap_err();
    assert!(error.to_string().contains("no verdict now and safe"), "{error}");
    watched(0.5).check(said(0.1, 0.2), &[]).unwrap();
    // What failed now is not compared, unless all of it failed.
    watched(0.99)
        .check(vec![Err("429".to_owned()), Ok(vec![0.9, 1.0])], &[])
        .unwrap();
    let error = watched(0.99)
        .check(vec![Err("429".to_owned()), Err("429".to_owned())], &[])
        .unwrap_err();
    assert!(
        error.to_string().contains("can not be asked about its canaries: 429"),
        "{error}"
    );
}

/// A file may say what a text must score, by label; labels that the judge does not have are told.
#[test]
fn a_judge_that_does_not_score_what_its_file_says_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder(home.path().to_owned());
    let lines = "{\"text\": \"one\", \"p_bad\": 0.25, \"p_other\": 1}\n{\"text\": \"two\"}\n";
    std::fs::write(home.path().join("own.jsonl"), lines).unwrap();
    let read = Canaries::read("own.jsonl", &folder).unwrap();
    check_labels(&read, &["bad", "other"]).unwrap();
    let error = check_labels(&read, &["bad", "good"]).unwrap_err();
    assert!(
        error.message.contains("canary 1 (\"one\")") && error.message.contains("`other`"),
        "{error}"
    );
    assert_eq!(error.causes, ["its labels are bad, good"]);
    let canaries = Canaries::new(read, "judge", &[], "", &folder).unwrap();
    let scored = |p: f64| canaries.check_expected(|index, label| (index == 0 && label == "bad").then_some(p));
    scored(0.2505).unwrap();
    let error = scored(0.75).unwrap_err();
    assert!(error.message.contains("canary 1 (\"one\") is off by 0.5000"), "{error}");
    assert!(error.message.contains("0.2500 for `bad`") && error.hint.unwrap().contains("tokenizer"));
    std::fs::write(home.path().join("own.jsonl"), "{\"text\": \"one\", \"p_bad\": 2}\n").unwrap();
    let error = Canaries::read("own.jsonl", &folder).unwrap_err();
    assert!(error.to_string().contains("`p_bad` is 2"), "{error}");
}
