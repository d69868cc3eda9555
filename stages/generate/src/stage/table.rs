//! The columns that `generate` adds.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, LargeListBuilder, LargeStringArray, PrimitiveBuilder, UInt32Array};
use arrow::datatypes::{Field, Float32Type, Schema, UInt32Type};
use arrow::record_batch::RecordBatch;
use fracture_stage::{Error, Output, Outputs, Product};

use crate::raw::RawRow;
use fracture_served::ServedRow;

/// The columns, row by row.
pub struct Table {
    sample: Vec<u32>,
    completion: Vec<Option<String>>,
    reasoning: Vec<Option<String>>,
    tokens: LargeListBuilder<PrimitiveBuilder<UInt32Type>>,
    token_logprobs: LargeListBuilder<PrimitiveBuilder<Float32Type>>,
    /// How many most probable tokens are kept for each, and those.
    top: u32,
    top_tokens: LargeListBuilder<PrimitiveBuilder<UInt32Type>>,
    top_logprobs: LargeListBuilder<PrimitiveBuilder<Float32Type>>,
    logprob: Vec<Option<f64>>,
    entropy: Vec<Option<f64>>,
    finish_reason: Vec<Option<String>>,
    prompt_tokens: Vec<Option<u32>>,
    completion_tokens: Vec<Option<u32>>,
    invalid: Vec<Option<String>>,
}

impl Table {
    /// Room for so many rows.
    pub fn new(rows: usize) -> Self {
        Self {
            sample: Vec::with_capacity(rows),
            completion: Vec::with_capacity(rows),
            reasoning: Vec::with_capacity(rows),
            tokens: LargeListBuilder::new(PrimitiveBuilder::new()),
            token_logprobs: LargeListBuilder::new(PrimitiveBuilder::new()),
            top: 0,
            top_tokens: LargeListBuilder::new(PrimitiveBuilder::new()),
            top_logprobs: LargeListBuilder::new(PrimitiveBuilder::new()),
            logprob: Vec::with_capacity(rows),
            entropy: Vec::with_capacity(rows),
            finish_reason: Vec::with_capacity(rows),
            prompt_tokens: Vec::with_capacity(rows),
            completion_tokens: Vec::with_capacity(rows),
            invalid: Vec::with_capacity(rows),
        }
    }

    /// Keeps columns of so many most probable tokens; none at 0.
    pub fn with_top(mut self, top: u32) -> Self {
        self.top = top;
        self
    }

    /// Adds a generated row.
    pub fn push(&mut self, sample: u32, completion: &str, raw: &RawRow, strip: &[String]) {
        let (completion, reasoning) = split_reasoning(completion, strip);
        self.sample.push(sample);
        // An empty completion is neither safe nor unsafe: it is counted as invalid.
        self.invalid
            .push(completion.trim().is_empty().then(|| "empty completion".to_owned()));
        self.completion.push(Some(completion));
        self.reasoning.push(reasoning);
        self.tokens.values().append_slice(&raw.tokens);
        self.tokens.append(true);
        self.token_logprobs.values().append_slice(&raw.logprobs);
        self.token_logprobs.append(true);
        for (id, logprob) in &raw.top {
            self.top_tokens.values().append_value(*id);
            self.top_logprobs.values().append_value(*logprob);
        }
        self.top_tokens.append(true);
        self.top_logprobs.append(true);
        self.logprob
            .push(Some(raw.logprobs.iter().map(|logprob| f64::from(*logprob)).sum()));
        self.entropy.push(Some(f64::from(raw.entropy)));
        self.finish_reason.push(Some(raw.reason.name().to_owned()));
        self.prompt_tokens.push(Some(raw.prompt_tokens));
        self.completion_tokens.push(Some(raw.tokens.len() as u32));
    }

