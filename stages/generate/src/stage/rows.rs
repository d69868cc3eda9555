//! How `generate` does its work: rendered prompts to the executor, tokens to the memo, the table from tokens.

use std::collections::HashMap;
use std::sync::Arc;

use fracture_stage::stage::{RowPlan, RowState};
use fracture_stage::{Error, Executor, Inputs, Manifest, Open, Product, Request, Role, RowWise};
use serde_json::json;

use super::conversations::{Rendering, render_all};
use super::executor::GenerateExecutor;
use super::table::Table;
use super::{GenerateStage, conversations};
use crate::engine::{Engine, Options, Request as EngineRequest};
use crate::raw::RawRow;
use crate::sampler::Stream;
use crate::template::Ending;
use crate::text::Rendered;

/// The version of what a raw row means.
const ROW_VERSION: u32 = 2;

impl RowWise for GenerateStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        let settings = &self.settings;
        let mut part = |name: &str, value: serde_json::Value| manifest.part(Role::Parameter, name, &value);
        part("temperature", json!(settings.temperature));
        if settings.samples_tokens() {
            part("top_p", json!(settings.top_p));
            part("top_k", json!(settings.top_k));
            part("min_p", json!(settings.min_p));
        }
        part("repetition_penalty", json!(settings.repetition_penalty));
        part("max_new_tokens", json!(settings.max_new_tokens));
        part("stop", json!(settings.stop));
        if let Some(device) = settings.device.elsewhere() {
            part("device", json!(device));
        }
        if settings.top_logprobs > 0 {
            part("top_logprobs", json!(settings.top_logprobs));
        }
    }

    fn lineage_file(&self, role: &str) -> bool {
        // The template's work is in the rendered text, which is part of every row's key.
        role != "chat_template"
    }

    fn group(&self) -> String {
        // Whatever decoder: siblings of one model share a running batch.
        let mut group = format!("generate {}", self.model.source);
        for setting in ["file", "adapter"] {
            if let Some(value) = self.setting(setting) {
                group.push_str(&format!(" {setting} {value}"));
            }
        }
        if let Some(device) = self.settings.device.elsewhere() {
            group.push_str(&format!(" device {device}"));
        }
        group
    }

    fn unit(&self) -> &'static str {
        "tokens"
    }

    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table("prompts")?;
        let text = self.text(open.files)?;
        let prompts = render_all(
            view,
            &Rendering {
                system: self.settings.system.as_deref(),
                conversation: &|messages| text.render(messages, Ending::Answer),
                prompt: &|prompt| Ok(Rendered::plain(prompt)),
            },
        )?;
        let folded = prompts.iter().filter(|prompt| prompt.rendered.system_folded).count();
        let samples = self.settings.sample_count();
        let mut plan = RowPlan::default();
        if folded > 0 {
            plan.notes.push(format!(
                "the model `{}` has no system role: in {folded} rows that text went before the first user turn",
                self.model.name
            ));
        }
        let mut tokens: HashMap<&str, Arc<[u32]>> = HashMap::new();
        let mut parent = Vec::with_capacity(prompts.len() * samples as usize);
        for (row, prompt) in prompts.iter().enumerate() {
            let rendered = &prompt.rendered;
            let ids = match tokens.get(rendered.text.as_str()) {
                Some(ids) => Arc::clone(ids),
                None => {
                    let ids: Arc<[u32]> = text.encode(&rendered.text, rendered.add_special_tokens)?.into();
                    tokens.insert(&rendered.text, Arc::clone(&ids));
                    ids
                }
            };
            for sample in 0..samples {
                plan.rows.push(Some(plan.requests.len() as u32));
                parent.push(row as u32);
                plan.requests.push(self.request(prompt, &ids, sample));
            }
        }
        plan.parent = Some(parent);
        Ok(plan)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        let options = Options {
            device: self.settings.device,
            ..Options::of_run(open.threads)?
        };
        let engine = Engine::load(self.checkpoint(open.files)?, &self.text_options(open.files)?, options)?;
        Ok(Box::new(GenerateExecutor::new(engine, &self.model.name)))
    }

    fn finish(&self, _: &Inputs, plan: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        let text = self
            .text
            .get()
            .ok_or_else(|| Error::internal("the tokenizer was not opened before the table"))?;
        let mut table = Table::new(rows.len()).with_top(self.settings.top_logprobs);
        let samples = self.settings.sample_count();
        for (index, state) in rows.iter().enumerate() {
            let sample = index as u32 % samples;
            match state {
                RowState::Raw(raw) => {
                    let raw = RawRow::decode(raw)?;
                    let completion = text.completion(&raw.tokens, &self.settings.stop)?;
                    table.push(sample, &completion, &raw, &self.settings.strip);
                }
                RowState::Failed(error) => table.push_failed(sample, &error.message),
                RowState::Absent => return Err(Error::internal("a completion was not asked for")),
            }
        }
        table.product(plan.parent.clone(), self.settings.logprobs)
    }
}

impl GenerateStage {
    fn request(&self, prompt: &conversations::Prompt, ids: &Arc<[u32]>, sample: u32) -> Request {
        let settings = &self.settings;
        let stream = Stream::new(settings.seed, &prompt.axis, &prompt.item, sample, prompt.draw);
        let mut key = vec![u8::from(prompt.rendered.add_special_tokens)];
        key.extend((prompt.rendered.text.len() as u64).to_le_bytes());
        key.extend(prompt.rendered.text.as_bytes());
        if settings.samples_tokens() {
            key.extend(stream.0);
        }
        let request = EngineRequest {
            prompt: Arc::clone(ids),
            sampling: settings.sampling(),
            stream,
            max_new_tokens: settings.max_new_tokens,
            stop: settings.stop.clone(),
            ignore_eos: false,
        };
        Request {
            key,
            cost: ids.len() as u32 + settings.max_new_tokens,
            payload: Arc::new(request),
        }
    }
}
