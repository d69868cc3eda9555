//! `cache`: a look into the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use fracture_cache::digest::Bytes;
use fracture_cache::gc::Object;
use fracture_cache::live::clock;
use fracture_cache::{Artifact, Digest, Record, Store, StoreError, inventory};
use fracture_stage::Error;
use serde_json::{Value, json};

use super::failure::{Exit, Failure, printable};
use super::holdings::Holdings;
use super::project::Project;
use super::units::{age_text, bytes_text, columns};
use super::{SpecArgs, StoreArgs, print, tables};
use crate::engine::pins::{Pin, pins};
use crate::engine::store_error;
use crate::engine::views::Content;

/// `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the results in the store, the latest first.
    Ls(StoreArgs),
    /// Say what takes up how much.
    Stat(StoreArgs),
    /// Print where a stage's result lies.
    Path {
        #[command(flatten)]
        spec: SpecArgs,
        /// The stage, or `STAGE.OUTPUT` for a side output.
        stage: String,
    },
    /// Keep the results of these tasks whatever `gc` removes.
    Pin(PinArgs),
    /// Let `gc` decide about the results of these tasks again, those that were pinned when the pipeline was another included.
    Unpin(PinArgs),
    /// Read every object and compare it with its digest; what is damaged is set aside.
    Check(StoreArgs),
}

/// Which results are meant.
#[derive(Debug, Args)]
pub struct PinArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// `STAGE`, `TASK`, globs, `+STAGE` with what it needs, `STAGE+` with what needs it.
    #[arg(required = true, value_name = "SELECTOR")]
    tasks: Vec<String>,
}

/// Does what the subcommand says.
pub fn cache(command: &CacheCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        CacheCommand::Ls(args) => list(&args.open()?, json),
        CacheCommand::Stat(args) => stat(&args.open()?, json),
        CacheCommand::Path { spec, stage } => path(spec, stage, json),
        CacheCommand::Pin(args) => pin(args, json),
        CacheCommand::Unpin(args) => unpin(args, json),
        CacheCommand::Check(args) => check(&args.open()?, json),
    }
}

/// The objects by digest.
fn there(store: &Store) -> Result<HashMap<Digest<Bytes>, Object>, Failure> {
    let objects = inventory::objects(store).map_err(store_error)?;
    Ok(objects.into_iter().map(|object| (object.digest, object)).collect())
}

/// The objects of a record.
fn objects_of(record: &Record) -> impl Iterator<Item = (&Digest<Bytes>, u64)> {
    record.outputs.iter().flat_map(|output| output.artifact.objects())
}

fn list(store: &Store, as_json: bool) -> Result<Exit, Failure> {
    let holdings = Holdings::read(store)?;
    let there = there(store)?;
    let now = clock(store).map_err(store_error)?;
    let mut listed = Vec::new();
    for record in &holdings.records {
        let objects: Option<Vec<&Object>> = objects_of(record).map(|(digest, _)| there.get(digest)).collect();
        // The result of a record whose objects are gone is not there.
        let Some(objects) = objects.filter(|objects| !objects.is_empty()) else {
            continue;
        };
        let size: u64 = objects_of(record).map(|(_, size)| size).sum();
        let newest = objects.iter().map(|object| object.written).max();
        let age = newest
            .and_then(|newest| now.duration_since(newest).ok())
            .unwrap_or_default();
        listed.push((age, holdings.name(&record.action), record, size));
    }
    listed.sort_by(|(one_age, one, ..), (other_age, other, ..)| (one_age, one).cmp(&(other_age, other)));
    if as_json {
        let entry = |(age, name, record, size): &(Duration, String, &Record, u64)| {
            let known = holdings.names.contains_key(&record.action).then_some(name);
            json!({
                "task": known, "kind": record.kind, "rows": record.rows, "bytes": size, "age_seconds": age.as_secs(),
                "seconds": record.seconds, "action": record.action.hex(), "incomplete": record.incomplete,
            })
        };
        let all: Vec<Value> = listed.iter().map(entry).collect();
        print(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()))?;
    } else {
        let mut rows = vec![["task", "kind", "rows ", "size ", "age "].map(str::to_owned).to_vec()];
        rows.extend(listed.iter().map(|(age, name, record, size)| {
            vec![
                printable(name) + if record.incomplete { " (incomplete)" } else { "" },
                record.kind.clone(),
                record.rows.to_string(),
                bytes_text(*size),
                age_text(*age),
            ]
        }));
        print(&columns(&rows))?;
    }
    Ok(Exit::Done)
}

