//! How `judge` does its work: texts to the executor, raw logits to the memo, scores from raw logits.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, LargeStringArray};
use fracture_stage::stage::{RowPlan, RowState};
use fracture_stage::{Error, Executor, Inputs, Manifest, Open, Product, Request, Role, RowWise, View};
use serde_json::json;

use super::JudgeStage;
use super::executor::{ClassifierExecutor, canaries};
use super::parameters::{EmptyParameter, Verdict};
use super::table::{Entry, Table, ValueAt, invalid, unused_cases};
use crate::classifier::{Classifier, Options};
use crate::provider::Provider;
use crate::raw::RawRow;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::score::Scoring;

/// The version of what a raw row means.
const ROW_VERSION: u32 = 1;

impl RowWise for JudgeStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        manifest.part(Role::Parameter, "max_length", &json!(self.parameters.max_length));
        manifest.part(Role::Parameter, "stride", &json!(self.parameters.stride));
        if self.parameters.provider != Provider::default() {
            manifest.part(Role::Parameter, "provider", &json!(self.parameters.provider.name()));
        }
    }

    fn group(&self) -> String {
        let (length, stride) = (self.parameters.max_length, self.parameters.stride);
        let file = self.parameters.file.as_deref().unwrap_or_default();
        let provider = self.parameters.provider.name();
        format!("judge {} {file} {provider} {length:?} {stride:?}", self.source)
    }

    fn unit(&self) -> &'static str {
        "texts"
    }

    fn plan(&self, inputs: &Inputs, _: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table("texts")?;
        let columns = self.text.columns();
        let mut names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let texts = names.len();
        if view.has("invalid") {
            names.push("invalid");
        }
        let blank = self.parameters.empty == EmptyParameter::Score;
        let mut plan = RowPlan::default();
        plan.rows.reserve_exact(view.rows());
        // By their keys: millions of rows may hold thousands of texts, and each is copied once.
        let mut requests: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut key = Vec::new();
        for stretch in view.texts(&names)? {
            let stretch = stretch?;
            let first = plan.rows.len();
            for row in 0..stretch.first().map_or(0, |column| column.len()) {
                // A row that was invalid before is not judged: an empty completion must not count as safe.
                let invalid = stretch.get(texts).is_some_and(|reasons| reasons.is_valid(row));
                let text = match invalid {
                    true => None,
                    false => self.text.at(&stretch[..texts], row, first)?,
                };
                let Some(text) = text.filter(|text| blank || !text.is_empty()) else {
                    plan.rows.push(None);
                    continue;
                };
                key.clear();
                text.write_key(&mut key);
                let request = match requests.get(&key) {
                    Some(request) => *request,
                    None => {
                        let next = plan.requests.len() as u32;
                        plan.requests.push(Request {
                            key: key.clone(),
                            cost: 1,
                            payload: Arc::new(text.to_text()),
                        });
                        requests.insert(key.clone(), next);
                        next
                    }
                };
                plan.rows.push(Some(request));
            }
        }
        Ok(plan)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        let known = self.known(open.files)?;
        let options = RuntimeOptions::from_env(open.offline);
        let runtime = Runtime::load(&options, &mut |note| (open.note)(&note.to_string()))?;
        let runtime = runtime.on(self.parameters.provider)?;
        let (max_length, stride) = (self.parameters.max_length, self.parameters.stride);
        let options = Options {
            threads: open.threads,
            max_length,
            stride,
        };
        let classifier = Classifier::load(&known.layout, &runtime, &options)?;
        if let Some(doubt) = classifier.doubt() {
            (open.note)(doubt);
        }
        let settings = format!("{max_length:?} {stride:?}");
        let canaries = canaries(
            self.parameters.canaries.as_ref(),
            &known.layout.folder,
            &self.source,
            &known.layout.files(),
            &settings,
            open.files,
        )?;
        Ok(Box::new(ClassifierExecutor::new(
            classifier,
            canaries,
            known.labels.clone(),
        )?))
    }

    fn finish(&self, inputs: &Inputs, _: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        let view = inputs.table("texts")?;
        let known = self
            .known
            .get()
            .ok_or_else(|| Error::internal("the judge was not resolved before it ran"))?;
        let scorings = Scorings::new(self, view)?;
        let invalid = invalid(view)?;
        let mut table = Table::new(&known.labels, false, rows.len());
        for (row, state) in rows.iter().enumerate() {
            match state {
                RowState::Raw(raw) => {
                    let raw = RawRow::decode(raw)?;
                    let scores = scorings
                        .of(row)
                        .apply(&raw)
                        .map_err(|error| at_row(error, view, row, &self.source))?;
                    table.push(&Entry {
                        p_unsafe: Some(scores.p_unsafe),
                        labels: &scores.labels,
                        windows: raw.logits.len() as u32,
                        truncated: raw.truncated,
                        ..Entry::default()
                    });
                }
                RowState::Failed(error) => table.push_invalid(&format!("judge failed: {}", error.message)),
                RowState::Absent => table.push_invalid(invalid.value_at(row).unwrap_or("empty text")),
            }
        }
        let mut product = table.product()?;
        product.notes.extend(unused_cases(&self.parameters, view)?);
        Ok(product)
    }
}

