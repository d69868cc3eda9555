//! The stage kind `landscape`: flips over temperature and top-p, with gradient, ridges and caps (SCIENCE.md B4;
//! operationalised here, the paper leaves its formulas open).
//!
//! Its rows are those of `fracture` with one group per decoder: the same code counts them, so that the two can not differ.
//! A landscape is what agrees in all other group columns. Cells that were not measured are not in the table; a landscape of
//! one row or of one cell has no gradient along what it lacks and no ridge there (null, not false).

mod decoders;
mod lines;
mod parameters;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_measure::rows::{Contrast, Measured, Reading, Told, by_fields, check_by, named_regimes};
use fracture_measure::{read, table};
use fracture_stage::stage::{Incoming, Keys, Need, Port, Whole, Work};
use fracture_stage::view::concat_column;
use fracture_stage::{
    Arriving, Context, Declaration, Error, Field, Files, Inputs, Kind, Manifest, Named, Open, Output, Outputs,
    ParameterError, PortName, Product, Schema, Schemas, Shape, Stage, View, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::batch::{appended, joined};
use crate::memory;
use decoders::{Decoders, Placed};
pub(crate) use parameters::DECODER;
use parameters::{LandscapeParameters, Mode};

/// The kind's semantic version.
const VERSION: u32 = 1;
const PORT: &str = "verdicts";
const SCORE: &str = "p_unsafe";
/// What the grid is over.
const AXES: [&str; 2] = ["temperature", "top_p"];
/// The flags among the columns.
const RIDGE: &str = "ridge";
const FEW: &str = "few";
const CHOSEN: &str = "chosen";

/// The declaration of `landscape`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "landscape",
        version: VERSION,
        summary: "Counts flips over temperature and top-p: where a small change of the decoder makes many, and which caps \
                  keep a risk budget.",
        shape: Shape::Reduce,
        ports: &[PortName {
            name: PORT,
            required: true,
        }],
        any_ports: false,
        side: &["caps"],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(LandscapeParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: LandscapeParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(LandscapeStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `landscape`.
struct LandscapeStage {
    parameters: LandscapeParameters,
}

impl LandscapeStage {
    fn reading<'a>(&'a self, by: Option<&'a [String]>) -> Reading<'a> {
        Reading {
            by,
            cluster: self.parameters.cluster.as_deref(),
            ..Reading::default()
        }
    }

    /// The task of kind `fracture` that counts the flips. `contrasts` are named where they are known.
    fn flips(&self, by: Option<&[String]>, contrasts: Option<&[[String; 2]]>) -> Result<Box<dyn Stage>, Error> {
        let parameters = &self.parameters;
        let mut with = json!({
            "aggregate": [parameters.aggregate],
            "confidence": parameters.confidence,
            "bootstrap": parameters.bootstrap,
            "seed": parameters.seed,
        });
        if let Some(by) = by {
            with["by"] = json!(by);
        }
        if let Some(contrasts) = contrasts {
            with["contrasts"] = json!(contrasts);
        }
        if let Some(cluster) = &parameters.cluster {
            with["cluster"] = json!(cluster);
        }
        (fracture_measure::fracture::declaration().build)(&with, &Context::default()).map_err(|errors| {
            let said: Vec<String> = errors.into_iter().map(|error| error.message).collect();
            Error::internal("the flips of a landscape can not be counted").cause(said.join("; "))
        })
    }
}

/// The group columns and the axes of the grid behind them.
fn with_axes(by: &[String]) -> Vec<String> {
    by.iter().cloned().chain(AXES.map(str::to_owned)).collect()
}

/// The schemas as the flips see them: no decoder's name, and the axes as numbers.
fn of_grid(inputs: &Schemas) -> Schemas {
    let mut grid = inputs.clone();
    for schema in grid.ports.iter_mut().flat_map(|(_, schemas)| schemas) {
        schema.keys.retain(|key| !DECODER.contains(&key.as_str()));
        schema.fields.retain(|field| !DECODER.contains(&field.name.as_str()));
        schema.fields.extend(AXES.map(|name| Field {
            name: name.to_owned(),
            kind: Some(ColumnType::F64),
        }));
    }
    grid
}

/// Behind the columns of a schema.
fn push(schema: &mut Schema, name: &str, kind: ColumnType) {
    schema.fields.push(Field {
        name: name.to_owned(),
        kind: Some(kind),
    });
}

impl Stage for LandscapeStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "landscape",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let mut needs = self.reading(self.parameters.by.as_deref()).needs();
        needs.extend([Need::any("temperature"), Need::optional("top_p")]);
        vec![Port {
            name: PORT.to_owned(),
            needs,
            keys: Keys::Values,
            all: false,
        }]
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let grid = of_grid(inputs);
        let by = by_fields(self.parameters.by.as_deref(), &grid, PORT);
        let own = lines::SHAPE.iter().map(|column| column.name);
        let caps = lines::CAPS.iter().map(|column| column.name);
        check_by(by.as_deref(), own.chain(caps).chain([RIDGE, FEW, CHOSEN]))?;
        let names: Option<Vec<String>> = by
            .as_ref()
            .map(|by| by.iter().map(|field| field.name.clone()).collect());
        let flips = self.flips(names.as_deref().map(with_axes).as_deref(), None)?;
        let mut main = flips.schema(&grid, files)?.main;
        for column in table::schema(Some(&[]), lines::SHAPE).fields {
            push(&mut main, &column.name, ColumnType::F64);
        }
        push(&mut main, RIDGE, ColumnType::Bool);
        push(&mut main, FEW, ColumnType::Bool);
        let mut caps = table::schema(by.as_deref(), lines::CAPS);
        push(&mut caps, CHOSEN, ColumnType::Bool);
        let keys = names.unwrap_or_default();
        main.keys = keys.iter().filter(|name| *name != "axis").cloned().collect();
        caps.keys = main.keys.clone();
        Ok(Outputs {
            main,
            side: vec![("caps".to_owned(), caps)],
        })
    }

    fn output_values(&self, output: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        if output.is_none() && column == "aggregate" {
            return Some(vec![self.parameters.aggregate.name().to_owned()]);
        }
        // Of the decoder only its settings are left, and those as numbers.
        let own = lines::SHAPE.iter().map(|column| column.name);
        let own = own.chain(lines::CAPS.iter().map(|column| column.name));
        let own = own.chain(fracture_measure::fracture::flips::names());
        let own = own
            .chain([RIDGE, FEW, CHOSEN])
            .chain(AXES)
            .chain(DECODER)
            .any(|own| own == column);
        let told = Told {
            port: PORT,
            by: self.parameters.by.as_deref(),
            contrasts: self.parameters.contrasts.as_deref(),
        };
        told.values(column, own, arriving)
    }

    fn named(&self) -> Vec<Named> {
        named_regimes(PORT, self.parameters.contrasts.as_deref())
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &LandscapeParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for LandscapeStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let views = inputs.tables(PORT);
        let mut notes = Vec::new();
        let decoders = Decoders::read(&views, self.parameters.by.as_deref())?;
        let by = match &self.parameters.by {
            Some(by) => by.clone(),
            None => default_by(&decoders.keys),
        };
        let grouped = with_axes(&by);
        let placed = decoders.placed(&views)?;
        let mut grid = self.grid(&views, &decoders, &placed, &by)?;
        let mut measured = Measured::load(&[&grid], &self.reading(Some(&grouped)))?;
        let twins = measured.same_but_draw();
        let mut contrasts = measured.contrasts(self.parameters.contrasts.as_deref(), &twins)?;
        let named = |measured: &Measured, contrasts: &[Contrast]| -> Vec<[String; 2]> {
            let name = |index: usize| measured.regimes[index].clone();
            contrasts.iter().map(|c| [name(c.first), name(c.second)]).collect()
        };
        let asked = named(&measured, &contrasts);
        if self.parameters.mode == Mode::Deploy {
            let greedy = greedy_regimes(&measured, &contrasts, &twins)?;
            let (rows, without) = decoders.against_greedy(&placed, &greedy);
            let regimes: Vec<&str> = greedy.iter().copied().collect();
            if let Some(lacking) = regimes.iter().find(|name| !decoders.occurs(&rows, name)) {
                let message =
                    format!("`mode: deploy` needs the regime `{lacking}` at temperature 0, where it has no row");
                return Err(Error::pipeline(message).hint("add a decoder `{ temperature: 0 }`, or say `mode: both`"));
            }
            if let Some(first) = without.first() {
                notes.push(format!(
                    "`mode: deploy`: no row of {} at temperature 0 for {} groups (the first: {}), so their items are \
                     unpaired",
                    regimes.join(", "),
                    without.len(),
                    if first.is_empty() { "all" } else { first }
                ));
            }
            grid = self.grid(&views, &decoders, &rows, &by)?;
            measured = Measured::load(&[&grid], &self.reading(Some(&grouped)))?;
            contrasts = measured.contrasts(Some(&asked), &[])?;
        }
        let flips = self.flips(Some(&grouped), Some(&asked))?;
        let counted = flips_of(flips.as_ref(), &grid, open)?;
        let Output::Table { batch: flips, .. } = counted.outputs.main else {
            return Err(Error::internal("the flips of a landscape are no table"));
        };
        let shapes = lines::shapes(&measured, &contrasts, &self.parameters, open)?;
        notes.extend(counted.notes);
        notes.extend(remarks(&shapes, &measured, &self.parameters));
        let caps = caps_table(&measured, &shapes)?;
        Ok(Product {
            outputs: Outputs {
                main: table::output(with_shapes(&flips, &shapes.shapes)?),
                side: vec![("caps".to_owned(), table::output(caps))],
            },
            notes,
        })
    }
}

impl LandscapeStage {
    /// The rows of a grid as one table: what the flips read, under the settings that the rows count in.
    fn grid(&self, views: &[&View], decoders: &Decoders, rows: &[Placed], by: &[String]) -> Result<View, Error> {
        let index = UInt32Array::from_iter_values(rows.iter().map(|placed| placed.row));
        let mut names: Vec<String> = self
            .reading(Some(by))
            .needs()
            .into_iter()
            .map(|need| need.column)
            .collect();
        names.extend(decoders.keys.iter().cloned());
        names.sort();
        names.dedup();
        names.retain(|name| read::has(views, name) && !AXES.contains(&name.as_str()));
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for name in names {
            let column = concat_column(views, &name)?;
            let column = take(&column, &index, None)
                .map_err(|error| Error::internal(format!("column `{name}` can not be gathered")).cause(error))?;
            fields.push(ArrowField::new(name, column.data_type().clone(), true));
            arrays.push(column);
        }
        let temperature = Float64Array::from_iter_values(rows.iter().map(|placed| placed.setting.temperature()));
        let top_p: Float64Array = rows.iter().map(|placed| placed.setting.top_p()).collect();
        for (name, column) in AXES.into_iter().zip([temperature, top_p]) {
            fields.push(ArrowField::new(name, column.data_type().clone(), true));
            arrays.push(Arc::new(column));
        }
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays)
            .map_err(|error| Error::internal("the rows of a landscape do not make a table").cause(error))?;
        let keys = ["item".to_owned(), "axis".to_owned()];
        memory::view(
            &batch,
            keys.into_iter()
                .chain(decoders.keys.iter().cloned())
                .chain(AXES.map(str::to_owned)),
        )
    }
}