    /// Adds a row of a served model: what the server did not tell is null.
    pub fn push_served(&mut self, sample: u32, row: &ServedRow, stop: &[String], strip: &[String]) {
        let mut text = row.text.clone();
        if let Some(at) = stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(at);
        }
        let (completion, reasoning) = split_reasoning(&text, strip);
        let told = [row.reasoning.clone(), reasoning];
        let reasoning: Vec<String> = told.into_iter().flatten().collect();
        self.sample.push(sample);
        let empty = completion.trim().is_empty().then_some("empty completion");
        self.invalid.push(row.invalid().or(empty).map(str::to_owned));
        self.completion.push(Some(completion));
        self.reasoning
            .push((!reasoning.is_empty()).then(|| reasoning.join("\n")));
        self.tokens.append(false);
        if let Some(logprobs) = &row.logprobs {
            self.token_logprobs.values().append_slice(logprobs);
        }
        self.token_logprobs.append(row.logprobs.is_some());
        self.top_tokens.append(false);
        self.top_logprobs.append(false);
        let sum = |logprobs: &Vec<f32>| logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
        self.logprob.push(row.logprobs.as_ref().map(sum));
        self.entropy.push(None);
        self.finish_reason.push(row.finish.clone());
        self.prompt_tokens.push(row.prompt_tokens);
        self.completion_tokens.push(row.completion_tokens);
    }

    /// Adds a row that failed; the next run tries it again.
    pub fn push_failed(&mut self, sample: u32, reason: &str) {
        self.sample.push(sample);
        self.invalid.push(Some(format!("failed: {reason}")));
        self.completion.push(None);
        self.reasoning.push(None);
        self.tokens.append(false);
        self.token_logprobs.append(false);
        self.top_tokens.append(false);
        self.top_logprobs.append(false);
        self.logprob.push(None);
        self.entropy.push(None);
        self.finish_reason.push(None);
        self.prompt_tokens.push(None);
        self.completion_tokens.push(None);
    }

    /// The finished table.
    ///
    /// # Errors
    /// A defect: the columns do not make a table.
    pub fn product(mut self, parent: Option<Vec<u32>>, logprobs: bool) -> Result<Product, Error> {
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("sample", Arc::new(UInt32Array::from(self.sample))),
            ("completion", Arc::new(LargeStringArray::from(self.completion))),
            ("reasoning", Arc::new(LargeStringArray::from(self.reasoning))),
            ("tokens", Arc::new(self.tokens.finish())),
            ("logprob", Arc::new(Float64Array::from(self.logprob))),
            ("entropy", Arc::new(Float64Array::from(self.entropy))),
            ("finish_reason", Arc::new(LargeStringArray::from(self.finish_reason))),
            ("prompt_tokens", Arc::new(UInt32Array::from(self.prompt_tokens))),
            ("completion_tokens", Arc::new(UInt32Array::from(self.completion_tokens))),
            ("invalid", Arc::new(LargeStringArray::from(self.invalid))),
        ];
        if logprobs {
            columns.push(("token_logprobs", Arc::new(self.token_logprobs.finish())));
        }
        if self.top > 0 {
            columns.push(("top_tokens", Arc::new(self.top_tokens.finish())));
            columns.push(("top_logprobs", Arc::new(self.top_logprobs.finish())));
        }
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Error::internal("the completions do not make a table").cause(error))?;
        Ok(Product {
            outputs: Outputs::only(Output::Table { batch, parent }),
            notes: Vec::new(),
        })
    }
}

/// Moves the text inside `<TAG>…</TAG>` to the reasoning. A tag that is never closed (the completion was cut) takes the
/// rest: what is inside is no answer.
fn split_reasoning(completion: &str, tags: &[String]) -> (String, Option<String>) {
    let mut answer = completion.to_owned();
    let mut reasoning = Vec::new();
    for tag in tags {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        // In one pass: a server may send megabytes of tags.
        let (mut kept, mut rest) = (String::new(), answer.as_str());
        while let Some((before, inside)) = rest.split_once(&open) {
            kept.push_str(before);
            let (text, after) = inside.split_once(&close).unwrap_or((inside, ""));
            reasoning.push(text.trim().to_owned());
            rest = after;
        }
        kept.push_str(rest);
        answer = kept;
        // Some templates open the tag in the prompt, so that only its end is in the completion.
        if let Some(end) = answer.find(&close) {
            reasoning.insert(0, answer[..end].trim().to_owned());
            answer.replace_range(..end + close.len(), "");
        }
    }
    if reasoning.is_empty() {
        return (answer, None);
    }
    (answer.trim_start().to_owned(), Some(reasoning.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::split_reasoning;

    fn split(text: &str) -> (String, Option<String>) {
        split_reasoning(text, &["think".to_owned()])
    }

    #[test]
    fn reasoning_leaves_the_answer() {
        assert_eq!(
            split("<think>a b</think>\n\nYes."),
            ("Yes.".to_owned(), Some("a b".to_owned()))
        );
        assert_eq!(split("a b</think>Yes."), ("Yes.".to_owned(), Some("a b".to_owned())));
        assert_eq!(split("<think>cut off"), (String::new(), Some("cut off".to_owned())));
        assert_eq!(split(" Plain."), (" Plain.".to_owned(), None));
        assert_eq!(
            split("a<think>b</think>c<think>d</think>e"),
            ("ace".to_owned(), Some("b\nd".to_owned()))
        );
    }

    #[test]
    fn megabytes_of_tags_take_no_hours() {
        let begun = std::time::Instant::now();
        let (answer, reasoning) = split(&"<think>a</think>b".repeat(1 << 17));
        assert_eq!(
            (answer.len(), reasoning.map(|text| text.len())),
            (1 << 17, Some((2 << 17) - 1))
        );
        assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
    }
}
