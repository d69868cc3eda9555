//! The keys of a task. One walk over its description serves the hasher and the writer that `why` reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fracture_cache::Digest;
use fracture_cache::digest::{Action, Bytes, Lineage, Recipe, Row};
use fracture_language::{ConstantColumn, Task};
use fracture_stage::manifest::type_name;
use fracture_stage::stage::{Incoming, RowWise};
use fracture_stage::{Fact, Inputs, KeyHasher, Keys, Manifest, PartText, Parts, Port, Role, Stage, View};
use serde_json::{Map, Value, json};

use super::views::content_digest;

/// A file that a task depends on, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    /// What the file is to the stage.
    pub role: String,
    /// Where it is: relative to the project's root, or on a hub. For people and the lock file, never in a key.
    pub source: String,
    /// Its digest and size; `None` when it was looked for and is absent.
    pub content: Option<(Digest<Bytes>, u64)>,
    /// The commit of a hub's file; never in a key.
    pub commit: Option<Arc<str>>,
    /// Set when this stands for a model whose files are not here yet: what would be fetched.
    pub fetch: Option<Arc<str>>,
}

impl FileKey {
    /// A file of the project, or a role that was looked for and absent.
    pub fn new(role: &str, source: impl Into<String>, content: Option<(Digest<Bytes>, u64)>) -> Self {
        Self {
            role: role.to_owned(),
            source: source.into(),
            content,
            commit: None,
            fetch: None,
        }
    }
}

/// An input of a task at plan time.
#[derive(Debug, Clone)]
pub struct RecipeInput<'a> {
    /// The recipe of the task it comes from.
    pub recipe: Digest<Recipe>,
    /// Which of its outputs; `None` is the main one.
    pub output: Option<&'a str>,
    /// The constants that the reader sees.
    pub constants: Vec<&'a ConstantColumn>,
}

/// Whatever walks over a description.
fn walk<T: Manifest>(mut manifest: T, stage: &dyn Stage, files: &[FileKey], inputs: impl FnOnce(&mut T, &[Port])) -> T {
    own_parts(&mut manifest, stage, files);
    inputs(&mut manifest, &stage.ports());
    manifest
}

/// What does not depend on the inputs.
fn own_parts(manifest: &mut dyn Manifest, stage: &dyn Stage, files: &[FileKey]) {
    let kind = stage.kind();
    manifest.part(Role::Kind, kind.name, &json!(kind.version));
    stage.describe(manifest);
    for file in files {
        match &file.content {
            Some((digest, _)) => manifest.digest(Role::File, &file.role, &digest.hex()),
            None => manifest.part(Role::File, &file.role, &Value::String("absent".to_owned())),
        }
    }
}

/// The tasks of a plan share implementations: each is walked over once, and what arrives is added to that.
#[derive(Default)]
pub struct RecipeKeys {
    /// Keys before their inputs are added, by the addresses of implementation and files, which the pipeline and the plan
    /// hold.
    begun: HashMap<(usize, usize), KeyHasher>,
}

