//! `gc`: what no lock file, no recent run and no pin holds is removed from the store.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use fracture_cache::gc::{Decision, Root, Rules, Segment, decide, over_budget};
use fracture_cache::inventory::{self, Leftover};
use fracture_cache::live::{Presence, Role, announce, clock, present};
use fracture_cache::{Memo, Records, Store};
use fracture_stage::{Error, ErrorKind};
use serde_json::{Value, json};

use super::failure::{Exit, Failure, printable};
use super::holdings::Holdings;
use super::units::{age_text, bytes, bytes_text, columns, duration};
use super::{StoreArgs, print, runs};
use crate::engine::history::sweep_lists;
use crate::engine::projects::forget;
use crate::engine::store_error;

/// What was written or used more recently than this is never removed: something at work may need it.
const GRACE: Duration = Duration::from_secs(3_600);

/// The results of so many runs are kept where the user says nothing.
const KEPT_RUNS: usize = 10;

/// So many segments of one kind of rows are left as they are.
const FEW_SEGMENTS: usize = 4;

/// Half-written files and the claims of the dead are removed when they are older than this.
const LEFT: Duration = Duration::from_secs(86_400);

/// `gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Remove nothing; say what would go, what holds the rest, and how much is too young to go: what was written or used in
    /// the last hour always stays.
    #[arg(long)]
    dry_run: bool,
    /// Keep the results of the last N runs (default: 10), beside those of lock files and pins. When it is given, the records
    /// and logs of older runs go, too.
    #[arg(long, value_name = "N")]
    keep_runs: Option<usize>,
    /// Remove only what was not written or used for so long, e.g. `30d`, `12h`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Remove only until results take up this much, e.g. `20GB`; the longest unused first.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Remove the oldest rows of the row memo beyond this size (default: keep all).
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memo_max_size: Option<u64>,
    /// Forget a lock file that is gone for good, so that it holds nothing any more.
    #[arg(long, value_name = "LOCK")]
    forget: Vec<PathBuf>,
}

/// Everything that a collection would do.
struct Collection {
    now: SystemTime,
    holdings: Holdings,
    roots: Vec<Root>,
    decision: Decision,
    segments: Vec<Segment>,
    leftovers: Vec<Leftover>,
    /// What is too young to go was written or used within this time.
    age: Duration,
    /// The lock files that are to be forgotten, as they are registered.
    forgotten: Vec<PathBuf>,
    /// The ids of the runs whose records go.
    old_runs: Vec<String>,
}

/// Removes what nothing holds.
pub fn gc(args: &GcArgs, as_json: bool) -> Result<Exit, Failure> {
    let store = args.store.open()?;
    let _alone = if args.dry_run { None } else { Some(alone(&store)?) };
    let collection = Collection::plan(&store, args)?;
    for project in &collection.holdings.projects {
        let lock = &project.registration.lock;
        if let (Some(problem), false) = (&project.problem, collection.forgotten.contains(lock)) {
            eprintln!("warning: {}", printable(&problem.message));
            eprintln!(
                "  what it named when it was read last is kept; if it is gone for good: --forget {}",
                lock.display()
            );
        }
    }
    if !args.dry_run {
        collection.carry_out(&store)?;
    }
    print(&if as_json {
        collection.json(args.dry_run)
    } else {
        collection.text(args)
    })?;
    if let Some(size) = args.max_size.filter(|size| collection.decision.bytes_after > *size) {
        eprintln!(
            "warning: results still take up {}, more than {}: the rest is held or in use",
            bytes_text(collection.decision.bytes_after),
            bytes_text(size)
        );
    }
    Ok(Exit::Done)
}

/// Says that a collection is at work; no other one and no run may be.
fn alone(store: &Store) -> Result<Presence, Error> {
    let ours = announce(store, Role::Collection, &runs::surroundings().who).map_err(store_error)?;
    for (role, what) in [(Role::Collection, "gc"), (Role::Run, "run")] {
        let others = present(store, role, Some(&ours)).map_err(store_error)?;
        if let Some(owner) = others.first() {
            return Err(Error::new(ErrorKind::Store, format!("a `fracture {what}` of {owner} is at work in the store"))
                .hint("nothing was removed; try again when it is over (one that was killed elsewhere counts for five minutes)"));
        }
    }
    Ok(ours)
}

