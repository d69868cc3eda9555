//! From a stage to its tasks: which combinations there are and what arrives at each. Nothing is built here.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fracture_stage::Shape;
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Sink};
use crate::join::Join;
use crate::matrix::{Binding, Combination, Matrix, Variable, canonical};
use crate::names::suggestion;
use crate::pipeline::{ConstantColumn, Task, TaskId};
use crate::stages::{NeedDraft, StageDraft};
use crate::tree::{Node, Tree, compact};

/// What is known of the tasks so far, by id.
pub struct Known<'a> {
    /// The variables of each task.
    pub variables: &'a [Arc<[Variable]>],
    /// The tasks.
    pub built: &'a [Task],
    /// The tasks of each stage.
    pub tasks: &'a [Vec<TaskId>],
    /// The stages.
    pub stages: &'a [StageDraft],
    /// Connections between tasks that the pipeline may still have.
    pub connections: usize,
}

impl<'a> Known<'a> {
    fn constants(&self, task: TaskId) -> &'a [Arc<ConstantColumn>] {
        &self.built[task.index()].constants
    }
}

/// Where an input comes from: a task and the place in the port's list of stages.
pub type Arrow = (TaskId, u32);

/// What arrives at each need of a stage, in the order of its needs.
pub type Inputs = Arc<[Vec<Arrow>]>;

/// A task before it is built.
pub struct Draft {
    /// Its variables, in canonical order; those of the task that it follows where it has none of its own.
    pub variables: Arc<[Variable]>,
    /// Which of them are the stage's own.
    pub own: Arc<[Arc<str>]>,
    /// What arrives; drafts of one stage at which the same arrives share it.
    pub inputs: Inputs,
}

/// The tasks of a stage; what is wrong goes to `sink`.
pub fn expand(stage: &StageDraft, known: &Known<'_>, room: usize, sink: &mut Sink) -> Vec<Draft> {
    let (Some(kind), Some(matrix)) = (stage.declaration, &stage.matrix) else {
        return Vec::new();
    };
    let arriving: Vec<Vec<Arrow>> = stage.needs.iter().map(|need| arrows(need, known)).collect();
    if kind.shape == Shape::Map {
        // The first port of the kind that is connected; kinds with any ports take the first that was written.
        let first = kind
            .ports
            .iter()
            .find_map(|port| stage.needs.iter().position(|need| need.port == port.name));
        if let Some(first) = first.or((!stage.needs.is_empty()).then_some(0)) {
            return map(stage, matrix, &arriving, first, known, room, sink);
        }
    }
    reduce(stage, matrix, &arriving, known, room, sink)
}

fn arrows(need: &NeedDraft, known: &Known<'_>) -> Vec<Arrow> {
    let of = |(place, source): (u32, &crate::stages::Reference)| {
        known.tasks[source.stage].iter().map(move |task| (*task, place))
    };
    (0..).zip(&need.sources).flat_map(of).collect()
}

/// The column that a list of stages adds, as a variable: it is part of the names of tasks.
fn stage_variable(name: &str, node: &Node) -> Variable {
    let json = Value::String(name.to_owned());
    let binding = Binding {
        json: json.clone(),
        node: Node::new(Tree::Text(name.to_owned()), &node.mark),
    };
    Variable::new(&Arc::from("stage"), Arc::from(name), json, binding, false)
}

fn too_many(stage: &StageDraft, count: usize, room: usize, sink: &mut Sink) -> bool {
    if count <= room {
        return false;
    }
    let wrong = Diagnostic::error(format!(
        "stage `{}` would have {count} tasks, more than the pipeline may have",
        stage.name
    ));
    let hint = "shorten a list of its matrix, `exclude` combinations, or raise the limit with `--max-tasks`";
    sink.push(
        wrong
            .at(&stage.mark, format!("there is room for {room} tasks"))
            .hint(hint),
    );
    true
}

fn too_connected(stage: &StageDraft, count: usize, known: &Known<'_>, sink: &mut Sink) -> bool {
    if count <= known.connections {
        return false;
    }
    let wrong = Diagnostic::error(format!(
        "stage `{}` would have {count} connections or more to the tasks that it needs",
        stage.name
    ));
    let label = format!("there is room for {}", known.connections);
    sink.push(
        wrong
            .at(&stage.mark, label)
            .hint("give the stages that meet more variables in common, or reduce one of them first"),
    );
    true
}