impl RecipeKeys {
    /// The recipe key of a task: known before anything runs. Inputs count by their recipes.
    pub fn recipe(&mut self, task: &Task, files: &Files, inputs: &[(&str, Vec<RecipeInput<'_>>)]) -> Digest<Recipe> {
        let begin = || {
            let mut hasher = KeyHasher::new("recipe");
            own_parts(&mut hasher, task.implementation.as_ref(), files);
            hasher
        };
        let mut hasher = if Arc::strong_count(&task.implementation) == 1 {
            begin()
        } else {
            let both = (Arc::as_ptr(&task.implementation).addr(), Arc::as_ptr(files).addr());
            self.begun.entry(both).or_insert_with(begin).clone()
        };
        recipe_inputs(&mut hasher, &task.ports, inputs);
        hasher.finish()
    }
}

/// The parts of the recipe key, for `why`.
pub fn recipe_parts(task: &Task, files: &[FileKey], inputs: &[(&str, Vec<RecipeInput<'_>>)]) -> Vec<PartText> {
    let parts = walk(
        Parts::default(),
        task.implementation.as_ref(),
        files,
        |manifest, ports| recipe_inputs(manifest, ports, inputs),
    );
    parts.0
}

fn recipe_inputs(manifest: &mut dyn Manifest, ports: &[Port], inputs: &[(&str, Vec<RecipeInput<'_>>)]) {
    for (name, sources) in inputs {
        let port = ports.iter().find(|port| port.name == *name);
        for (index, source) in sorted(port, sources).into_iter().enumerate() {
            let (recipe, constants) = (source.recipe.hex(), used_constants(port, source));
            let fact = Fact::Map(&[
                ("recipe", Fact::Text(&recipe)),
                ("output", Fact::Text(source.output.unwrap_or("main"))),
                ("constants", Fact::Map(&constants)),
            ]);
            manifest.fact(Role::Input, &format!("{name}#{index}"), &fact);
        }
    }
}

/// The constants of an input that its reader uses; of two with one name the later.
fn used_constants<'a>(port: Option<&Port>, source: &RecipeInput<'a>) -> Vec<(&'a str, Fact<'a>)> {
    let mut used: Vec<(&str, Fact<'_>)> = Vec::with_capacity(source.constants.len());
    for constant in &source.constants {
        if reads(port, &constant.name, constant.key) {
            let fact = Fact::Value(&constant.value);
            match used.iter_mut().find(|(name, _)| *name == constant.name) {
                Some(other) => other.1 = fact,
                None => used.push((&constant.name, fact)),
            }
        }
    }
    used
}

/// The order in which inputs arrive is in no key: they are sorted by what they are, first of all by their recipes.
fn sorted<'s, 'a>(port: Option<&Port>, sources: &'s [RecipeInput<'a>]) -> Vec<&'s RecipeInput<'a>> {
    let mut sorted: Vec<&RecipeInput<'_>> = sources.iter().collect();
    let text = |source: &RecipeInput<'_>| {
        let constants = used_constants(port, source);
        let output = Fact::Text(source.output.unwrap_or("main"));
        let rest = Fact::Map(&[("output", output), ("constants", Fact::Map(&constants))]).value();
        rest.to_string()
    };
    sorted.sort_by(|one, other| {
        let equal = || text(one).cmp(&text(other));
        one.recipe.cmp(&other.recipe).then_with(equal)
    });
    sorted
}

/// The action key: what makes a result the same result. Inputs count by the columns that are read.
pub fn action(stage: &dyn Stage, files: &[FileKey], inputs: &Inputs) -> (Digest<Action>, Vec<PartText>) {
    let hash = walk(KeyHasher::new("action"), stage, files, |manifest, ports| {
        action_inputs(manifest, ports, inputs)
    });
    let parts = walk(Parts::default(), stage, files, |manifest, ports| {
        action_inputs(manifest, ports, inputs)
    });
    (hash.finish(), parts.0)
}

fn action_inputs(manifest: &mut dyn Manifest, ports: &[Port], inputs: &Inputs) {
    for (name, arriving) in &inputs.ports {
        let port = ports.iter().find(|port| port.name == *name);
        let described = arriving.iter().map(|incoming| match incoming {
            Incoming::Table(view) => describe_view(port, view),
            Incoming::Other(artifact) => json!({ "content": content_digest(artifact).hex() }),
        });
        input_parts(manifest, name, described.collect());
    }
}

/// What a port reads of a view.
pub fn describe_view(port: Option<&Port>, view: &View) -> Value {
    let mut columns = Map::new();
    let mut constants = Map::new();
    let mut apart = Map::new();
    let own = view.unveiled();
    for name in read_columns(port, view) {
        let kind = view.column_type(name).map(type_name);
        match (view.constant(name), view.digest(name)) {
            // A number in place of names.
            (Some(number), _) if own.constant(name) != Some(number) => apart.insert(name.to_owned(), number.clone()),
            (Some(value), _) => constants.insert(name.to_owned(), value.clone()),
            (None, Some(digest)) => columns.insert(name.to_owned(), json!([kind, digest.hex()])),
            (None, None) => None,
        };
    }
    let keys: Vec<&String> = if port.is_some_and(|port| port.keys != Keys::None) {
        view.keys().iter().collect()
    } else {
        Vec::new()
    };
    let mut described = json!({ "rows": view.rows(), "columns": columns, "constants": constants, "keys": keys });
    if !apart.is_empty() {
        described["apart"] = Value::Object(apart);
    }
    described
}

/// The columns of a view that a port reads, sorted by name.
pub fn read_columns<'a>(port: Option<&Port>, view: &'a View) -> BTreeSet<&'a str> {
    let keys: BTreeSet<&str> = view.keys().iter().map(String::as_str).collect();
    view.names()
        .filter(|name| reads(port, name, keys.contains(name)))
        .collect()
}

fn reads(port: Option<&Port>, column: &str, key: bool) -> bool {
    // A port that the stage does not describe is read whole: never a key that knows too little.
    port.is_none_or(|port| {
        port.all || (port.keys != Keys::None && key) || port.needs.iter().any(|need| need.column == column)
    })
}

/// The order in which inputs arrive is in no key: they are sorted by what they are.
fn input_parts(manifest: &mut dyn Manifest, port: &str, mut described: Vec<Value>) {
    described.sort_by_cached_key(ToString::to_string);
    for (index, value) in described.iter().enumerate() {
        manifest.part(Role::Input, &format!("{port}#{index}"), value);
    }
}

/// The lineage of raw rows: kind, row version, the parameters that determine one raw row, and their files.
pub fn lineage(stage: &dyn Stage, rows: &dyn RowWise, files: &[FileKey]) -> Digest<Lineage> {
    let mut hasher = KeyHasher::new("lineage");
    hasher.part(Role::Kind, stage.kind().name, &json!(rows.row_version()));
    rows.lineage(&mut hasher);
    for file in files.iter().filter(|file| rows.lineage_file(&file.role)) {
        let content = file
            .content
            .map_or_else(|| "absent".to_owned(), |(digest, _)| digest.hex());
        hasher.digest(Role::File, &file.role, &content);
    }
    hasher.finish()
}

/// The key of one raw row.
pub fn row(lineage: &Digest<Lineage>, request: &[u8]) -> Digest<Row> {
    fracture_cache::Framed::new("row")
        .digest(lineage)
        .bytes(request)
        .finish()
}

/// A difference between two descriptions.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Change {
    /// What differs: `parameter tau`, `file model.onnx`, `column unsafe of verdicts`.
    pub part: String,
    /// Its value before; `None` when it is new.
    pub was: Option<Value>,
    /// Its value now; `None` when it is gone.
    pub now: Option<Value>,
}

/// What differs between two lists of parts.
pub fn changes(was: &[PartText], now: &[PartText]) -> Vec<Change> {
    let mut changes = Vec::new();
    let plain = |parts: &[PartText]| -> BTreeMap<(Role, String), Value> {
        let parts = parts.iter().filter(|part| part.role != Role::Input);
        parts
            .map(|part| ((part.role, part.name.clone()), part.value.clone()))
            .collect()
    };
    let (before, after) = (plain(was), plain(now));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (was, now) = (before.get(name), after.get(name));
        if was != now {
            let part = format!("{} {}", name.0.name(), name.1);
            changes.push(Change {
                part,
                was: was.cloned(),
                now: now.cloned(),
            });
        }
    }
    changes.extend(input_changes(was, now));
    changes
}