/// Says of which row an error speaks, as far as the row can be named.
fn at_row(error: Error, view: &View, row: usize, judge: &str) -> Error {
    let named = ["item", "axis", "regime"].iter().filter_map(|name| {
        let column = view.has(name).then(|| view.text(name).ok()).flatten()?;
        Some(format!("{name} {}", column.value_at(row)?))
    });
    let place = named.collect::<Vec<_>>().join(", ");
    error
        .context(format!("the judge `{judge}` gave no usable score ({place})"))
        .hint("the model file may be damaged or exported wrongly; score this text with the original model to compare")
}

/// The scoring of each row: that of the stage, or of the row's case.
struct Scorings {
    all: Vec<Scoring>,
    of_row: Vec<u32>,
}

impl Scorings {
    fn new(stage: &JudgeStage, view: &View) -> Result<Self, Error> {
        let known = stage
            .known
            .get()
            .ok_or_else(|| Error::internal("the judge was not resolved before it ran"))?;
        let columns: HashMap<&str, LargeStringArray> = stage
            .parameters
            .cases
            .keys()
            .map(|column| Ok((column.as_str(), view.text(column)?)))
            .collect::<Result<_, Error>>()?;
        let mut all = vec![stage.scoring(known, &Verdict::default())?];
        let mut by_cases: HashMap<Vec<usize>, u32> = HashMap::from([(Vec::new(), 0)]);
        let cases: Vec<_> = stage.cases().collect();
        let mut of_row = Vec::with_capacity(view.rows());
        for row in 0..view.rows() {
            let applies = |(column, value, _): &(&str, &str, &Verdict)| columns[column].value_at(row) == Some(*value);
            let matching: Vec<usize> = (0..cases.len()).filter(|case| applies(&cases[*case])).collect();
            let index = match by_cases.get(&matching) {
                Some(index) => *index,
                None => {
                    // Cases of several columns add up; of two that say the same thing the later column wins.
                    let merged = matching.iter().fold(Verdict::default(), |mut merged, case| {
                        let verdict = cases[*case].2;
                        merged.unsafe_labels = verdict.unsafe_labels.clone().or(merged.unsafe_labels);
                        merged.orientation = verdict.orientation.or(merged.orientation);
                        merged.reduce = verdict.reduce.or(merged.reduce);
                        merged
                    });
                    all.push(stage.scoring(known, &merged)?);
                    let index = all.len() as u32 - 1;
                    by_cases.insert(matching, index);
                    index
                }
            };
            of_row.push(index);
        }
        Ok(Self { all, of_row })
    }

    fn of(&self, row: usize) -> &Scoring {
        &self.all[self.of_row[row] as usize]
    }
}
