//! A pool: items with their prompts and other columns, taken from the rows of a file.

use std::collections::{BTreeMap, HashMap, HashSet};

use fracture_stage::Error;
use fracture_table::Condition;
use serde_json::Value;

use crate::cells::as_text;
use crate::cue::nearest;
use crate::layout::{self, Layout};
use crate::parameters::PoolSpec;
use crate::read::{Place, Table};

/// Names that the stage itself yields or gives to templates.
const RESERVED: [&str; 14] = [
    "item",
    "axis",
    "regime",
    "draw",
    "prompt",
    "messages",
    "cue",
    "strength",
    "variant",
    "objective",
    "cue_hash",
    "vars",
    "matrix",
    "sample",
];

/// One prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id, unique in its pool.
    pub id: String,
    /// Where it was read.
    pub place: Place,
    /// The prompt.
    pub prompt: String,
    /// The cells of [`Pool::columns`].
    pub cells: Vec<Value>,
    /// What it belongs together with.
    pub cluster: Option<String>,
}

/// The prompts of one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its axis.
    pub axis: String,
    /// Its other columns, sorted by name.
    pub columns: Vec<String>,
    /// Its items, sorted by id.
    pub items: Vec<Item>,
    /// Whether it says which items belong together.
    pub clustered: bool,
    /// Things to tell the user.
    pub notes: Vec<String>,
}

/// The first 16 hex digits of a text's blake3.
pub fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// Where the columns of a file go.
struct Mapping {
    /// The columns as the file names them.
    old: Vec<String>,
    /// The same by their new names.
    new: Vec<String>,
    layout: Option<&'static Layout>,
    item: Option<usize>,
    prompt: Option<usize>,
    cluster: Option<usize>,
}

/// The columns of a stage's table that can be a pool's: without those that this stage yields itself, and without those in
/// whose place `columns` puts another.
pub fn of_stage(spec: &PoolSpec, name: &str) -> bool {
    let kept =
        matches!(name, "item" | "prompt") || !RESERVED.contains(&name) || spec.columns.values().any(|old| old == name);
    let replaced =
        spec.columns.get(name).is_some_and(|old| old != name) && !spec.columns.values().any(|old| old == name);
    kept && !replaced
}

/// The columns that a pool will have beside those of every pool, from its header alone: sorted, and whether there is
/// `cluster`.
///
/// # Errors
/// As [`Pool::new`], for what a header shows.
pub fn columns(spec: &PoolSpec, names: &[String], condition: Option<&Condition>) -> Result<(Vec<String>, bool), Error> {
    let mapping = Mapping::new(spec, names)?;
    if let Some(condition) = condition {
        condition.check(mapping.new.iter().map(String::as_str))?;
    }
    let columns = mapping
        .others()
        .into_iter()
        .map(|index| mapping.new[index].clone())
        .collect();
    Ok((columns, mapping.cluster.is_some()))
}

impl Mapping {
    fn new(spec: &PoolSpec, names: &[String]) -> Result<Self, Error> {
        let find = |name: &str, what: &str| {
            names.iter().position(|other| other == name).ok_or_else(|| {
                Error::input(format!(
                    "{what} names the column `{name}`, which the file does not have"
                ))
                .parameter(&[if what == "`cluster`" { "cluster" } else { "columns" }])
                .hint(nearest(name, names.iter()))
            })
        };
        let mut new = names.to_vec();
        for (to, from) in &spec.columns {
            new[find(from, &format!("`columns: {{ {to}: ... }}`"))?].clone_from(to);
        }
        if let Some((at, twice)) = new.iter().enumerate().find(|(at, name)| new[..*at].contains(name)) {
            let message = format!(
                "`columns` would give two columns the name `{twice}` (`{}` is the second)",
                names[at]
            );
            return Err(Error::input(message).hint(format!("give the file's own `{twice}` another name too")));
        }
        let layout = (!spec.columns.contains_key("prompt"))
            .then(|| layout::recognise(names))
            .flatten();
        let position = |name: &str| new.iter().position(|other| other == name);
        let item = match layout.and_then(|layout| layout.item) {
            Some(item) if !spec.columns.contains_key("item") => find(item, "the layout").ok(),
            _ => position("item").or_else(|| position("id")),
        };
        let prompt = if layout.is_some() { None } else { position("prompt") };
        if layout.is_none() && prompt.is_none() {
            let columns = names.join(", ");
            return Err(
                Error::input(format!("there is no column `prompt`; the columns are {columns}"))
                    .hint("say which it is, as in `columns: { prompt: OLD_NAME }`"),
            );
        }
        let cluster = match &spec.cluster {
            Some(name) => Some(position(name).map_or_else(|| find(name, "`cluster`"), Ok)?),
            None => position("cluster"),
        };
        let mapping = Self {
            old: names.to_vec(),
            new,
            layout,
            item,
            prompt,
            cluster,
        };
        let taken = |index: &usize| RESERVED.contains(&mapping.new[*index].as_str());
        if let Some(name) = mapping
            .others()
            .into_iter()
            .find(taken)
            .map(|index| &mapping.new[index])
        {
            return Err(
                Error::input(format!("the column `{name}` would hide one that the stage yields")).hint(format!(
                    "give it another name, as in `columns: {{ pool_{name}: {name} }}`"
                )),
            );
        }
        Ok(mapping)
    }