fn map(
    stage: &StageDraft,
    matrix: &Matrix,
    arriving: &[Vec<Arrow>],
    first: usize,
    known: &Known<'_>,
    room: usize,
    sink: &mut Sink,
) -> Vec<Draft> {
    let errors = sink.errors();
    let need = &stage.needs[first];
    let base = &arriving[first];
    let inherited: HashSet<&str> = base
        .iter()
        .flat_map(|(task, _)| known.variables[task.index()].iter())
        .map(|one| &*one.name)
        .collect();
    let selecting: HashSet<&str> = matrix
        .variables
        .iter()
        .map(|own| &*own.name)
        .filter(|own| inherited.contains(own))
        .collect();
    if too_many(
        stage,
        matrix.count(&selecting).max(1).saturating_mul(base.len()),
        room,
        sink,
    ) {
        return Vec::new();
    }
    let ours: HashSet<&str> = inherited
        .iter()
        .copied()
        .chain(matrix.variables.iter().map(|own| &*own.name))
        .collect();
    let chosen = select(stage, matrix, base, &selecting, known, sink);
    let own = own_combinations(matrix, &|name| !selecting.contains(name), sink);
    let joins: Vec<Option<Join>> = arriving
        .iter()
        .enumerate()
        .map(|(place, arrows)| (place != first).then(|| Join::new(arrows, &ours, known)))
        .collect();
    let own: Vec<(Combination, Arc<[Arc<str>]>)> = own
        .into_iter()
        .map(|combination| {
            let names = combination.iter().map(|one| Arc::clone(&one.name));
            let names = names.chain(selecting.iter().map(|name| Arc::from(*name))).collect();
            (combination, names)
        })
        .collect();
    let stages: Vec<Variable> = need
        .sources
        .iter()
        .filter(|_| need.list)
        .map(|source| stage_variable(&known.stages[source.stage].name, &stage.with))
        .collect();
    let mut drafts = Vec::with_capacity(chosen.len() * own.len());
    let mut connections = 0;
    for (arrow, variables) in &chosen {
        let alone = joins.iter().all(Option::is_none).then(|| Inputs::from([vec![*arrow]]));
        for (combination, names) in &own {
            let mut all = Vec::with_capacity(variables.len() + combination.len() + stages.len());
            all.extend(variables.iter().cloned());
            if let Some(variable) = stages.get(arrow.1 as usize) {
                all.retain(|one| &*one.name != "stage");
                all.push(variable.clone());
            }
            all.extend(combination.iter().cloned());
            canonical(&mut all);
            if !inherited.is_empty() && matrix.excludes(&all) {
                continue;
            }
            let joined = |sink: &mut Sink| -> Option<Inputs> {
                let each = joins.iter().enumerate().map(|(place, join)| match join {
                    None => Some(vec![*arrow]),
                    Some(join) => join.matching(&all, &stage.needs[place], stage, known, sink),
                });
                each.collect()
            };
            let Some(inputs) = alone.clone().or_else(|| joined(sink)) else {
                return Vec::new();
            };
            connections += inputs.iter().map(Vec::len).sum::<usize>();
            if too_connected(stage, connections, known, sink) {
                return Vec::new();
            }
            let same = known.variables[arrow.0.index()].iter().map(Variable::address);
            let variables = if same.eq(all.iter().map(Variable::address)) {
                Arc::clone(&known.variables[arrow.0.index()])
            } else {
                all.into()
            };
            drafts.push(Draft {
                own: Arc::clone(names),
                variables,
                inputs,
            });
        }
    }
    if drafts.is_empty() && sink.errors() == errors {
        sink.push(
            Diagnostic::error(format!(
                "stage `{}` has no tasks: `exclude` leaves out every combination",
                stage.name
            ))
            .at(&stage.mark, ""),
        );
    }
    drafts
}

fn own_combinations(matrix: &Matrix, multiplying: &dyn Fn(&str) -> bool, sink: &mut Sink) -> Vec<Vec<Variable>> {
    let mut combinations = matrix.combinations(multiplying);
    combinations.retain(|combination| !matrix.excludes(combination));
    matrix.included(combinations, sink)
}

