//! The table of prompts: every item of every pool under every regime, in an order that no input order moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, LargeStringArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::record_batch::RecordBatch;
use fracture_cache::{ColumnType, arrow_type};
use fracture_stage::{Error, Field};
use minijinja::value::Value;
use serde_json::Map;

use crate::cells;
use crate::cue::nearest;
use crate::pool::{Item, Pool};
use crate::regime::Regime;
use crate::template;

/// What templates may use beside the pool's columns.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The pipeline's `vars`.
    pub vars: Arc<Map<String, serde_json::Value>>,
    /// The values of the stage's own matrix.
    pub matrix: Map<String, serde_json::Value>,
}

/// The columns of every such table, before those of the pools.
pub const COLUMNS: [(&str, ColumnType); 11] = [
    ("item", ColumnType::Text),
    ("axis", ColumnType::Text),
    ("regime", ColumnType::Text),
    ("draw", ColumnType::U32),
    ("prompt", ColumnType::Text),
    ("messages", ColumnType::Text),
    ("cue", ColumnType::Text),
    ("strength", ColumnType::F64),
    ("variant", ColumnType::U32),
    ("objective", ColumnType::Text),
    ("cue_hash", ColumnType::Text),
];

/// The pools' other columns with their types, sorted by name, `cluster` last.
pub fn other_fields(pools: &[Pool]) -> Vec<Field> {
    let names: BTreeSet<&String> = pools.iter().flat_map(|pool| &pool.columns).collect();
    let kind = |name: &str| cells::column_type(pools.iter().filter_map(|pool| pool.cells(name)).flatten());
    let field = |name: &String| Field {
        name: name.clone(),
        kind: Some(kind(name)),
    };
    let cluster = Field {
        name: "cluster".to_owned(),
        kind: Some(ColumnType::Text),
    };
    let clustered = pools.iter().any(|pool| pool.clustered);
    names
        .into_iter()
        .map(field)
        .chain(clustered.then_some(cluster))
        .collect()
}

/// One row before it is a column: which pool, which item, which regime, and the messages.
struct Row<'a> {
    item: &'a Item,
    axis: &'a str,
    regime: &'a Regime,
    /// Position of the item among all pools' items, one after another.
    position: u32,
    messages: String,
}

/// Makes the table. `pools` are sorted by axis, `regimes` by name.
///
/// # Errors
/// When a template can not be rendered for an item; the error names pool, line, regime and the names there are.
pub fn table(pools: &[Pool], regimes: &[Regime], around: &Surroundings) -> Result<(RecordBatch, Vec<String>), Error> {
    let mut rows = Vec::new();
    let mut position = 0;
    for pool in pools {
        for item in &pool.items {
            for regime in regimes {
                let messages = messages(pool, item, regime, around)?;
                rows.push(Row {
                    item,
                    axis: &pool.axis,
                    regime,
                    position,
                    messages,
                });
            }
            position += 1;
        }
    }
    let notes = same_text(&rows, regimes.len());
    Ok((batch(pools, &rows)?, notes))
}

/// Renders the first item of every pool under every regime: a mistake in a template is found before anything runs.
///
/// # Errors
/// As [`table`].
pub fn probe(pools: &[Pool], regimes: &[Regime], around: &Surroundings) -> Result<(), Error> {
    for (pool, item) in pools.iter().filter_map(|pool| Some((pool, pool.items.first()?))) {
        regimes
            .iter()
            .try_for_each(|regime| messages(pool, item, regime, around).map(drop))?;
    }
    Ok(())
}

/// Looks up the names of all templates in the columns of a pool whose rows are not known yet.
///
/// # Errors
/// When a template surely asks for another name.
pub fn check_names(
    axis: &str,
    columns: &[String],
    clustered: bool,
    regimes: &[Regime],
    around: &Surroundings,
) -> Result<(), Error> {
    let given = ["item", "axis", "prompt"]
        .into_iter()
        .chain(clustered.then_some("cluster"));
    let names: Vec<&str> = columns.iter().map(String::as_str).chain(given).collect();
    for regime in regimes {
        let mut context: BTreeMap<&str, Value> = names.iter().map(|name| (*name, Value::from(true))).collect();
        context.insert("vars", template::map(&around.vars));
        context.insert("matrix", template::map(&around.matrix));
        context.extend(regime.strength.map(|strength| ("strength", Value::from(strength))));
        let Some((key, unknown)) = regime.unknown(&Value::from_pairs(context)) else {
            continue;
        };
        let variables = [("vars", &*around.vars), ("matrix", &around.matrix)];
        let variables = variables
            .into_iter()
            .flat_map(|(root, map)| map.keys().map(move |name| format!("{root}.{name}")));
        let known: Vec<String> = names.iter().map(|name| (*name).to_owned()).chain(variables).collect();
        let hint = match unknown.as_str() {
            "strength" => "give the regime a `strength`".to_owned(),
            unknown => nearest(unknown, known.iter()),
        };
        return Err(Error::pipeline(format!("there is no `{unknown}`"))
            .context(format!("regime `{}`: `{key}` can not be rendered", regime.name))
            .context(format!("pool `{axis}`"))
            .parameter(&["regimes", &regime.name])
            .hint(hint));
    }
    Ok(())
}

