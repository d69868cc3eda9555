//! What tasks have in common, made once. A stage of a hundred thousand tasks has few different parameters and tables with few
//! different columns; the time and the memory of a plan go with these, and only a small constant with the tasks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fracture_cache::ColumnType;
use fracture_stage::view::constant_type;
use fracture_stage::{Context, Declaration, Outputs, Port, Schema, Schemas, Stage};
use serde_json::Value;

use crate::columns::Arrival;
use crate::expand::{Draft, Inputs};
use crate::matrix::Variable;
use crate::pipeline::{Connection, ConstantColumn};
use crate::source::Location;
use crate::stages::StageDraft;
use crate::tree::{Node, Piece, Tree};
use crate::values::Wanted;

/// What the tasks of a stage with the same parameters and the same own variables share.
pub struct Prototype {
    /// The parameters.
    pub with: Arc<Value>,
    /// What the implementation was built with.
    pub context: Arc<Context>,
    /// The implementation.
    pub implementation: Arc<dyn Stage>,
    /// What it reads.
    pub ports: Arc<[Port]>,
    /// The constants that it adds.
    pub constants: Vec<Arc<ConstantColumn>>,
    /// The values that its parameters name.
    pub wanted: Vec<Wanted>,
    /// The variables by whose addresses it is found; they hold while it lives.
    pub _variables: Vec<Variable>,
}

/// A number for everything that is equal.
pub type Id = u32;

/// What is known of a stage while its tasks are built.
pub struct Shared {
    /// Its kind.
    pub kind: Arc<Declaration>,
    /// Where it is.
    pub at: Arc<Location>,
    /// Its parameters, when they hold for all its tasks.
    pub constant: Option<Arc<Value>>,
    /// The name of the port of each need.
    pub ports: Vec<Arc<str>>,
    /// Of each need and each of its sources: the output, and the constants that the connection adds.
    pub sources: Vec<Vec<SharedSource>>,
    /// The prototypes.
    pub prototypes: Vec<Prototype>,
    /// The layout of a task's table by its prototype, the shape of its constants and what arrives; `None` where it was
    /// said that something is wrong.
    pub typed: HashMap<Vec<Id>, Option<Id>>,
    /// The prototype by the addresses of the variables that matter to it; `None` as above.
    pub known: HashMap<Vec<usize>, Option<usize>>,
    /// Some task has no value for a variable that its parameters name; it is told once all tasks are known.
    pub lacking: bool,
    /// How often the valid rest of wrong parameters was checked.
    pub mended: usize,
    /// What arrived at the last task that was looked at, and what came of it.
    pub same: Option<Same>,
    /// What arrived at the last task.
    pub connected: Option<(Inputs, Arc<[Connection]>)>,
    /// Names of variables that the parameters mention.
    mentioned: HashSet<String>,
}

/// What arrives at a task and what comes of it. Tasks of different parameters mostly get the same as those before them.
pub struct Same {
    /// The shape of the constants, then what tells the tables that arrive apart.
    pub arriving: Vec<Id>,
    /// The tables.
    pub arrivals: Vec<Arrival>,
    /// The same, as stages see them.
    pub inputs: Schemas,
    /// The ports for which the tables are right.
    pub checked: Option<Arc<[Port]>>,
    /// The columns that a task gave, and the layout that they made.
    pub gave: Option<(Outputs<Schema>, Id)>,
}

/// What the connections from a source share.
pub struct SharedSource {
    /// The side output.
    pub output: Option<Arc<str>>,
    /// The constants that it adds.
    pub constants: Arc<[Arc<ConstantColumn>]>,
}

impl Shared {
    /// Of a stage none of whose tasks is built.
    pub fn new(stage: &StageDraft, kind: Declaration, stages: &[StageDraft]) -> Self {
        let source = |list: bool, source: &crate::stages::Reference| {
            let column = || {
                Arc::new(ConstantColumn {
                    name: "stage".to_owned(),
                    value: Value::String(stages[source.stage].name.clone()),
                    key: true,
                })
            };
            SharedSource {
                output: source.output.as_deref().map(Arc::from),
                constants: list.then(column).into_iter().collect(),
            }
        };
        let mut mentioned = HashSet::new();
        mentions(&stage.with, &mut mentioned);
        Self {
            kind: Arc::new(kind),
            at: Arc::new(stage.mark.location()),
            constant: (!stage.with.has_template()).then(|| Arc::new(stage.with.to_json())),
            ports: stage.needs.iter().map(|need| Arc::from(need.port.as_str())).collect(),
            sources: stage
                .needs
                .iter()
                .map(|need| need.sources.iter().map(|one| source(need.list, one)).collect())
                .collect(),
            prototypes: Vec::new(),
            typed: HashMap::new(),
            known: HashMap::new(),
            lacking: false,
            mended: 0,
            same: None,
            connected: None,
            mentioned,
        }
    }