/// The arrows that the variables of inherited names select, with their variables. A named map of the stage's own gives its
/// own values to the names.
fn select<'a>(
    stage: &StageDraft,
    matrix: &Matrix,
    base: &[Arrow],
    selecting: &HashSet<&str>,
    known: &Known<'a>,
    sink: &mut Sink,
) -> Vec<(Arrow, Cow<'a, [Variable]>)> {
    let own = || matrix.variables.iter().filter(|own| selecting.contains(&*own.name));
    for variable in own() {
        let present: HashSet<&str> = base
            .iter()
            .filter_map(|(task, _)| {
                known.variables[task.index()]
                    .iter()
                    .find(|one| one.name == variable.name)
            })
            .map(|one| &*one.text)
            .collect();
        for value in variable.values.iter().filter(|value| !present.contains(&*value.text)) {
            let message = format!(
                "stage `{}`: no task that it needs has {}={}",
                stage.name, variable.name, value.text
            );
            let mut known: Vec<&str> = present.iter().copied().collect();
            known.sort_unstable();
            let hint = suggestion(&value.text, known, &format!("values of `{}`", variable.name));
            sink.push(Diagnostic::error(message).at(&value.binding.node.mark, hint));
        }
    }
    // Equal values stay one value, so that the tasks that they make share what they can.
    let mut rebound: HashMap<(usize, usize), Variable> = HashMap::new();
    let mut chosen = Vec::with_capacity(base.len());
    'arrows: for arrow in base {
        let mut variables = Cow::Borrowed(&*known.variables[arrow.0.index()]);
        for filter in own() {
            let Some(place) = variables.iter().position(|one| one.name == filter.name) else {
                continue;
            };
            let inherited = &variables[place];
            match filter.values.iter().find(|value| value.text == inherited.text) {
                Some(value) if value.named => {
                    let both = (inherited.address(), value.address());
                    let own = rebound.entry(both).or_insert_with(|| inherited.rebound(value)).clone();
                    variables.to_mut()[place] = own;
                }
                Some(_) => {}
                None => continue 'arrows,
            }
        }
        chosen.push((*arrow, variables));
    }
    chosen
}

fn reduce(
    stage: &StageDraft,
    matrix: &Matrix,
    arriving: &[Vec<Arrow>],
    known: &Known<'_>,
    room: usize,
    sink: &mut Sink,
) -> Vec<Draft> {
    let names = arriving
        .iter()
        .flatten()
        .flat_map(|(task, _)| known.variables[task.index()].iter());
    let inherited: HashSet<&str> = names.map(|one| &*one.name).collect();
    let selecting: HashSet<&str> = matrix
        .variables
        .iter()
        .map(|own| &*own.name)
        .filter(|own| inherited.contains(own))
        .collect();
    let errors = sink.errors();
    let having = |arrows: &Vec<Arrow>| -> Vec<Arrow> {
        let has = |task: TaskId| {
            known.variables[task.index()]
                .iter()
                .any(|one| selecting.contains(&*one.name))
        };
        arrows.iter().filter(|(task, _)| has(*task)).copied().collect()
    };
    if !selecting.is_empty() {
        let all: Vec<Arrow> = arriving.iter().flat_map(having).collect();
        select(stage, matrix, &all, &selecting, known, sink);
    }
    let filtered = |arrows: &Vec<Arrow>| -> Vec<Arrow> {
        let mut quiet = Sink::default();
        let chosen = select(stage, matrix, arrows, &selecting, known, &mut quiet);
        chosen.into_iter().map(|(arrow, _)| arrow).collect()
    };
    let arriving: Cow<'_, [Vec<Arrow>]> = if selecting.is_empty() {
        Cow::Borrowed(arriving)
    } else {
        Cow::Owned(arriving.iter().map(filtered).collect())
    };
    let groups = groups(stage, &arriving, known, sink);
    if sink.errors() > errors
        || too_many(
            stage,
            matrix.count(&selecting).max(1).saturating_mul(groups.len()),
            room,
            sink,
        )
    {
        return Vec::new();
    }
    let own = own_combinations(matrix, &|name| !selecting.contains(name), sink);
    let arrows = groups.iter().flat_map(|(_, inputs)| inputs).map(Vec::len);
    let connections = arrows.sum::<usize>().saturating_mul(own.len());
    if too_connected(stage, connections, known, sink) {
        return Vec::new();
    }
    let mut drafts = Vec::with_capacity(groups.len() * own.len());
    for (variables, inputs) in groups {
        let shared = Inputs::from(inputs);
        for combination in &own {
            let mut all = variables.clone();
            all.extend(combination.iter().cloned());
            canonical(&mut all);
            let own = combination.iter().map(|one| Arc::clone(&one.name)).collect();
            drafts.push(Draft {
                own,
                variables: all.into(),
                inputs: Arc::clone(&shared),
            });
        }
    }
    if drafts.is_empty() {
        sink.push(
            Diagnostic::error(format!(
                "stage `{}` has no tasks: `exclude` leaves out every combination",
                stage.name
            ))
            .at(&stage.mark, ""),
        );
    }
    drafts
}

