//! Where the files of a judge lie: the four layouts in which sequence classifiers are exported to ONNX.
//!
//! 1. flat: `config.json`, `tokenizer.json`, `model.onnx` side by side;
//! 2. everything inside `onnx/`;
//! 3. configuration and tokenizer at the root, the model and its variants in `onnx/`;
//! 4. one model file of another name (`model_optimized.onnx`) beside the configuration.
//!
//! Only directory entries and the header of the model file are read.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use fracture_stage::{Error, FileUse};

use crate::graph::GraphHeader;

/// The files of one judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder the pipeline names.
    pub folder: PathBuf,
    /// The ONNX file.
    pub model: PathBuf,
    /// The model's `config.json`.
    pub config: PathBuf,
    /// `tokenizer.json` of the HF fast tokenizers.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`, when there is one.
    pub tokenizer_config: Option<PathBuf>,
    /// External data: the location as the graph writes it, and where that is.
    pub data: Vec<(String, PathBuf)>,
    /// What the model file's header says.
    pub graph: GraphHeader,
}

impl Layout {
    /// Finds the files of the judge in `folder`. `file` names the model file inside the folder; without it `model.onnx` at
    /// the root wins, then `onnx/model.onnx`, then the only `.onnx` file there is. `folder` may also be the model file itself.
    ///
    /// # Errors
    /// When the folder, the model, its configuration, its tokenizer or its external data is missing; when several model files
    /// could be meant (the error lists them); when external data or `file` leads outside the folder.
    pub fn resolve(folder: &Path, file: Option<&str>) -> Result<Self, Error> {
        let (folder, file) = split(folder, file)?;
        if !folder.is_dir() {
            return Err(Error::input(format!("the judge {} is no folder", folder.display()))
                .hint("name the folder that holds config.json, tokenizer.json and model.onnx"));
        }
        let model = match file {
            Some(file) => explicit(&folder, &file)?,
            None => find_model(&folder)?,
        };
        let beside = model.parent().unwrap_or(&folder).to_path_buf();
        let places = if beside == folder {
            vec![beside.clone()]
        } else {
            // Of two configurations that of the root counts, as `transformers` reads it.
            vec![folder.clone(), beside.clone()]
        };
        let find = |name: &str| places.iter().map(|place| place.join(name)).find(|path| path.is_file());
        let config = find("config.json").ok_or_else(|| missing(&folder, "config.json", &places))?;
        let tokenizer = find("tokenizer.json").ok_or_else(|| missing_tokenizer(&folder, &places))?;
        let graph = GraphHeader::read(&model)?;
        let data = graph
            .external
            .iter()
            .map(|location| external(&model, &beside, location).map(|path| (location.clone(), path)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model,
            config,
            tokenizer,
            tokenizer_config: find("tokenizer_config.json"),
            data,
            graph,
            folder,
        })
    }

    /// The files that a raw row depends on, by role; roles hold no path of the machine.
    pub fn files(&self) -> Vec<FileUse> {
        let mut files = vec![
            FileUse::present("config.json", &self.config),
            FileUse::present("model.onnx", &self.model),
            FileUse::present("tokenizer.json", &self.tokenizer),
            FileUse {
                role: "tokenizer_config.json".to_owned(),
                path: self.tokenizer_config.clone(),
            },
        ];
        files.extend(
            self.data
                .iter()
                .map(|(location, path)| FileUse::present(format!("data/{location}"), path)),
        );
        files
    }
}

/// A path to the model file itself stands for its folder (above `onnx/`, when the configuration is there) and the file.
fn split(folder: &Path, file: Option<&str>) -> Result<(PathBuf, Option<String>), Error> {
    if file.is_some() || !folder.is_file() {
        return Ok((folder.to_path_buf(), file.map(str::to_owned)));
    }
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    if !name.ends_with(".onnx") {
        return Err(Error::input(format!(
            "the judge {} is neither a folder nor an .onnx file",
            folder.display()
        )));
    }
    let parent = folder.parent().unwrap_or(Path::new("")).to_path_buf();
    match parent.parent() {
        Some(above) if !parent.join("config.json").is_file() && above.join("config.json").is_file() => {
            let inner = parent.file_name().and_then(|part| part.to_str()).unwrap_or_default();
            Ok((above.to_path_buf(), Some(format!("{inner}/{name}"))))
        }
        _ => Ok((parent, Some(name))),
    }
}

