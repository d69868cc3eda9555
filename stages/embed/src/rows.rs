//! How `embed` does its work: texts to the executor, pooled vectors to the memo, the table from vectors.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, LargeStringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_judge::stage::texts;
use fracture_judge::{Runtime, RuntimeOptions, Text};
use fracture_stage::stage::{RowPlan, RowState};
use fracture_stage::{Error, Executor, Inputs, Manifest, Open, Product, Request, Role, RowWise, View};
use serde_json::json;

use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::pooling::{Pooling, normalised};
use crate::raw::RawRow;
use crate::source::Source;
use crate::stage::{EmbedStage, PORT};

/// The version of what a raw row means.
const ROW_VERSION: u32 = 1;
/// Why an empty text has no embedding.
const EMPTY: &str = "empty text";

impl RowWise for EmbedStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        manifest.part(Role::Parameter, "max_length", &json!(self.parameters.max_length));
        // Without a parameter the pooling follows from the encoder's files, which are in the lineage.
        manifest.part(
            Role::Parameter,
            "pooling",
            &json!(self.parameters.pooling.map(Pooling::name)),
        );
    }

    fn group(&self) -> String {
        let (length, pooling) = (self.parameters.max_length, self.parameters.pooling);
        let file = self.file.as_deref().unwrap_or_default();
        let adapter = self.adapter.as_deref().unwrap_or_default();
        format!("embed {} {adapter} {file} {length:?} {pooling:?}", self.source)
    }

    fn unit(&self) -> &'static str {
        "texts"
    }

    fn plan(&self, inputs: &Inputs, _: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table(PORT)?;
        let texts = self.text.texts(view)?;
        let invalid = invalid(view)?;
        let mut plan = RowPlan::default();
        let mut requests: HashMap<Text, u32> = HashMap::new();
        for (row, text) in texts.into_iter().enumerate() {
            // A row that was invalid before has no embedding either: an empty completion lies nowhere.
            let text = text.filter(|text| invalid.is_null(row) && !is_empty(text));
            plan.rows.push(text.map(|text| {
                let next = plan.requests.len() as u32;
                *requests.entry(text).or_insert_with_key(|text| {
                    plan.requests.push(Request {
                        key: texts::key(text),
                        cost: 1,
                        payload: Arc::new(text.clone()),
                    });
                    next
                })
            }));
        }
        Ok(plan)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        let known = self.known(open.files)?;
        let pooling = known.pooling(self.parameters.pooling)?;
        let max_length = self.parameters.max_length;
        match known {
            Source::Encoder(source) => {
                let options = RuntimeOptions::from_env(open.offline);
                let runtime = Runtime::load(&options, &mut |note| (open.note)(&note.to_string()))?;
                let encoder = Encoder::load(source, &runtime, open.threads, pooling, max_length)?;
                Ok(Box::new(encoder))
            }
            Source::Decoder(source) => {
                let decoder = Decoder::load(source, open.threads, pooling, max_length)?;
                Ok(Box::new(decoder))
            }
        }
    }

    fn finish(&self, inputs: &Inputs, _: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        let before = invalid(inputs.table(PORT)?)?;
        let mut table = Table::new(self.dimension()?, rows.len());
        let mut cut = 0;
        for (row, state) in rows.iter().enumerate() {
            match state {
                RowState::Raw(raw) => {
                    let raw = RawRow::decode(raw)?;
                    cut += usize::from(raw.truncated);
                    table.push(&raw.vector, self.parameters.normalize)?;
                }
                RowState::Failed(error) => table.push_invalid(&format!("encoder failed: {}", error.message)),
                RowState::Absent if before.is_valid(row) => table.push_invalid(before.value(row)),
                RowState::Absent => table.push_invalid(EMPTY),
            }
        }
        let mut product = table.product()?;
        if cut > 0 {
            let rows = rows.len();
            product.notes.push(format!(
                "{cut} of {rows} texts were longer than the encoder takes and were cut off"
            ));
        }
        Ok(product)
    }
}

/// Why rows were invalid before they came here; all null when no stage before says so.
fn invalid(view: &View) -> Result<LargeStringArray, Error> {
    if view.has("invalid") {
        return view.text("invalid");
    }
    Ok(LargeStringArray::new_null(view.rows()))
}

fn is_empty(text: &Text) -> bool {
    match text {
        Text::One(text) => text.trim().is_empty(),
        Text::Pair { response, .. } => response.trim().is_empty(),
    }
}

/// The columns that the stage adds.
struct Table {
    dimension: usize,
    values: Vec<f32>,
    invalid: Vec<Option<String>>,
}

impl Table {
    fn new(dimension: usize, rows: usize) -> Self {
        Self {
            dimension,
            values: Vec::with_capacity(rows * dimension),
            invalid: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, vector: &[f32], normalize: bool) -> Result<(), Error> {
        if vector.len() != self.dimension {
            return Err(Error::internal(format!(
                "a vector of {} values from an encoder of {}",
                vector.len(),
                self.dimension
            )));
        }
        // A vector without a direction says nothing about its text, scaled or not.
        match normalised(vector) {
            None => self.push_invalid("the encoder gave a vector of length 0"),
            Some(unit) => {
                self.values.extend(if normalize { &unit } else { vector });
                self.invalid.push(None);
            }
        }
        Ok(())
    }

    fn push_invalid(&mut self, reason: &str) {
        self.values.resize(self.values.len() + self.dimension, 0.0);
        self.invalid.push(Some(reason.to_owned()));
    }

    fn product(self) -> Result<Product, Error> {
        let failed = |error| Error::internal("the embeddings do not make a table").cause(error);
        let width = i32::try_from(self.dimension)
            .map_err(|error| Error::input("vectors that no table can hold").cause(error))?;
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let nulls: NullBuffer = self.invalid.iter().map(Option::is_none).collect();
        let values: ArrayRef = Arc::new(Float32Array::from(self.values));
        let embedding = FixedSizeListArray::try_new(item, width, values, Some(nulls)).map_err(failed)?;
        let fields = vec![
            Field::new("embedding", embedding.data_type().clone(), true),
            Field::new("invalid", DataType::LargeUtf8, true),
        ];
        let columns: Vec<ArrayRef> = vec![Arc::new(embedding), Arc::new(LargeStringArray::from(self.invalid))];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)?;
        Ok(Product::table(batch))
    }
}
