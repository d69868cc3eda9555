//! Every file under `valid/` compiles; every file under `invalid/` gives the words of its snapshot.

use crate::{compile_with, folder};

fn texts(kind: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder().join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files
        .iter()
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                std::fs::read(path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn valid_files_compile() {
    let files = texts("valid");
    assert!(!files.is_empty());
    for (name, text) in files {
        if let Err(wrong) = compile_with(&String::from_utf8(text).unwrap(), &[], &[]) {
            panic!("{name}:\n{wrong}");
        }
    }
}

#[test]
fn invalid_files_say_what_is_wrong() {
    let files = texts("invalid");
    assert!(files.len() >= 25, "only {} invalid files", files.len());
    for (name, text) in files {
        let text = String::from_utf8(text).unwrap();
        // The first line may ask for options: `# --profile quick --set vars.x=1`.
        let options: Vec<&str> = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# --"))
            .map(|line| line.split(" --").collect())
            .unwrap_or_default();
        let of = |what: &str| {
            options
                .iter()
                .filter_map(|one| one.trim_start_matches("--").strip_prefix(what))
                .map(str::trim)
                .collect::<Vec<_>>()
        };
        let Err(wrong) = compile_with(&text, &of("profile"), &of("set")) else {
            panic!("{name} compiles")
        };
        let places: Vec<String> = wrong
            .to_json()
            .iter()
            .map(|one| {
                let at = &one["error"]["at"];
                format!("{}:{}:{}", at["file"].as_str().unwrap_or("-"), at["line"], at["column"])
            })
            .collect();
        insta::with_settings!({ snapshot_path => "../invalid", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, format!("{}\n\n{}", wrong.render(false), places.join("\n")));
        });
    }
}