fn stat(store: &Store, as_json: bool) -> Result<Exit, Failure> {
    let holdings = Holdings::read(store)?;
    let mut rest = there(store)?;
    let all: u64 = rest.values().map(|object| object.size).sum();
    let count = rest.len();
    // An object that several results share counts for the first kind in the alphabet.
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut records: Vec<&Record> = holdings.records.iter().collect();
    records.sort_by(|one, other| one.kind.cmp(&other.kind));
    for record in records {
        let whole =
            objects_of(record).count() > 0 && objects_of(record).all(|(digest, size)| store.contains(digest, size));
        let bytes: u64 = objects_of(record)
            .filter_map(|(digest, _)| rest.remove(digest))
            .map(|object| object.size)
            .sum();
        let sum = kinds.entry(&record.kind).or_default();
        *sum = (sum.0 + u64::from(whole), sum.1 + bytes);
    }
    let unrecorded: u64 = rest.values().map(|object| object.size).sum();
    let mut folders = Vec::new();
    for name in ["memo", "records", "runs", "staging", "quarantine"] {
        folders.push((name, inventory::folder_bytes(store, name).map_err(store_error)?));
    }
    if as_json {
        let kinds: Vec<Value> = kinds
            .iter()
            .map(|(kind, (results, bytes))| json!({ "kind": kind, "results": results, "bytes": bytes }))
            .collect();
        let folders: serde_json::Map<String, Value> = folders
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), json!(bytes)))
            .collect();
        let value = json!({
            "store": store.root(), "objects": { "count": count, "bytes": all }, "kinds": kinds,
            "unrecorded_bytes": unrecorded, "folders": folders,
        });
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&value).unwrap_or_default()
        ))?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["kind", "results ", "size "].map(str::to_owned).to_vec()];
    for (kind, (results, bytes)) in &kinds {
        rows.push(vec![(*kind).to_owned(), results.to_string(), bytes_text(*bytes)]);
    }
    if unrecorded > 0 {
        rows.push(vec!["(no record)".to_owned(), String::new(), bytes_text(unrecorded)]);
    }
    rows.push(vec!["all objects".to_owned(), count.to_string(), bytes_text(all)]);
    for (name, bytes) in folders.iter().filter(|(_, bytes)| *bytes > 0) {
        rows.push(vec![(*name).to_owned(), String::new(), bytes_text(*bytes)]);
    }
    print(&columns(&rows))?;
    Ok(Exit::Done)
}

fn path(spec: &SpecArgs, stage: &str, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(spec)?;
    let mut paths = Vec::new();
    for output in tables::outputs(&project, &plan, stage)? {
        let own: Vec<Digest<Bytes>> = match &output.content {
            // The last layer is the task's own.
            Content::Layers(layers) => layers.last().map(|table| table.blob).into_iter().collect(),
            Content::Other(artifact) => Artifact::objects(artifact).map(|(digest, _)| *digest).collect(),
        };
        paths.extend(
            own.iter()
                .map(|digest| workspace.store.blob_path(digest).display().to_string()),
        );
    }
    if as_json {
        print(&format!("{}\n", json!(paths)))?;
    } else {
        print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>())?;
    }
    Ok(Exit::Done)
}

fn pin(args: &PinArgs, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(&args.spec)?;
    let mut pinned = Vec::new();
    for id in project.select(&args.tasks)? {
        let task = &project.pipeline.tasks[id.0 as usize];
        let Some(result) = &plan.tasks[id.0 as usize].result else {
            return Err(Error::input(format!(
                "the result of `{}` is not in the store, so it can not be pinned",
                task.name
            ))
            .hint("run the pipeline first; nothing was pinned")
            .into());
        };
        pinned.push(Pin {
            task: task.name.to_string(),
            pipeline: project.pipeline.path.clone(),
            action: result.action,
        });
    }
    pinned.iter().try_for_each(|pin| pin.write(&workspace.store))?;
    told(&pinned, "pinned", as_json)
}

fn unpin(args: &PinArgs, as_json: bool) -> Result<Exit, Failure> {
    let project = Project::compile(&args.spec)?;
    let workspace = project.open()?;
    let selected: HashSet<String> = project
        .select(&args.tasks)?
        .into_iter()
        .map(|id| project.pipeline.tasks[id.0 as usize].name.to_string())
        .collect();
    let mut let_go = pins(&workspace.store)?;
    let_go.retain(|pin| pin.pipeline == project.pipeline.path && selected.contains(&pin.task));
    for pin in &let_go {
        pin.remove(&workspace.store)?;
    }
    told(&let_go, "unpinned", as_json)
}