    /// The variables on which the parameters and the context of a task depend.
    pub fn matters<'d>(&self, draft: &'d Draft) -> impl Iterator<Item = &'d Variable> {
        draft
            .variables
            .iter()
            .filter(|one| draft.own.contains(&one.name) || self.mentioned.contains(&*one.name))
    }

    /// The ports of an implementation, shared with the prototype before it when they are equal.
    pub fn shared_ports(&self, ports: Vec<Port>) -> Arc<[Port]> {
        match self.prototypes.last() {
            Some(before) if *before.ports == *ports => Arc::clone(&before.ports),
            _ => ports.into(),
        }
    }
}

/// The names of the variables that a tree's templates mention.
fn mentions(node: &Node, names: &mut HashSet<String>) {
    match &node.tree {
        Tree::Template(pieces) => names.extend(pieces.iter().filter_map(|piece| match piece {
            Piece::Matrix(fields, _) => fields.first().cloned(),
            Piece::Text(_) => None,
        })),
        Tree::List(items) => items.iter().for_each(|item| mentions(item, names)),
        Tree::Map(entries) => entries.iter().for_each(|entry| mentions(&entry.value, names)),
        _ => {}
    }
}

/// What a column of a constant is to its readers, whatever its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConstantShape {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether it is a key column.
    pub key: bool,
}

impl ConstantShape {
    /// The shape of a constant.
    pub fn of(constant: &ConstantColumn) -> Self {
        Self {
            name: constant.name.clone(),
            kind: constant_type(&constant.value),
            key: constant.key,
        }
    }
}

/// The columns of a task's outputs as its readers see them.
pub struct Layout {
    /// Those that are stored.
    pub schema: Arc<Outputs<Schema>>,
    /// Its constants.
    pub constants: Arc<[ConstantShape]>,
}

/// All layouts of a pipeline.
#[derive(Default)]
pub struct Layouts {
    /// Of each id.
    list: Vec<Layout>,
    ids: HashMap<(usize, Id), Id>,
    schemas: HashSet<Arc<Outputs<Schema>>>,
    shapes: Vec<Arc<[ConstantShape]>>,
    shape_ids: HashMap<Vec<u8>, Id>,
    scratch: Vec<u8>,
}

impl Layouts {
    /// The layout of an id.
    pub fn get(&self, id: Id) -> &Layout {
        &self.list[id as usize]
    }

    /// The id of the shapes of constants, in their order.
    pub fn shape(&mut self, constants: &[Arc<ConstantColumn>]) -> Id {
        self.scratch.clear();
        for constant in constants {
            // Constants are scalars, so their types are told by a byte.
            let kind = match constant_type(&constant.value) {
                ColumnType::Text => 0,
                ColumnType::Bool => 1,
                ColumnType::I64 => 2,
                ColumnType::F64 => 3,
                ColumnType::U32 => 4,
                ColumnType::U64 => 5,
                ColumnType::F32 => 6,
                ColumnType::Time => 7,
                ColumnType::ListU32 => 8,
                ColumnType::ListF32 => 9,
                ColumnType::Vector(_) => 10,
            };
            self.scratch.extend((constant.name.len() as u64).to_le_bytes());
            self.scratch.extend_from_slice(constant.name.as_bytes());
            self.scratch.extend([kind, u8::from(constant.key)]);
        }
        if let Some(id) = self.shape_ids.get(self.scratch.as_slice()) {
            return *id;
        }
        let id = self.shapes.len() as Id;
        let shapes = constants.iter().map(|constant| ConstantShape::of(constant));
        self.shapes.push(shapes.collect());
        self.shape_ids.insert(self.scratch.clone(), id);
        id
    }

    /// The id of a layout.
    pub fn layout(&mut self, schema: Outputs<Schema>, shape: Id) -> Id {
        let schema = match self.schemas.get(&schema) {
            Some(known) => Arc::clone(known),
            None => {
                let schema = Arc::new(schema);
                self.schemas.insert(Arc::clone(&schema));
                schema
            }
        };
        let constants = Arc::clone(&self.shapes[shape as usize]);
        *self.ids.entry((Arc::as_ptr(&schema).addr(), shape)).or_insert_with(|| {
            self.list.push(Layout { schema, constants });
            (self.list.len() - 1) as Id
        })
    }
}