/// What differs between the inputs, port by port and column by column.
fn input_changes(was: &[PartText], now: &[PartText]) -> Vec<Change> {
    let (before, after) = (input_facts(was), input_facts(now));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let told = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let list = |facts: Option<&Vec<String>>| {
                facts.map(|facts| match facts.as_slice() {
                    [one] => Value::String(one.clone()),
                    several => json!(several),
                })
            };
            Change {
                part: name.clone(),
                was: list(before.get(name)),
                now: list(after.get(name)),
            }
        });
    told.collect()
}

/// The facts about inputs by name, each with its values over all sources, sorted.
fn input_facts(parts: &[PartText]) -> BTreeMap<String, Vec<String>> {
    let mut facts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: String, value: String| facts.entry(name).or_default().push(value);
    for part in parts.iter().filter(|part| part.role == Role::Input) {
        let port = part.name.split('#').next().unwrap_or(&part.name);
        for (fact, value) in part.value.as_object().into_iter().flatten() {
            match (fact.as_str(), value) {
                ("columns", Value::Object(columns)) => {
                    for (column, digest) in columns {
                        let digest = digest.get(1).and_then(Value::as_str).unwrap_or_default();
                        add(format!("column {column} of {port}"), digest.to_owned());
                    }
                }
                ("constants", Value::Object(constants)) => {
                    for (constant, value) in constants {
                        add(format!("constant {constant} of {port}"), plain_text(value));
                    }
                }
                ("apart", Value::Object(numbers)) => {
                    for number in numbers.values() {
                        add(format!("which inputs of {port} belong together"), plain_text(number));
                    }
                }
                (fact, value) => add(format!("{fact} of {port}"), plain_text(value)),
            }
        }
    }
    for values in facts.values_mut() {
        values.sort();
    }
    facts
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Files of a task, shared by the tasks that list the same ones.
pub type Files = Arc<Vec<FileKey>>;