impl Collection {
    fn plan(store: &Store, args: &GcArgs) -> Result<Self, Error> {
        let now = clock(store).map_err(store_error)?;
        let holdings = Holdings::read(store)?;
        let kept_runs = args.keep_runs.unwrap_or(KEPT_RUNS);
        let forgotten = args.forget.iter().map(|lock| holdings.registered(lock));
        let forgotten = forgotten.collect::<Result<Vec<PathBuf>, Error>>()?;
        let roots = holdings.roots(kept_runs, &forgotten);
        let age = args.older_than.unwrap_or_default().max(GRACE);
        let old = |written: SystemTime| now.duration_since(written).is_ok_and(|since| since >= age);
        let old_runs = holdings.runs.iter().skip(args.keep_runs.unwrap_or(usize::MAX));
        let old_runs = old_runs
            .filter(|(_, written)| old(*written))
            .map(|(run, _)| run.id.clone())
            .collect();
        let objects = inventory::objects(store).map_err(store_error)?;
        let rules = Rules {
            now,
            grace: GRACE,
            older_than: args.older_than,
            max_size: args.max_size,
        };
        let decision = decide(&objects, &holdings.entries(), &roots, &rules);
        let all = inventory::segments(store).map_err(store_error)?;
        let beyond = args
            .memo_max_size
            .map_or_else(Vec::new, |budget| over_budget(&all, budget, now, GRACE));
        let segments = beyond.into_iter().map(|number| all[number].clone()).collect();
        let leftovers = inventory::leftovers(store, now, args.older_than.unwrap_or_default().max(LEFT));
        Ok(Self {
            now,
            holdings,
            roots,
            decision,
            segments,
            leftovers: leftovers.map_err(store_error)?,
            age,
            forgotten,
            old_runs,
        })
    }

    fn carry_out(&self, store: &Store) -> Result<(), Error> {
        for lock in &self.forgotten {
            forget(store, lock)?;
        }
        for project in &self.holdings.projects {
            // What it says now is what is kept should it be out of reach the next time.
            if project.problem.is_none() && !self.forgotten.contains(&project.registration.lock) {
                project.registration.write(store)?;
            }
        }
        for digest in self.decision.going.iter().flat_map(|going| &going.objects) {
            inventory::remove_object(store, digest).map_err(store_error)?;
        }
        self.segments
            .iter()
            .try_for_each(|segment| inventory::remove_segment(store, segment))
            .map_err(store_error)?;
        let mut left = self.leftovers.iter();
        left.try_for_each(|file| inventory::remove_file(store, &file.path))
            .map_err(store_error)?;
        for id in &self.old_runs {
            // The record goes last: what it names is found again after a kill.
            for ending in ["events.jsonl", "json"] {
                let path = store.root().join("runs").join(format!("{id}.{ending}"));
                inventory::remove_file(store, &path).map_err(store_error)?;
            }
        }
        sweep_lists(store);
        self.compact(store)
    }

    /// Joins what many runs appended, without what nothing can be said of any more.
    fn compact(&self, store: &Store) -> Result<(), Error> {
        let records = Records::open(store).map_err(store_error)?;
        let kept = self.holdings.worth_keeping(store, &self.decision);
        let all = records.actions().iter().all(|action| kept.contains(action));
        if !all || records.logs().map_err(store_error)? > 1 {
            records
                .compact(&|action| kept.contains(action), true)
                .map_err(store_error)?;
        }
        for lineage in inventory::lineages(store).map_err(store_error)? {
            let memo = Memo::open(store, &lineage).map_err(store_error)?;
            memo.compact(FEW_SEGMENTS, GRACE).map_err(store_error)?;
        }
        Ok(())
    }

    fn going_bytes(&self) -> u64 {
        self.decision.bytes_before - self.decision.bytes_after
    }

    fn memo_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    fn leftover_bytes(&self) -> u64 {
        self.leftovers.iter().map(|file| file.size).sum()
    }

    /// For each root the recorded results that it holds.
    fn held_by(&self) -> Vec<usize> {
        let mut counts = vec![0; self.roots.len()];
        self.decision
            .held
            .values()
            .flatten()
            .for_each(|root| counts[*root] += 1);
        counts
    }