/// The key columns of a group by default: the axis, then the others by name.
fn default_by(keys: &[String]) -> Vec<String> {
    let mut by: Vec<String> = keys.to_vec();
    by.sort_by(|a, b| (a != "axis").cmp(&(b != "axis")).then_with(|| a.cmp(b)));
    by
}

/// The regimes that `mode: deploy` takes from temperature 0: those that come first in a contrast that is no A/A pair.
///
/// # Errors
/// When one of them is also what another contrast compares with.
fn greedy_regimes<'a>(
    measured: &'a Measured,
    contrasts: &[Contrast],
    twins: &[Contrast],
) -> Result<BTreeSet<&'a str>, Error> {
    let twin = |one: &Contrast| {
        let same = |pair: &Contrast| {
            [pair.first, pair.second]
                .iter()
                .all(|r| [one.first, one.second].contains(r))
        };
        twins.iter().any(same)
    };
    let compared: Vec<&Contrast> = contrasts.iter().filter(|one| !twin(one)).collect();
    let firsts: BTreeSet<usize> = compared.iter().map(|one| one.first).collect();
    if let Some(both) = compared.iter().find(|one| firsts.contains(&one.second)) {
        let name = &measured.regimes[both.second];
        return Err(Error::pipeline(format!(
            "under `mode: deploy` the regime `{name}` can not be first in one contrast and second in another"
        ))
        .hint("the first regime answers greedily, the second with the cell's decoder: make two stages"));
    }
    Ok(firsts
        .into_iter()
        .map(|regime| measured.regimes[regime].as_str())
        .collect())
}

