//! `prompt` as a stage: its declaration, its files, its schema, its key and its work.

use std::collections::BTreeSet;

use fracture_stage::schema::Completeness;
use fracture_stage::{
    Context, Declaration, Error, Field, FileUse, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError,
    PathPart, Port, Product, Role, Schema, Schemas, Shape, Stage, Whole, Work, parse_parameters,
};
use serde_json::{Value, json};

use crate::cue::nearest;
use crate::parameters::{Parameters, PoolSpec};
use crate::pool::{self, Pool};
use crate::read::Encoding;
use crate::regime::Regime;
use crate::rows::{self, COLUMNS, Surroundings};

/// Of a pool, this much is read to plan: a header, or all of a small pool.
const HEAD: usize = 64 * 1024;

const KIND: Kind = Kind {
    name: "prompt",
    version: 1,
};

/// How the kind declares itself.
pub fn declaration() -> Declaration {
    Declaration {
        name: KIND.name,
        version: KIND.version,
        summary: "Builds prompts: every item of every pool under every regime.",
        shape: Shape::Source,
        ports: &[],
        any_ports: false,
        side: &[],
        cases: false,
        parameters: || schemars::schema_for!(Parameters).to_value(),
        build: |with, context| Ok(Box::new(Prompt::new(with, context)?)),
    }
}

/// A resolved `prompt` task.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Sorted by axis.
    pools: Vec<Source>,
    /// Sorted by name.
    regimes: Vec<Regime>,
    around: Surroundings,
}

/// Where a pool comes from.
#[derive(Debug, Clone)]
struct Source {
    axis: String,
    path: String,
    spec: PoolSpec,
    encoding: Encoding,
}

impl Source {
    fn new(axis: &str, spec: &PoolSpec) -> Result<Self, Vec<ParameterError>> {
        let at = |key: &str, message: String| ParameterError::at(&["pools", axis, key], message);
        let mut errors = Vec::new();
        if spec.stage.is_some() {
            let error = at("stage", "a pool from a stage is not in this version".to_owned());
            errors.push(error.hint("export the stage's table to a file and name it by `path`"));
        }
        if spec.filter.is_some() {
            let error = at("where", "`where` is not in this version for pools".to_owned());
            errors.push(error.hint("filter the file, or take a part of it by `limit` or `sample`"));
        }
        for (key, number) in [("limit", spec.limit), ("sample", spec.sample)] {
            if number == Some(0) {
                errors.push(at(key, format!("`{key}` must be at least 1")));
            }
        }
        let path = spec.path.clone().filter(|path| !path.is_empty());
        if path.is_none() && spec.stage.is_none() {
            let error = ParameterError::at(&["pools", axis], format!("the pool `{axis}` has no `path`"));
            errors.push(error.hint(format!("`{axis}: {{ path: FILE.jsonl }}`")));
        }
        let path = path.unwrap_or_default();
        let encoding = Encoding::of(&path, spec.format);
        if let (Err(error), false) = (&encoding, path.is_empty()) {
            errors.push(at("path", error.message.clone()).hint(error.hint.clone().unwrap_or_default()));
        }
        match encoding {
            Ok(encoding) if errors.is_empty() => Ok(Self {
                axis: axis.to_owned(),
                path,
                spec: spec.clone(),
                encoding,
            }),
            _ => Err(errors),
        }
    }

    /// Puts the pool and its file before an error.
    fn blame(&self, error: Error) -> Error {
        // What is wrong with a file's content is shown at its path, unless a key beside it is to blame.
        let key = match error.parameter.first() {
            Some(PathPart::Key(key)) => key.clone(),
            _ => "path".to_owned(),
        };
        let error = error.context(format!("pool `{}` ({})", self.axis, self.path));
        error.parameter(&["pools", &self.axis, &key])
    }

    fn pool(&self, bytes: &[u8]) -> Result<Pool, Error> {
        let table = self.encoding.read(bytes).map_err(|error| self.blame(error))?;
        Pool::new(&self.axis, &self.spec, table).map_err(|error| self.blame(error))
    }

    fn missing(&self, files: &dyn Files) -> Error {
        let path = files.locate(&self.path);
        let error = self.blame(Error::input("there is no such file"));
        let siblings = path.parent().and_then(|folder| files.list(folder));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match siblings {
            Some(siblings) if !siblings.is_empty() => error.hint(nearest(name, siblings.iter())),
            _ => error.hint("paths are relative to the project's root"),
        }
    }
}

impl Prompt {
    /// Builds a task from `with:`.
    ///
    /// # Errors
    /// Everything that is wrong with the parameters.
    pub fn new(with: &Value, context: &Context) -> Result<Self, Vec<ParameterError>> {
        let parameters: Parameters = parse_parameters(with)?;
        let mut errors = Vec::new();
        for (key, empty) in [
            ("pools", parameters.pools.is_empty()),
            ("regimes", parameters.regimes.is_empty()),
        ] {
            if empty {
                errors.push(ParameterError::at(
                    &[key],
                    format!("`{key}` is empty: at least one is needed"),
                ));
            }
        }
        let mut keep = |error: Vec<ParameterError>| errors.extend(error);
        let pools = parameters
            .pools
            .iter()
            .filter_map(|(axis, spec)| Source::new(axis, spec).map_err(&mut keep).ok());
        let pools = pools.collect();
        let regimes = parameters.regimes.iter();
        let regimes = regimes
            .filter_map(|(name, spec)| Regime::new(name, spec).map_err(&mut keep).ok())
            .collect();
        let around = Surroundings {
            vars: context.vars.clone(),
            matrix: context.matrix.clone(),
        };
        if errors.is_empty() {
            Ok(Self { pools, regimes, around })
        } else {
            Err(errors)
        }
    }