    fn text(&self, args: &GcArgs) -> String {
        let mut text = String::new();
        let records: HashMap<_, _> = self
            .holdings
            .records
            .iter()
            .map(|record| (record.action, record))
            .collect();
        if args.dry_run {
            let mut rows = vec![
                ["goes", "kind", "rows ", "size ", "last used "]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            for going in &self.decision.going {
                let age = age_text(self.now.duration_since(going.last).unwrap_or_default());
                let record = going.action.and_then(|action| records.get(&action));
                rows.push(vec![
                    going.action.map_or_else(
                        || "(no record)".to_owned(),
                        |action| printable(&self.holdings.name(&action)),
                    ),
                    record.map_or_else(String::new, |record| record.kind.clone()),
                    record.map_or_else(String::new, |record| record.rows.to_string()),
                    bytes_text(going.bytes),
                    age,
                ]);
            }
            if rows.len() > 1 {
                text.push_str(&columns(&rows));
                text.push('\n');
            }
            for (root, count) in self.roots.iter().zip(self.held_by()) {
                text.push_str(&format!("{count} results are held by {}\n", printable(&root.holder)));
            }
            if self.decision.young > 0 {
                text.push_str(&format!(
                    "{} results that nothing holds stay for now: they were written or used within the last {}\n",
                    self.decision.young,
                    age_text(self.age)
                ));
            }
        }
        let verb = if args.dry_run { "would go" } else { "went" };
        text.push_str(&format!(
            "{} results, {} {verb}; {} stay\n",
            self.decision
                .going
                .iter()
                .filter(|going| going.action.is_some())
                .count(),
            bytes_text(self.going_bytes()),
            bytes_text(self.decision.bytes_after),
        ));
        for (count, size, what) in [
            (self.segments.len(), self.memo_bytes(), "segments of the row memo"),
            (self.leftovers.len(), self.leftover_bytes(), "files left behind"),
        ] {
            if count > 0 {
                text.push_str(&format!("{count} {what}, {} {verb}\n", bytes_text(size)));
            }
        }
        if !self.old_runs.is_empty() {
            text.push_str(&format!("{} records of runs {verb}\n", self.old_runs.len()));
        }
        text
    }

    fn json(&self, dry_run: bool) -> String {
        let goes = self.decision.going.iter().map(|going| {
            json!({
                "task": going.action.and_then(|action| self.holdings.names.get(&action)),
                "action": going.action.map(|action| action.hex()), "objects": going.objects.len(), "bytes": going.bytes,
                "age_seconds": self.now.duration_since(going.last).unwrap_or_default().as_secs(),
            })
        });
        let held: BTreeMap<String, &Vec<usize>> = self
            .decision
            .held
            .iter()
            .map(|(action, roots)| (action.hex(), roots))
            .collect();
        let names: HashMap<String, &String> = self
            .holdings
            .names
            .iter()
            .map(|(action, name)| (action.hex(), name))
            .collect();
        let held = held.into_iter().map(|(action, roots)| {
            let holders: Vec<&str> = roots.iter().map(|root| self.roots[*root].holder.as_str()).collect();
            json!({ "task": names.get(&action), "action": action, "by": holders })
        });
        let unreached = self
            .holdings
            .projects
            .iter()
            .filter(|project| project.problem.is_some());
        let unreached = unreached.map(|project| project.registration.lock.display().to_string());
        let value = json!({
            "dry_run": dry_run,
            "goes": goes.collect::<Vec<Value>>(),
            "held": held.collect::<Vec<Value>>(),
            "young": { "results": self.decision.young, "age_seconds": self.age.as_secs() },
            "unreached": unreached.collect::<Vec<String>>(),
            "bytes": { "goes": self.going_bytes(), "stays": self.decision.bytes_after },
            "memo": { "segments": self.segments.len(), "bytes": self.memo_bytes() },
            "runs": self.old_runs,
            "leftovers": { "files": self.leftovers.len(), "bytes": self.leftover_bytes() },
        });
        format!("{}\n", serde_json::to_string_pretty(&value).unwrap_or_default())
    }
}
