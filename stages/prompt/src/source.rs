//! Where a pool comes from: a file, or a stage's table.

use fracture_stage::schema::Completeness;
use fracture_stage::{Error, Files, Inputs, ParameterError, PathPart, Schemas};
use fracture_table::Condition;

use crate::cue::nearest;
use crate::parameters::PoolSpec;
use crate::pool::{self, Pool};
use crate::read::{Encoding, Place, Table};

/// Of a pool, this much is read to plan: a header, or all of a small pool.
const HEAD: usize = 64 * 1024;

/// A pool as it is declared.
#[derive(Debug, Clone)]
pub struct Source {
    /// The axis of the rubric.
    pub axis: String,
    /// What the pipeline says of it.
    pub spec: PoolSpec,
    /// Where it comes from.
    pub from: From,
    /// `where`.
    condition: Option<Condition>,
}

/// Where a pool comes from.
#[derive(Debug, Clone)]
pub enum From {
    /// A file, relative to the project's root.
    File {
        /// Its path.
        path: String,
        /// How it is read.
        encoding: Encoding,
    },
    /// The port at which a stage's tables arrive.
    Stage(String),
}

impl Source {
    /// Checks a pool's parameters.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(axis: &str, spec: &PoolSpec) -> Result<Self, Vec<ParameterError>> {
        let at = |key: &str, message: String| ParameterError::at(&["pools", axis, key], message);
        let mut errors = Vec::new();
        let condition = match spec.filter.as_deref().map(Condition::read).transpose() {
            Ok(condition) => condition,
            Err(message) => {
                errors.push(at("where", message));
                None
            }
        };
        for (key, number) in [("limit", spec.limit), ("sample", spec.sample)] {
            if number == Some(0) {
                errors.push(at(key, format!("`{key}` must be at least 1")));
            }
        }
        let path = spec.path.clone().filter(|path| !path.is_empty());
        let from = match (path, &spec.stage) {
            (Some(_), Some(_)) => Err(at(
                "stage",
                "a pool comes from a file or from a stage, not from both".to_owned(),
            )),
            (None, Some(_)) if spec.format.is_some() => Err(at("format", "a stage's table has none".to_owned())),
            (None, Some(stage)) => Ok(From::Stage(stage.clone())),
            (None, None) => {
                let error = ParameterError::at(&["pools", axis], format!("the pool `{axis}` has no `path`"));
                Err(error.hint(format!("`{axis}: {{ path: FILE.jsonl }}`")))
            }
            (Some(path), None) => match Encoding::of(&path, spec.format) {
                Ok(encoding) => Ok(From::File { path, encoding }),
                Err(error) => Err(at("path", error.message).hint(error.hint.unwrap_or_default())),
            },
        };
        match from {
            Ok(from) if errors.is_empty() => Ok(Self {
                axis: axis.to_owned(),
                spec: spec.clone(),
                from,
                condition,
            }),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(error);
                Err(errors)
            }
        }
    }

    /// The port at which it arrives, if a stage gives it.
    pub fn port(&self) -> Option<&str> {
        match &self.from {
            From::Stage(port) => Some(port),
            From::File { .. } => None,
        }
    }

    /// Puts the pool and where it comes from before an error.
    fn blame(&self, error: Error) -> Error {
        let (place, own) = match &self.from {
            From::File { path, .. } => (path.clone(), "path"),
            From::Stage(port) => (format!("stage `{port}`"), "stage"),
        };
        // What is wrong with a file's content is shown at its path, unless a key beside it is to blame.
        let key = match error.parameter.first() {
            Some(PathPart::Key(key)) => key.clone(),
            _ => own.to_owned(),
        };
        let error = error.context(format!("pool `{}` ({place})", self.axis));
        error.parameter(&["pools", &self.axis, &key])
    }

    /// The pool that its rows make.
    ///
    /// # Errors
    /// As [`Pool::new`], with the pool and its place before it.
    pub fn pool(&self, table: Result<Table, Error>) -> Result<Pool, Error> {
        let made = table.and_then(|table| Pool::new(&self.axis, &self.spec, table));
        made.map_err(|error| self.blame(error))
    }

    /// What is known of its columns before it is read.
    ///
    /// # Errors
    /// What a header or a small file shows to be wrong.
    pub fn known(&self, inputs: &Schemas, files: &dyn Files) -> Result<Known, Error> {
        let (path, encoding) = match &self.from {
            From::File { path, encoding } => (files.locate(path), encoding),
            From::Stage(port) => return self.known_of_stage(port, inputs),
        };
        let size = files.size(&path).ok_or_else(|| self.missing(files))?;
        let head = files.head(&path, HEAD)?;
        // A condition is applied when the stage runs: which rows are left, and so what a column holds, is not known yet.
        if size <= head.len() as u64 && self.spec.filter.is_none() {
            return Ok(Known::Whole(self.pool(encoding.read(&head))?));
        }
        let Some(header) = encoding.names(&head, HEAD) else {
            return Ok(Known::Nothing);
        };
        let may_have_more = encoding.may_have_more() && size > head.len() as u64;
        self.known_columns(&header, may_have_more)
    }

    fn known_of_stage(&self, port: &str, inputs: &Schemas) -> Result<Known, Error> {
        let schemas = inputs.at(port);
        if schemas.is_empty() {
            let error = Error::pipeline(format!("`needs` does not name `{port}`"));
            return Err(self.blame(error.hint(format!("say `needs: {port}` beside `uses: prompt`"))));
        }
        let exact = schemas.iter().all(|schema| schema.completeness == Completeness::Exact);
        let mut names: Vec<String> = Vec::new();
        for name in schemas
            .iter()
            .flat_map(|schema| &schema.fields)
            .map(|field| &field.name)
        {
            if !names.contains(name) && pool::of_stage(&self.spec, name) {
                names.push(name.clone());
            }
        }
        self.known_columns(&names, !exact)
    }

    fn known_columns(&self, names: &[String], may_have_more: bool) -> Result<Known, Error> {
        let condition = self.condition.as_ref().filter(|_| !may_have_more);
        match pool::columns(&self.spec, names, condition) {
            Ok((names, clustered)) => Ok(Known::Columns {
                names,
                clustered,
                may_have_more,
            }),
            // Further down there may be more; the run will tell.
            Err(_) if may_have_more => Ok(Known::Nothing),
            Err(error) => Err(self.blame(error)),
        }
    }

    /// Its rows.
    ///
    /// # Errors
    /// When they can not be read.
    pub fn read(&self, inputs: &Inputs, files: &dyn Files) -> Result<Table, Error> {
        match &self.from {
            From::File { path, encoding } => {
                let bytes = std::fs::read(files.locate(path))
                    .map_err(|error| Error::input("the file can not be read").cause(error))?;
                encoding.read(&bytes)
            }
            From::Stage(port) => {
                let (names, rows) = fracture_table::cells(&inputs.tables(port))?;
                let kept: Vec<bool> = names.iter().map(|name| pool::of_stage(&self.spec, name)).collect();
                let numbered = rows.into_iter().zip(1..);
                Ok(Table {
                    names: only(names, &kept),
                    rows: numbered
                        .map(|(cells, row)| (Place::Row(row), only(cells, &kept)))
                        .collect(),
                })
            }
        }
    }

    /// The error of a file that is not there.
    pub fn missing(&self, files: &dyn Files) -> Error {
        let From::File { path, .. } = &self.from else {
            return self.blame(Error::internal("a stage's table is no file"));
        };
        let path = files.locate(path);
        let error = self.blame(Error::input("there is no such file"));
        let siblings = path.parent().and_then(|folder| files.list(folder));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match siblings {
            Some(siblings) if !siblings.is_empty() => error.hint(nearest(name, siblings.iter())),
            _ => error.hint("paths are relative to the project's root"),
        }
    }
}

/// What is known of a pool's columns before it is read.
pub enum Known {
    /// All of it: it is small.
    Whole(Pool),
    /// Its columns.
    Columns {
        /// Beside those of every pool.
        names: Vec<String>,
        /// Whether it says which items belong together.
        clustered: bool,
        /// Whether there may be others.
        may_have_more: bool,
    },
    /// The run will tell.
    Nothing,
}

/// The items whose place says so.
fn only<T>(items: Vec<T>, kept: &[bool]) -> Vec<T> {
    items
        .into_iter()
        .zip(kept)
        .filter(|(_, kept)| **kept)
        .map(|(item, _)| item)
        .collect()
}