    /// The columns that are kept as they are, sorted by their new name.
    fn others(&self) -> Vec<usize> {
        let answers = self.layout.map_or(&[][..], |layout| layout.answers);
        // The layout's own prompt is yielded as `prompt`; its text is kept once.
        let source = match self.layout.map(|layout| layout.prompt) {
            Some(layout::From::Column(name)) => Some(name),
            _ => None,
        };
        let kept = |index: &usize| {
            let old = self.old[*index].as_str();
            let special = [self.item, self.prompt].contains(&Some(*index)) || self.new[*index] == "cluster";
            !special && !answers.contains(&old) && source != Some(old)
        };
        let mut others: Vec<usize> = (0..self.new.len()).filter(kept).collect();
        others.sort_by(|a, b| self.new[*a].cmp(&self.new[*b]));
        others
    }

    fn item(&self, place: Place, cells: &[Value], others: &[usize]) -> Result<Item, Error> {
        let cell = |index: Option<usize>| index.and_then(|index| cells.get(index)).and_then(as_text);
        let named = |name: &str| cells.get(self.old.iter().position(|old| old == name)?);
        let prompt = match self.layout {
            Some(layout) => layout.prompt(named),
            None => cell(self.prompt).filter(|prompt| !prompt.trim().is_empty()),
        };
        let prompt = prompt.ok_or_else(|| Error::input(format!("{place}: the prompt is empty")))?;
        let id = match self.item {
            None => short_hash(&prompt),
            Some(index) => cell(Some(index))
                .filter(|id| !id.is_empty())
                .ok_or_else(|| Error::input(format!("{place}: the id (column `{}`) is empty", self.old[index])))?,
        };
        let cluster = cell(self.cluster).filter(|cluster| !cluster.is_empty());
        let cells = others
            .iter()
            .map(|index| cells.get(*index).cloned().unwrap_or_default())
            .collect();
        Ok(Item {
            id,
            place,
            prompt,
            cells,
            cluster,
        })
    }
}