fn flips_of(flips: &dyn Stage, grid: &View, open: &Open<'_>) -> Result<Product, Error> {
    let inputs = Inputs {
        ports: vec![(PORT.to_owned(), vec![Incoming::Table(grid.clone())])],
    };
    match flips.work() {
        Work::Whole(whole) => whole.run(&inputs, open),
        Work::Rows(_) => Err(Error::internal("flips are counted over whole tables")),
    }
}

/// The table of the flips with the shapes behind it.
fn with_shapes(flips: &RecordBatch, shapes: &[lines::Shape]) -> Result<RecordBatch, Error> {
    if flips.num_rows() != shapes.len() {
        let message = format!("a landscape of {} rows has {} shapes", flips.num_rows(), shapes.len());
        return Err(Error::internal(message));
    }
    let behind = table::batch(Vec::new(), lines::SHAPE, shapes)?;
    let ridge: BooleanArray = shapes.iter().map(lines::Shape::ridge).collect();
    let few: BooleanArray = shapes.iter().map(|shape| Some(shape.few())).collect();
    let batch = joined(flips, &behind)?;
    appended(&appended(&batch, RIDGE, Arc::new(ridge))?, FEW, Arc::new(few))
}

fn caps_table(measured: &Measured, shapes: &lines::Shapes) -> Result<RecordBatch, Error> {
    let groups = shapes.caps.iter().map(|line| shapes.landscapes[line.landscape]);
    let mut leads = table::leads(measured, groups);
    leads.truncate(leads.len().saturating_sub(AXES.len()));
    let batch = table::batch(leads, lines::CAPS, &shapes.caps)?;
    let chosen: BooleanArray = shapes.caps.iter().map(|line| Some(line.chosen)).collect();
    appended(&batch, CHOSEN, Arc::new(chosen))
}

/// What a person should know of the shapes.
fn remarks(shapes: &lines::Shapes, measured: &Measured, parameters: &LandscapeParameters) -> Vec<String> {
    let mut notes = Vec::new();
    let cells = measured.groups.len();
    if cells > 0 && shapes.landscapes.len() == cells {
        let why = if cells > 1 {
            ": a key column goes with the decoder; name the group columns without it in `by:`"
        } else {
            ": one decoder was measured"
        };
        notes.push(format!(
            "every landscape has a single cell, so there is no gradient and no ridge{why}"
        ));
    } else if cells > 0 && shapes.shapes.iter().all(|shape| shape.ridge() != Some(true)) {
        notes.push("no ridge is resolved at this number of items".to_owned());
    }
    let few = shapes.shapes.iter().filter(|shape| shape.few()).count();
    if few > 0 {
        notes.push(format!("{few} cells have fewer than 30 pairs (`few`)"));
    }
    if parameters.budget.is_empty() && cells > 0 {
        notes.push("no caps: say `budget:`, the greatest share of flips that a cap may leave".to_owned());
    }
    notes
}