fn told(pins: &[Pin], what: &str, as_json: bool) -> Result<Exit, Failure> {
    let text = if as_json {
        format!("{}\n", json!(pins))
    } else {
        let line = |pin: &Pin| format!("{what} {}\n", printable(&pin.task));
        pins.iter().map(line).collect()
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn check(store: &Store, as_json: bool) -> Result<Exit, Failure> {
    let holdings = Holdings::read(store)?;
    let mut users: HashMap<Digest<Bytes>, Vec<String>> = HashMap::new();
    let mut expected: HashMap<Digest<Bytes>, u64> = HashMap::new();
    for record in &holdings.records {
        for (digest, size) in objects_of(record) {
            users.entry(*digest).or_default().push(holdings.name(&record.action));
            expected.insert(*digest, size);
        }
    }
    let objects = inventory::objects(store).map_err(store_error)?;
    let bar = indicatif::ProgressBar::new(objects.iter().map(|object| object.size).sum());
    let template = "{bar:24} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    let found = inventory::verify(store, &objects, &expected, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let mut damaged = Vec::new();
    for (digest, error) in found {
        match error {
            // It went while we looked.
            StoreError::Missing { .. } => {}
            StoreError::Damaged { .. } => damaged.push((error.to_string(), users.remove(&digest).unwrap_or_default())),
            other => return Err(store_error(other).into()),
        }
    }
    let told: HashSet<&String> = damaged.iter().flat_map(|(_, tasks)| tasks).collect();
    let mut missing = missing(&holdings, store);
    missing.retain(|name| !told.contains(name));
    let divergent = divergences(&holdings);
    if as_json {
        let damaged: Vec<Value> = damaged
            .iter()
            .map(|(error, tasks)| json!({ "message": error, "tasks": tasks }))
            .collect();
        let value = json!({
            "objects": objects.len(), "damaged": damaged, "missing": missing, "divergent": divergent,
        });
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&value).unwrap_or_default()
        ))?;
    } else {
        let mut text = String::new();
        for (error, tasks) in &damaged {
            let of = if tasks.is_empty() {
                String::new()
            } else {
                format!(" (of {})", tasks.join(", "))
            };
            text.push_str(&format!("{}{}\n", printable(error), printable(&of)));
        }
        for name in &missing {
            text.push_str(&format!("an object of {} is missing\n", printable(name)));
        }
        for name in &divergent {
            text.push_str(&format!(
                "{}: another run gave another result for the same inputs\n",
                printable(name)
            ));
        }
        text.push_str(&format!(
            "{} objects read, {} damaged; {} results lack one\n",
            objects.len(),
            damaged.len(),
            missing.len()
        ));
        print(&text)?;
    }
    if damaged.is_empty() && missing.is_empty() {
        return Ok(Exit::Done);
    }
    if damaged.is_empty() {
        eprintln!("hint: a run that needs them computes them again; `fracture gc` forgets those that nothing holds");
    } else if store.is_read_only() {
        eprintln!("hint: the store may only be read, so they lie where they lay");
    } else {
        eprintln!("hint: they were set aside; the next run computes them again");
    }
    Ok(Exit::Failed)
}

/// The tasks whose results lack an object, the damaged ones that were set aside left out: those are told. A collection takes
/// the record of a result along.
fn missing(holdings: &Holdings, store: &Store) -> Vec<String> {
    // The standing record of an action comes after those that diverge from it, which nobody reads.
    let standing: HashMap<_, _> = holdings.records.iter().map(|record| (record.action, record)).collect();
    let lacks = |record: &&&Record| !objects_of(record).all(|(digest, size)| store.contains(digest, size));
    let lacking = standing.values().filter(lacks);
    let mut names: Vec<String> = lacking.map(|record| holdings.name(&record.action)).collect();
    names.sort();
    names
}

/// The tasks that have results which diverge.
fn divergences(holdings: &Holdings) -> Vec<String> {
    let mut seen = HashSet::new();
    let twice = holdings.records.iter().filter(|record| !seen.insert(record.action));
    let mut names: Vec<String> = twice.map(|record| holdings.name(&record.action)).collect();
    names.sort();
    names.dedup();
    names
}
