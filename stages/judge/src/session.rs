//! One ONNX Runtime session of a text model: which inputs and output it has, and running one batch.
//!
//! A [`Network`] is any graph over token ids; a [`Judge`] is one that gives logits.

use std::borrow::Cow;

use fracture_stage::Error;
use half::f16;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};

use crate::layout::Layout;
use crate::runtime::Runtime;
use crate::shape::{Constraints, Shape};
use crate::tokenize::{Padding, Window};

/// What a graph input is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Ids,
    Mask,
    Types,
}

impl Feed {
    fn named(name: &str) -> Option<Self> {
        match name {
            "input_ids" => Some(Self::Ids),
            "attention_mask" => Some(Self::Mask),
            "token_type_ids" => Some(Self::Types),
            _ => None,
        }
    }
}

/// A batch of windows in one shape.
pub struct Batch<'a> {
    /// The shape.
    pub shape: Shape,
    /// At most `shape.rows`, each at most `shape.length` long.
    pub windows: Vec<&'a Window>,
}

/// The outputs of a graph: name and number of dimensions, where the graph says it.
pub type GraphOutputs = [(String, Option<usize>)];

/// Chooses the output that is read from those of a graph; the text is the model's path, for the error.
pub type ChooseOutput = fn(&GraphOutputs, &str) -> Result<String, Error>;

/// A loaded graph over token ids.
pub struct Network {
    session: Session,
    feeds: Vec<(String, Feed, TensorElementType)>,
    output: String,
    constraints: Constraints,
    shown: String,
}

/// A loaded sequence classifier.
pub(crate) struct Judge {
    network: Network,
    pub(crate) constraints: Constraints,
}

impl Judge {
    /// Loads the model with `threads` threads inside each operator.
    pub(crate) fn load(
        layout: &Layout,
        runtime: &Runtime,
        threads: usize,
        weights: Option<&PrepackedWeights>,
    ) -> Result<Self, Error> {
        let network = Network::load(layout, runtime, threads, weights, logits)?;
        Ok(Self {
            constraints: network.constraints,
            network,
        })
    }

    /// The logits of each window, `[windows, labels]`.
    pub(crate) fn run(&mut self, batch: &Batch<'_>, padding: Padding) -> Result<Vec<Vec<f32>>, Error> {
        let rows = batch.shape.rows;
        let (dimensions, logits) = self.network.run(batch, padding)?;
        match dimensions[..] {
            [found, labels] if usize::try_from(found) == Ok(rows) && labels > 0 => {
                let labels = logits.len() / rows;
                Ok(logits
                    .chunks(labels)
                    .take(batch.windows.len())
                    .map(<[f32]>::to_vec)
                    .collect())
            }
            _ => Err(
                Error::input(format!("{} is no sequence classifier", self.network.shown))
                    .cause(format!(
                        "its output `{}` has the shape {dimensions:?} for {rows} texts, not [{rows}, labels]",
                        self.network.output
                    ))
                    .hint("export the model with `optimum-cli export onnx --task text-classification`"),
            ),
        }
    }
}

impl Network {
    /// Loads the model with `threads` threads inside each operator.
    ///
    /// # Errors
    /// When the runtime refuses the graph, it wants an input that no text gives, or none of its outputs will do.
    pub fn load(
        layout: &Layout,
        runtime: &Runtime,
        threads: usize,
        weights: Option<&PrepackedWeights>,
        choose: ChooseOutput,
    ) -> Result<Self, Error> {
        let shown = layout.model.display().to_string();
        let build = || -> Result<SessionBuilder, ort::Error> {
            let builder = Session::builder(runtime.environment())?
                .with_execution_providers([runtime.provider().dispatch()])?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_deterministic_compute(true)?
                // A pattern is one block for each shape that ever ran, and there are many shapes.
                .with_memory_pattern(false)?
                .with_inter_threads(1)?
                .with_intra_threads(threads)?;
            match weights {
                Some(weights) => Ok(builder.with_prepacked_weights(weights)?),
                None => Ok(builder),
            }
        };
        let session = build().and_then(|mut builder| builder.commit_from_file(&layout.model));
        let session = session.map_err(|e| refused(layout, runtime, &e))?;
        let feeds = feeds(&session, &shown)?;
        let output = choose(&outputs(&session), &shown)?;
        let constraints = Constraints {
            alone: layout.graph.batch_dependent,
            ..fixed(&session)
        };
        Ok(Self {
            session,
            feeds,
            output,
            constraints,
            shown,
        })
    }

