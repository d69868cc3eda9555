//! Key columns that only tell a reader's inputs apart are given to it as numbers.
//!
//! A stage that groups by `axis` alone still has to know which rows are of one model, and nothing more: what the model is
//! called, what its labels are, that there is a judge with a name. So constants that no port names are taken out of the
//! views, and a key column of numbers stands for all of them together ([`fracture_stage::Keys::Apart`]). The key is made of
//! what the stage sees, so a renamed model, another judge with the same scores or a new label rerun nothing, and nothing
//! that is in no key can be in a result.
//!
//! The numbers follow what the inputs are, never their names or their order, but for inputs that are equal in all that is
//! read: there the names decide, which may cost a rerun and gives no wrong result.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fracture_stage::join::SAME_TEXT;
use fracture_stage::stage::Incoming;
use fracture_stage::{Inputs, Keys, Port, View};
use serde_json::Value;

use super::keys::describe_view;

/// An input of the port with that number.
struct Arriving<'a> {
    port: usize,
    view: &'a View,
}

/// Columns that are given as one: those that the same ports have.
struct Group {
    /// What the stand-in is called.
    name: String,
    hidden: Vec<String>,
    /// The ports that have them.
    holders: Vec<usize>,
}

/// The inputs of a stage with these ports as it sees them.
pub fn veiled(ports: &[Port], inputs: Inputs) -> Inputs {
    let mut arriving = Vec::new();
    for (place, (name, sources)) in inputs.ports.iter().enumerate() {
        let Some(port) = ports.iter().find(|port| port.name == *name) else {
            return inputs;
        };
        if port.keys != Keys::Apart {
            continue;
        }
        for source in sources {
            let Incoming::Table(view) = source else { return inputs };
            arriving.push(Arriving { port: place, view });
        }
    }
    let groups = groups(ports, &inputs, &arriving);
    if groups.is_empty() {
        return inputs;
    }
    let hidden: Vec<&str> = groups
        .iter()
        .flat_map(|group| &group.hidden)
        .map(String::as_str)
        .collect();
    let numbers: Vec<_> = groups
        .iter()
        .map(|group| (group, numbers(group, &hidden, ports, &inputs, &arriving)))
        .collect();
    let views: Vec<View> = arriving
        .iter()
        .enumerate()
        .map(|(place, one)| {
            let apart = numbers
                .iter()
                .filter_map(|(group, numbers)| Some((group.name.clone(), numbers.get(&place).copied()?)));
            one.view.veiled(&hidden, apart)
        })
        .collect();
    let mut veiled = Inputs {
        ports: inputs.ports.clone(),
    };
    let mut views = views.into_iter();
    for (place, (_, sources)) in veiled.ports.iter_mut().enumerate() {
        if arriving.iter().any(|one| one.port == place) {
            *sources = views.by_ref().take(sources.len()).map(Incoming::Table).collect();
        }
    }
    veiled
}

/// The columns that may be hidden, together where the same ports have them. Columns that never join two ports, as texts of
/// several judges are one text, stay by themselves under their names.
fn groups(ports: &[Port], inputs: &Inputs, arriving: &[Arriving<'_>]) -> Vec<Group> {
    let names: BTreeSet<&str> = arriving
        .iter()
        .flat_map(|one| one.view.keys())
        .map(String::as_str)
        .collect();
    let mut groups: BTreeMap<(Option<&str>, Vec<usize>), Vec<String>> = BTreeMap::new();
    for name in names.into_iter().filter(|name| !is_read(name, ports, inputs)) {
        if let Some(holders) = holders(name, arriving)
            && is_comparable(name, arriving)
        {
            let alone = SAME_TEXT.contains(&name).then_some(name);
            groups.entry((alone, holders)).or_default().push(name.to_owned());
        }
    }
    let all: BTreeSet<usize> = arriving.iter().map(|one| one.port).collect();
    let group = |((alone, holders), hidden): ((Option<&str>, Vec<usize>), Vec<String>)| {
        let name = match alone {
            Some(name) => name.to_owned(),
            // No column of a pipeline can have such a name.
            None if holders.len() == all.len() => "(apart)".to_owned(),
            None => {
                let named: Vec<&str> = holders.iter().map(|port| inputs.ports[*port].0.as_str()).collect();
                format!("(apart in {})", named.join(", "))
            }
        };
        Group { name, hidden, holders }
    };
    groups.into_iter().map(group).collect()
}

/// Whether a port reads a column by value.
fn is_read(name: &str, ports: &[Port], inputs: &Inputs) -> bool {
    let reads = |(port, sources): &(String, Vec<Incoming>)| {
        let Some(port) = ports.iter().find(|known| known.name == *port) else {
            return true;
        };
        let key = |source: &Incoming| match source {
            Incoming::Table(view) => view.keys().iter().any(|key| key == name),
            Incoming::Other(_) => false,
        };
        let by_value = port.keys == Keys::Values && sources.iter().any(key);
        port.all || by_value || port.needs.iter().any(|need| need.column == name)
    };
    inputs.ports.iter().any(reads)
}

/// The ports that have a column, when it is a key constant wherever it is. Inputs of such a port that lack it have null.
fn holders(name: &str, arriving: &[Arriving<'_>]) -> Option<Vec<usize>> {
    let mut holders = BTreeSet::new();
    for one in arriving.iter().filter(|one| one.view.has(name)) {
        if one.view.constant(name).is_none() || one.view.keys().iter().all(|key| key != name) {
            return None;
        }
        holders.insert(one.port);
    }
    Some(holders.into_iter().collect())
}

/// Whether the values are all texts, all numbers or all flags, so that they are equal exactly where the columns that stages
/// make of them are.
fn is_comparable(name: &str, arriving: &[Arriving<'_>]) -> bool {
    let mut classes = arriving
        .iter()
        .filter_map(|one| one.view.constant(name))
        .filter(|value| !value.is_null())
        .map(|value| match value {
            Value::String(_) => 1,
            Value::Number(_) => 2,
            Value::Bool(_) => 3,
            _ => 0,
        });
    let first = classes.next();
    first.is_none_or(|first| first > 0 && classes.all(|class| class == first))
}

/// The number of each input that has the group's columns, by its place; nothing when all are equal.
fn numbers(
    group: &Group,
    hidden: &[&str],
    ports: &[Port],
    inputs: &Inputs,
    arriving: &[Arriving<'_>],
) -> HashMap<usize, u64> {
    let value = |view: &View, name: &str| match view.constant(name) {
        Some(Value::Number(number)) => Some(number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string())),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let mut known: Vec<_> = arriving
        .iter()
        .enumerate()
        .filter(|(_, one)| group.holders.contains(&one.port))
        .map(|(place, one)| {
            let name = &inputs.ports[one.port].0;
            let port = ports.iter().find(|port| port.name == *name);
            let read = describe_view(port, &one.view.veiled(hidden, [])).to_string();
            let values: Vec<Option<String>> = group.hidden.iter().map(|name| value(one.view, name)).collect();
            (name, read, values, place)
        })
        .collect();
    known.sort();
    let mut numbers: HashMap<&[Option<String>], u64> = HashMap::new();
    let mut of_place = HashMap::with_capacity(known.len());
    for (_, _, values, place) in &known {
        let next = numbers.len() as u64;
        of_place.insert(*place, *numbers.entry(values).or_insert(next));
    }
    if numbers.len() < 2 {
        of_place.clear();
    }
    of_place
}

#[cfg(test)]
mod tests;