fn explicit(folder: &Path, file: &str) -> Result<PathBuf, Error> {
    if !stays_inside(Path::new(file)) {
        return Err(Error::input(format!(
            "the model file `{file}` leads outside {}",
            folder.display()
        )));
    }
    let path = folder.join(file);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::input(format!("the judge {} has no file {file}", folder.display())).hint(hint_candidates(folder)))
}

fn hint_candidates(folder: &Path) -> String {
    let found = candidates(folder);
    match found.is_empty() {
        true => "there is no .onnx file in it; export the model with `optimum-cli export onnx`".to_owned(),
        false => format!("there are: {}", found.join(", ")),
    }
}

/// The `.onnx` files at the root and in `onnx/`, relative, sorted.
fn candidates(folder: &Path) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (prefix, place) in [("", folder.to_path_buf()), ("onnx/", folder.join("onnx"))] {
        let Ok(entries) = std::fs::read_dir(place) else {
            continue;
        };
        for entry in entries.flatten() {
            if let Some(name) = entry.file_name().to_str()
                && name.ends_with(".onnx")
                && entry.path().is_file()
            {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    found.into_iter().collect()
}

fn find_model(folder: &Path) -> Result<PathBuf, Error> {
    let found = candidates(folder);
    for usual in ["model.onnx", "onnx/model.onnx"] {
        if found.iter().any(|name| name == usual) {
            return Ok(folder.join(usual));
        }
    }
    match &found[..] {
        [only] => Ok(folder.join(only)),
        [] => Err(
            Error::input(format!("the judge {} has no .onnx file", folder.display()))
                .hint("export the model with `optimum-cli export onnx --task text-classification`"),
        ),
        several => Err(Error::input(format!(
            "the judge {} has several models and none is model.onnx",
            folder.display()
        ))
        .cause(format!("it could be any of {}", several.join(", ")))
        .hint(format!("choose one: file: {}", several[0]))),
    }
}

fn missing(folder: &Path, name: &str, places: &[PathBuf]) -> Error {
    let looked: Vec<_> = places
        .iter()
        .map(|place| place.join(name).display().to_string())
        .collect();
    Error::input(format!("the judge {} has no {name}", folder.display()))
        .cause(format!("looked for {}", looked.join(", ")))
}

fn missing_tokenizer(folder: &Path, places: &[PathBuf]) -> Error {
    missing(folder, "tokenizer.json", places).hint(
        "older exports hold vocab.txt or merges.txt alone; write tokenizer.json once in Python: \
         AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    )
}

/// Whether a relative path has no way up or out.
fn stays_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && !path.as_os_str().is_empty()
}

/// The file of an external-data `location`, which must lie in the folder of the model, links followed. A folder of the HF
/// cache (`snapshots/REVISION`) may link into its own `blobs`.
fn external(model: &Path, beside: &Path, location: &str) -> Result<PathBuf, Error> {
    let escape = || {
        Error::input(format!(
            "{} takes its weights from `{location}`, which leads outside its folder",
            model.display()
        ))
        .hint("copy the data beside the model and export it again")
    };
    if !stays_inside(Path::new(location)) || location.contains('\\') {
        return Err(escape());
    }
    let path = beside.join(location);
    let real = path.canonicalize().map_err(|e| {
        Error::input(format!(
            "{} needs the external data file {location}, which is missing",
            model.display()
        ))
        .cause(format!("{}: {e}", path.display()))
        .hint("download the file that belongs to the model into the same folder")
    })?;
    let home = beside
        .canonicalize()
        .map_err(|e| Error::input(format!("cannot read {}", beside.display())).cause(e))?;
    let blobs = home
        .ancestors()
        .find(|place| place.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = blobs.and_then(Path::parent).map(|repository| repository.join("blobs"));
    if real.starts_with(&home) || blobs.is_some_and(|blobs| real.starts_with(blobs)) {
        Ok(path)
    } else {
        Err(escape())
    }
}

#[cfg(test)]
mod tests;