    /// What the graph fixes of its inputs' shape.
    pub fn constraints(&self) -> Constraints {
        self.constraints
    }

    /// The dimensions and the values of the output, the rows of `batch.shape` in order, dummies included.
    ///
    /// # Errors
    /// When the session fails.
    pub fn run(&mut self, batch: &Batch<'_>, padding: Padding) -> Result<(Vec<i64>, Vec<f32>), Error> {
        let Shape { rows, length } = batch.shape;
        let failed = |e: ort::Error| {
            Error::task(format!(
                "{} fails on a batch of {rows} rows of {length} tokens",
                self.shown
            ))
            .cause(e)
        };
        let columns: Vec<Column> = self
            .feeds
            .iter()
            .map(|(_, feed, kind)| Column::new(*feed, *kind, batch, padding))
            .collect();
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(columns.len());
        for ((name, ..), column) in self.feeds.iter().zip(&columns) {
            inputs.push((Cow::from(name.as_str()), column.tensor([rows, length]).map_err(failed)?));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let value = outputs
            .get(&self.output)
            .ok_or_else(|| Error::internal("a session lost its output"))?;
        extract(value).map_err(failed)
    }
}

/// The values of one input, in the type that the graph declares.
enum Column {
    Long(Vec<i64>),
    Int(Vec<i32>),
}

impl Column {
    fn new(feed: Feed, kind: TensorElementType, batch: &Batch<'_>, padding: Padding) -> Self {
        match kind {
            TensorElementType::Int32 => Self::Int(values(feed, batch, padding, u32::cast_signed)),
            _ => Self::Long(values(feed, batch, padding, i64::from)),
        }
    }

    fn tensor(&self, shape: [usize; 2]) -> Result<SessionInputValue<'_>, ort::Error> {
        match self {
            Self::Long(values) => TensorRef::from_array_view((shape, &values[..])).map(Into::into),
            Self::Int(values) => TensorRef::from_array_view((shape, &values[..])).map(Into::into),
        }
    }
}

/// The values of one input, row by row, padded. A dummy row attends to its first token, since a softmax over nothing is NaN.
fn values<T: Copy>(feed: Feed, batch: &Batch<'_>, padding: Padding, number: fn(u32) -> T) -> Vec<T> {
    let Shape { rows, length } = batch.shape;
    let fill = number(match feed {
        Feed::Ids => padding.id,
        Feed::Mask => 0,
        Feed::Types => padding.type_id,
    });
    let mut values = vec![fill; rows * length];
    for (row, slots) in values.chunks_mut(length).enumerate() {
        let Some(window) = batch.windows.get(row) else {
            if feed == Feed::Mask {
                slots[0] = number(1);
            }
            continue;
        };
        let start = if padding.left { length - window.ids.len() } else { 0 };
        let slots = &mut slots[start..start + window.ids.len()];
        let write = |slots: &mut [T], tokens: &[u32]| {
            let slots = slots.iter_mut().zip(tokens);
            slots.for_each(|(slot, token)| *slot = number(*token));
        };
        match feed {
            Feed::Ids => write(slots, &window.ids),
            Feed::Mask => slots.fill(number(1)),
            Feed::Types => {
                // A tokenizer that gives no segments means the first.
                slots.fill(number(0));
                write(slots, &window.types);
            }
        }
    }
    values
}

fn extract(value: &DynValue) -> Result<(Vec<i64>, Vec<f32>), ort::Error> {
    if matches!(
        value.dtype(),
        ValueType::Tensor {
            ty: TensorElementType::Float16,
            ..
        }
    ) {
        let (shape, logits) = value.try_extract_tensor::<f16>()?;
        return Ok((shape.to_vec(), logits.iter().map(|logit| logit.to_f32()).collect()));
    }
    let (shape, logits) = value.try_extract_tensor::<f32>()?;
    Ok((shape.to_vec(), logits.to_vec()))
}