type Group = (Vec<Variable>, Vec<Vec<Arrow>>);

/// One group, or one per value of `per`. A port whose tasks lack the variables joins every group.
fn groups(stage: &StageDraft, arriving: &[Vec<Arrow>], known: &Known<'_>, sink: &mut Sink) -> Vec<Group> {
    if stage.per.is_empty() {
        return vec![(Vec::new(), arriving.to_vec())];
    }
    let constant = |task: TaskId, name: &str| known.constants(task).iter().find(|one| one.name == name);
    for (name, mark) in &stage.per {
        let all = || arriving.iter().flatten();
        if !all().any(|(task, _)| constant(*task, name).is_some()) {
            let mut present: Vec<&str> = all()
                .flat_map(|(task, _)| known.constants(*task))
                .map(|one| one.name.as_str())
                .collect();
            present.sort_unstable();
            present.dedup();
            let wrong = Diagnostic::error(format!(
                "stage `{}`: `{name}` is no matrix variable or label of what it needs",
                stage.name
            ));
            let hint = "`per` makes tasks; to group the rows inside one task by a column use `by`";
            sink.push(
                wrong
                    .at(mark, suggestion(name, present, "variables and labels"))
                    .hint(hint),
            );
            return Vec::new();
        }
    }
    // Tasks share their constants, so few variables are made of them.
    let mut made: HashMap<*const ConstantColumn, Variable> = HashMap::new();
    let mut values = |task: TaskId| -> Option<Vec<Variable>> {
        let mut variable = |one: &Arc<ConstantColumn>| {
            let made = made.entry(Arc::as_ptr(one)).or_insert_with(|| per_variable(one, stage));
            made.clone()
        };
        let names = stage.per.iter().map(|(name, _)| name);
        names.map(|name| constant(task, name).map(&mut variable)).collect()
    };
    let mut order: Vec<Vec<Arc<str>>> = Vec::new();
    let mut found: HashMap<Vec<Arc<str>>, Group> = HashMap::new();
    let mut everywhere: Vec<(usize, Arrow)> = Vec::new();
    for (port, arrows) in arriving.iter().enumerate() {
        for arrow in arrows {
            let Some(variables) = values(arrow.0) else {
                everywhere.push((port, *arrow));
                continue;
            };
            let texts: Vec<Arc<str>> = variables.iter().map(|one| Arc::clone(&one.text)).collect();
            let group = found.entry(texts.clone()).or_insert_with(|| {
                order.push(texts);
                (variables, vec![Vec::new(); arriving.len()])
            });
            group.1[port].push(*arrow);
        }
    }
    for group in found.values_mut() {
        everywhere.iter().for_each(|(port, arrow)| group.1[*port].push(*arrow));
        group.1.iter_mut().for_each(|arrows| arrows.sort_unstable());
    }
    order.iter().filter_map(|texts| found.remove(texts)).collect()
}

fn per_variable(constant: &ConstantColumn, stage: &StageDraft) -> Variable {
    let text: Arc<str> = Arc::from(compact(&constant.value));
    let binding = Binding {
        json: constant.value.clone(),
        node: Node::new(Tree::Text(text.to_string()), &stage.mark),
    };
    let name = Arc::from(constant.name.as_str());
    Variable::new(&name, text, constant.value.clone(), binding, false)
}
