//! `prompt` as a stage: its declaration, its files, its schema, its key and its work.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use fracture_stage::schema::Completeness;
use fracture_stage::{
    Context, Declaration, Error, Field, FileUse, Files, Inputs, Keys, Kind, Manifest, Open, Outputs, ParameterError,
    Port, Product, Role, Schema, Schemas, Shape, Stage, Whole, Work, parse_parameters,
};
use serde_json::{Value, json};

use crate::parameters::{self, Parameters};
use crate::pool::Pool;
use crate::regime::Regime;
use crate::rows::{self, COLUMNS, Surroundings};
use crate::source::{From, Known, Source};

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
        // A source, unless a pool comes from a stage: then once over what it needs.
        shape: Shape::Reduce,
        ports: &[],
        any_ports: true,
        side: &[],
        cases: false,
        spread: Some(parameters::spread),
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
            matrix: context.matrix_values(),
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
        let ports: BTreeSet<&str> = self.pools.iter().filter_map(Source::port).collect();
        let port = |name: &str| Port {
            name: name.to_owned(),
            needs: Vec::new(),
            keys: Keys::Values,
            all: true,
        };
        ports.into_iter().map(port).collect()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let mut uses = Vec::new();
        for source in &self.pools {
            if let From::File { path, .. } = &source.from {
                let path = files.locate(path);
                files.size(&path).ok_or_else(|| source.missing(files))?;
                uses.push(FileUse::present(format!("pool {}", source.axis), path));
            }
        }
        Ok(uses)
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let read: BTreeSet<&str> = self.pools.iter().filter_map(Source::port).collect();
        if let Some((port, _)) = inputs.ports.iter().find(|(port, _)| !read.contains(port.as_str())) {
            let error = Error::pipeline(format!("`needs` names `{port}`, which no pool reads"));
            return Err(error.hint(format!(
                "say which pool it is: `pools: {{ AXIS: {{ stage: {port} }} }}`"
            )));
        }
        let mut whole = Vec::new();
        let mut names = BTreeSet::new();
        let (mut clustered, mut exact) = (false, true);
        for source in &self.pools {
            match source.known(inputs, files)? {
                Known::Whole(pool) => whole.push(pool),
                Known::Columns {
                    names: columns,
                    clustered: has_cluster,
                    may_have_more,
                } => {
                    if !may_have_more {
                        rows::check_names(&source.axis, &columns, has_cluster, &self.regimes, &self.around)?;
                    }
                    exact &= !may_have_more;
                    names.extend(columns);
                    clustered |= has_cluster;
                }
                Known::Nothing => exact = false,
            }
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

    fn warnings(&self) -> Vec<String> {
        let mut first: HashMap<_, &str> = HashMap::new();
        let mut same = Vec::new();
        for regime in &self.regimes {
            match first.entry(regime.sent()) {
                Entry::Vacant(place) => _ = place.insert(&regime.name),
                Entry::Occupied(other) => same.push(format!(
                    "the regimes `{}` and `{}` say the same at one draw, which `generate` refuses; give one of them a \
                     cue, or another `draw` for an A/A control",
                    other.get(),
                    regime.name
                )),
            }
        }
        same
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        for Source { axis, spec, from, .. } in &self.pools {
            let mut part = match from {
                From::File { encoding, .. } => json!({"format": encoding.format.name(), "gzip": encoding.gzip}),
                From::Stage(_) => json!({}),
            };
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
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let mut pools = Vec::with_capacity(self.pools.len());
        for source in &self.pools {
            open.check()?;
            pools.push(source.pool(source.read(inputs, open.files))?);
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