/// The inputs of the graph, each with what feeds it; an input that nothing feeds is an error.
fn feeds(session: &Session, shown: &str) -> Result<Vec<(String, Feed, TensorElementType)>, Error> {
    let mut feeds = Vec::new();
    for input in session.inputs() {
        let name = input.name();
        let feed = Feed::named(name).ok_or_else(|| unfed(name, shown))?;
        match input.dtype() {
            ValueType::Tensor {
                ty: ty @ (TensorElementType::Int64 | TensorElementType::Int32),
                shape,
                ..
            } if shape.len() == 2 => {
                feeds.push((name.to_owned(), feed, *ty));
            }
            other => {
                return Err(Error::input(format!("{shown} wants the input `{name}` as {other}"))
                    .cause("token ids are given as [batch, length] of int64 or int32"));
            }
        }
    }
    if feeds.iter().any(|(_, feed, _)| *feed == Feed::Ids) {
        return Ok(feeds);
    }
    Err(no_ids(shown))
}

/// Checks that a graph wants nothing that no text gives, by the names of its inputs; a session says it again.
///
/// # Errors
/// When it does, or when it does not read token ids.
pub(crate) fn check_inputs(inputs: &[String], shown: &str) -> Result<(), Error> {
    match inputs.iter().find(|name| Feed::named(name).is_none()) {
        Some(name) => Err(unfed(name, shown)),
        None if inputs.iter().any(|name| name == "input_ids") => Ok(()),
        None => Err(no_ids(shown)),
    }
}

fn unfed(name: &str, shown: &str) -> Error {
    Error::input(format!("{shown} wants the input `{name}`, which no text gives"))
        .cause("a sequence classifier takes input_ids, attention_mask and token_type_ids")
        .hint("export the model with `optimum-cli export onnx --task text-classification`")
}

fn no_ids(shown: &str) -> Error {
    Error::input(format!("{shown} has no input `input_ids`")).cause("it is no text classifier")
}

/// The outputs of the graph.
fn outputs(session: &Session) -> Vec<(String, Option<usize>)> {
    let rank = |kind: &ValueType| match kind {
        ValueType::Tensor { shape, .. } => Some(shape.len()),
        _ => None,
    };
    let outputs = session.outputs().iter();
    outputs
        .map(|output| (output.name().to_owned(), rank(output.dtype())))
        .collect()
}

/// `logits`, else the only output.
fn logits(outputs: &GraphOutputs, shown: &str) -> Result<String, Error> {
    match outputs {
        [(only, _)] => Ok(only.clone()),
        _ if outputs.iter().any(|(name, _)| name == "logits") => Ok("logits".to_owned()),
        _ => {
            let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
            Err(Error::input(format!("{shown} has no output `logits`"))
                .cause(format!("its outputs are {}", names.join(", ")))
                .hint("export the model with `optimum-cli export onnx --task text-classification`"))
        }
    }
}

/// The dimensions of `input_ids` that the graph fixes.
fn fixed(session: &Session) -> Constraints {
    let ids = session
        .inputs()
        .iter()
        .find(|input| input.name() == "input_ids")
        .map(|input| input.dtype());
    let Some(ValueType::Tensor { shape, .. }) = ids else {
        return Constraints::default();
    };
    let dimension = |at: usize| {
        shape
            .get(at)
            .copied()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
    };
    Constraints {
        rows: dimension(0),
        length: dimension(1),
        alone: false,
    }
}

fn refused(layout: &Layout, runtime: &Runtime, cause: &ort::Error) -> Error {
    let opset = layout
        .graph
        .opset()
        .map_or(String::new(), |opset| format!(", opset {opset}"));
    let mut error = Error::input(format!(
        "ONNX Runtime {} refuses {}",
        runtime.version(),
        layout.model.display()
    ))
    .cause(cause)
    .cause(format!(
        "the file has format version {}{opset}",
        layout.graph.ir_version
    ));
    let text = cause.to_string().to_lowercase();
    if text.contains("opset") || text.contains("ir version") || text.contains("ir_version") {
        error = error.hint("export the model with an older opset (optimum-cli export onnx --opset 17), or point ORT_DYLIB_PATH at a newer ONNX Runtime");
    }
    error
}