impl Pool {
    /// Takes the items of a file's rows.
    ///
    /// # Errors
    /// When there are no rows, a prompt or an id is empty, two rows have one id, or a column that is named is not there.
    pub fn new(axis: &str, spec: &PoolSpec, table: Table) -> Result<Self, Error> {
        if table.rows.is_empty() {
            return Err(Error::input("there is not a single row"));
        }
        let mapping = Mapping::new(spec, &table.names)?;
        let others = mapping.others();
        let mut notes = Vec::new();
        let rows = mapping.filter(table.rows, &mut notes)?;
        let rows = match &spec.filter {
            Some(condition) => mapping.rows_where(rows, condition)?,
            None => rows,
        };
        let items = rows.iter().map(|(place, cells)| mapping.item(*place, cells, &others));
        let mut items: Vec<Item> = items.collect::<Result<_, _>>()?;
        if mapping.layout.is_some_and(|layout| !layout.answers.is_empty()) {
            let (mut seen, before) = (HashSet::new(), items.len());
            items.retain(|item| seen.insert(item.prompt.clone()));
            if items.len() < before {
                notes.push(format!("{} distinct prompts of {before} rows", items.len()));
            }
        }
        unique(&items, &mapping)?;
        items.truncate(
            spec.limit
                .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        );
        if let Some(sample) = spec.sample {
            let sample = usize::try_from(sample).unwrap_or(usize::MAX);
            if sample > items.len() {
                notes.push(format!("`sample: {sample}` takes all {} items", items.len()));
            }
            items.sort_by_cached_key(|item| (*blake3::hash(item.id.as_bytes()).as_bytes(), item.id.clone()));
            items.truncate(sample);
        }
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let columns = others.iter().map(|index| mapping.new[*index].clone()).collect();
        Ok(Self {
            axis: axis.to_owned(),
            columns,
            items,
            clustered: mapping.cluster.is_some(),
            notes,
        })
    }

    /// The cells of a column by item; `None` when the pool has no such column.
    pub fn cells(&self, name: &str) -> Option<impl Iterator<Item = &Value>> {
        let index = self.columns.iter().position(|column| column == name)?;
        Some(self.items.iter().filter_map(move |item| item.cells.get(index)))
    }
}

impl Mapping {
    /// The rows for which a condition holds.
    fn rows_where(&self, rows: Vec<(Place, Vec<Value>)>, condition: &str) -> Result<Vec<(Place, Vec<Value>)>, Error> {
        let blame = |error: Error| error.parameter(&["where"]);
        let cells: Vec<&[Value]> = rows.iter().map(|(_, cells)| cells.as_slice()).collect();
        let chosen: HashSet<usize> = fracture_table::rows_where(&self.new, &cells, condition)
            .map_err(|error| blame(error.hint(format!("the columns are {}", self.new.join(", ")))))?
            .into_iter()
            .collect();
        if chosen.is_empty() {
            let message = format!("`where: {condition}` takes none of {} rows", rows.len());
            return Err(blame(Error::input(message)));
        }
        let numbered = rows.into_iter().enumerate();
        Ok(numbered
            .filter(|(row, _)| chosen.contains(row))
            .map(|(_, row)| row)
            .collect())
    }

    /// Leaves out the rows that the layout does not take.
    fn filter(
        &self,
        rows: Vec<(Place, Vec<Value>)>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(Place, Vec<Value>)>, Error> {
        let Some((layout, (column, value))) = self.layout.and_then(|layout| Some((layout, layout.only?))) else {
            return Ok(rows);
        };
        let Some(index) = self.old.iter().position(|name| name == column) else {
            return Ok(rows);
        };
        let all = rows.len();
        let mut others = BTreeMap::<String, usize>::new();
        let is = |cells: &[Value]| cells.get(index).and_then(as_text).unwrap_or_default();
        let (kept, left): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, cells)| is(cells) == value);
        left.iter()
            .for_each(|(_, cells)| *others.entry(is(cells)).or_default() += 1);
        if kept.is_empty() {
            return Err(
                Error::input(format!("{}: no row has `{value}` in `{column}`", layout.name)).hint(
                    "map the columns yourself to take every row: `columns: { prompt: Behavior, item: BehaviorID }`",
                ),
            );
        }
        if kept.len() < all {
            let left: Vec<String> = others.iter().map(|(name, count)| format!("{count} {name}")).collect();
            notes.push(format!(
                "{}: {} {value} of {all} rows, without {}",
                layout.name,
                kept.len(),
                left.join(", ")
            ));
        }
        Ok(kept)
    }
}

fn unique(items: &[Item], mapping: &Mapping) -> Result<(), Error> {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for item in items {
        if let Some(first) = seen.insert(&item.id, item.place) {
            let what = match mapping.item {
                Some(_) => format!("have the same id `{}`", item.id),
                None => "have the same prompt".to_owned(),
            };
            return Err(Error::input(format!("{} {what}", first.and(item.place)))
                .hint("every prompt of a pool needs its own id: remove one, or name a column with ids by `columns: { item: OLD }`"));
        }
    }
    Ok(())
}