fn messages(pool: &Pool, item: &Item, regime: &Regime, around: &Surroundings) -> Result<String, Error> {
    let mut context: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, cell) in pool.columns.iter().zip(&item.cells) {
        context.insert(name, template::value(cell));
    }
    if pool.clustered {
        context.insert("cluster", Value::from(item.cluster.clone()));
    }
    context.insert("item", Value::from(item.id.as_str()));
    context.insert("axis", Value::from(pool.axis.as_str()));
    context.insert("prompt", Value::from(item.prompt.as_str()));
    context.insert("vars", template::map(&around.vars));
    context.insert("matrix", template::map(&around.matrix));
    if let Some(strength) = regime.strength {
        context.insert("strength", Value::from(strength));
    }
    regime
        .messages(&Value::from_pairs(
            context.iter().map(|(name, value)| (*name, value.clone())),
        ))
        .map_err(|error| {
            let mut names: Vec<String> = context.keys().map(|name| (*name).to_owned()).collect();
            names.extend(around.vars.keys().map(|name| format!("vars.{name}")));
            names.extend(around.matrix.keys().map(|name| format!("matrix.{name}")));
            names.retain(|name| name != "vars" && name != "matrix");
            let unknown = error
                .causes
                .iter()
                .find_map(|cause| cause.strip_prefix("there is no `")?.strip_suffix('`'));
            let hint = match unknown {
                Some("strength") => "give the regime a `strength`".to_owned(),
                Some(unknown) => nearest(unknown, names.iter()),
                None => format!("templates may use {}", names.join(", ")),
            };
            error
                .context(format!("pool `{}`, {}, item `{}`", pool.axis, item.place, item.id))
                .parameter(&["regimes", &regime.name])
                .hint(hint)
        })
}

/// Pairs of regimes that gave the same text for every item at one draw: their contrast can show nothing but chance.
fn same_text(rows: &[Row<'_>], regimes: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for first in 0..regimes {
        for second in first + 1..regimes {
            let same = |item: &[Row<'_>]| match (item.get(first), item.get(second)) {
                (Some(a), Some(b)) => a.regime.draw == b.regime.draw && a.messages == b.messages,
                _ => false,
            };
            if !rows.is_empty() && rows.chunks(regimes).all(same) {
                let (a, b) = (&rows[first].regime.name, &rows[second].regime.name);
                notes.push(format!(
                    "the regimes `{a}` and `{b}` render to the same text at one draw; for an A/A control give one of them another `draw`"
                ));
            }
        }
    }
    notes
}

fn batch(pools: &[Pool], rows: &[Row<'_>]) -> Result<RecordBatch, Error> {
    let text = |of: fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<LargeStringArray>())
    };
    let count = |of: fn(&Row<'_>) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(of))) };
    let strength: Float64Array = rows.iter().map(|row| row.regime.strength).collect();
    let arrays: [ArrayRef; 11] = [
        text(|row| Some(row.item.id.clone())),
        text(|row| Some(row.axis.to_owned())),
        text(|row| Some(row.regime.name.clone())),
        count(|row| row.regime.draw),
        text(|row| Some(row.item.prompt.clone())),
        text(|row| Some(row.messages.clone())),
        text(|row| row.regime.cue.clone()),
        Arc::new(strength),
        count(|row| row.regime.variant),
        text(|row| Some(row.regime.objective.name().to_owned())),
        text(|row| row.regime.hash()),
    ];
    let mut columns: Vec<(String, ArrayRef)> = COLUMNS
        .iter()
        .zip(arrays)
        .map(|((name, _), array)| ((*name).to_owned(), array))
        .collect();
    let position = UInt32Array::from_iter_values(rows.iter().map(|row| row.position));
    for field in other_fields(pools) {
        let of_rows = match (field.name.as_str(), field.kind) {
            // An item without a cluster is one of its own, told apart from the items of other pools.
            ("cluster", _) => text(|row| {
                Some(
                    row.item
                        .cluster
                        .clone()
                        .unwrap_or_else(|| format!("{}/{}", row.axis, row.item.id)),
                )
            }),
            (name, kind) => {
                let items = joined(pools, name, kind.unwrap_or(ColumnType::Text))?;
                take(&items, &position, None).map_err(|error| Error::internal("an item has no row").cause(error))?
            }
        };
        columns.push((field.name, of_rows));
    }
    // Nullable throughout, so that the schema depends on no value.
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .map_err(|error| Error::internal("the prompts make no table").cause(error))
}

/// A column of all pools' items, one pool after another; null where a pool has no such column.
fn joined(pools: &[Pool], name: &str, kind: ColumnType) -> Result<ArrayRef, Error> {
    let part = |pool: &Pool| match pool.cells(name) {
        Some(cells) => cells::column(kind, cells),
        None => new_null_array(&arrow_type(kind), pool.items.len()),
    };
    let parts: Vec<ArrayRef> = pools.iter().map(part).collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|error| Error::internal(format!("the column `{name}` can not be joined")).cause(error))
}