    /// The variables that templates name, with their values: `vars.harm`, or all of `vars` where one is chosen by name.
    fn variables(&self) -> Vec<(String, Value)> {
        let names: BTreeSet<&str> = self.regimes.iter().flat_map(Regime::names).collect();
        let mut found = Vec::new();
        for (root, values) in [("vars", &*self.around.vars), ("matrix", &self.around.matrix)] {
            let of_root =
                |name: &str| name == root || name.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'));
            for name in names.iter().filter(|name| of_root(name)) {
                // Below the variable, fields are part of its value.
                let variable = name.split('.').nth(1);
                let value = match variable {
                    Some(variable) => values.get(variable).cloned().unwrap_or(Value::Null),
                    None => Value::Object(values.clone()),
                };
                found.push((
                    variable.map_or_else(|| root.to_owned(), |variable| format!("{root}.{variable}")),
                    value,
                ));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        found
    }
}

impl Stage for Prompt {
    fn kind(&self) -> Kind {
        KIND
    }

    fn ports(&self) -> Vec<Port> {
        Vec::new()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let file = |source: &Source| {
            let path = files.locate(&source.path);
            files.size(&path).ok_or_else(|| source.missing(files))?;
            Ok(FileUse::present(format!("pool {}", source.axis), path))
        };
        self.pools.iter().map(file).collect()
    }

    fn schema(&self, _inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let mut whole = Vec::new();
        let mut names = BTreeSet::new();
        let (mut clustered, mut exact) = (false, true);
        for source in &self.pools {
            let path = files.locate(&source.path);
            let size = files.size(&path).ok_or_else(|| source.missing(files))?;
            let head = files.head(&path, HEAD)?;
            if size <= head.len() as u64 {
                whole.push(source.pool(&head)?);
                continue;
            }
            let Some(header) = source.encoding.names(&head, HEAD) else {
                exact = false;
                continue;
            };
            let (columns, has_cluster) = match pool::columns(&source.spec, &header) {
                Ok(found) => found,
                // Further down there may be more keys; the run will tell.
                Err(_) if source.encoding.may_have_more() => (Vec::new(), false),
                Err(error) => return Err(source.blame(error)),
            };
            exact &= !source.encoding.may_have_more();
            names.extend(columns);
            clustered |= has_cluster;
        }
        rows::probe(&whole, &self.regimes, &self.around)?;
        let known = whole.len() == self.pools.len();
        let mut others = rows::other_fields(&whole);
        clustered |= others.pop_if(|field| field.name == "cluster").is_some();
        if !known {
            // Another pool's cells may turn a column of numbers into text.
            names.extend(others.into_iter().map(|field| field.name));
            others = names.into_iter().map(|name| Field { name, kind: None }).collect();
        }
        let mut schema = Schema::exact(COLUMNS);
        schema.fields.extend(others);
        schema.fields.extend(clustered.then(|| Field {
            name: "cluster".to_owned(),
            kind: Some(fracture_cache::ColumnType::Text),
        }));
        if !exact {
            schema.completeness = Completeness::AtLeast;
        }
        Ok(Outputs::only(schema))
    }

    fn values(&self, column: &str) -> Option<Vec<String>> {
        match column {
            "regime" => Some(self.regimes.iter().map(|regime| regime.name.clone()).collect()),
            "axis" => Some(self.pools.iter().map(|pool| pool.axis.clone()).collect()),
            _ => None,
        }
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        for Source {
            axis, spec, encoding, ..
        } in &self.pools
        {
            let mut part = json!({"format": encoding.format.name(), "gzip": encoding.gzip});
            if let (Value::Object(part), Ok(Value::Object(spec))) = (&mut part, serde_json::to_value(spec)) {
                // The path is in the key by content.
                part.extend(spec.into_iter().filter(|(name, _)| name != "path" && name != "format"));
            }
            manifest.part(Role::Parameter, &format!("pool {axis}"), &part);
        }
        for regime in &self.regimes {
            manifest.part(
                Role::Parameter,
                &format!("regime {}", regime.name),
                &regime.description(),
            );
        }
        for (name, value) in self.variables() {
            manifest.part(Role::Parameter, &name, &value);
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for Prompt {
    fn run(&self, _inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let mut pools = Vec::with_capacity(self.pools.len());
        for source in &self.pools {
            open.check()?;
            let bytes = std::fs::read(open.files.locate(&source.path))
                .map_err(|error| source.blame(Error::input("the file can not be read").cause(error)))?;
            pools.push(source.pool(&bytes)?);
        }
        let (batch, mut notes) = rows::table(&pools, &self.regimes, &self.around)?;
        let of_pool = |pool: &Pool| {
            pool.notes
                .iter()
                .map(|note| format!("pool `{}`: {note}", pool.axis))
                .collect::<Vec<_>>()
        };
        notes.extend(pools.iter().flat_map(of_pool));
        Ok(Product {
            notes,
            ..Product::table(batch)
        })
    }
}
