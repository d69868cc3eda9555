//! The engine as an executor.

use fracture_stage::{Error, ErrorKind, Executor, Outcome, Progress, Request, RowError, Ticket};

use crate::engine::{Engine, Request as EngineRequest};

/// A model with its running batch, as the scheduler drives it.
pub struct GenerateExecutor {
    engine: Engine,
    /// The model's name, for what goes wrong.
    model: String,
    /// Requests that the engine refused (a prompt that fills the context): they fail alone, with the next step.
    refused: Vec<(Ticket, RowError)>,
}

impl GenerateExecutor {
    /// An executor of a loaded engine.
    pub fn new(engine: Engine, model: &str) -> Self {
        Self {
            engine,
            model: model.to_owned(),
            refused: Vec::new(),
        }
    }
}

impl Executor for GenerateExecutor {
    fn room(&self) -> u32 {
        self.engine.room()
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        let request = request
            .payload
            .downcast_ref::<EngineRequest>()
            .ok_or_else(|| Error::internal("a generator was given something that is no prompt"))?;
        match self.engine.submit(ticket.0, request.clone()) {
            Err(error) if error.kind == ErrorKind::Input => {
                self.refused.push((
                    ticket,
                    RowError {
                        message: error.to_string(),
                    },
                ));
                Ok(())
            }
            other => other,
        }
    }

    fn step(&mut self, _: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        for (ticket, error) in self.refused.drain(..) {
            done(ticket, Outcome::Failed(error));
        }
        let model = &self.model;
        let progress = self.engine.step(&mut |ticket, result| {
            let outcome = match result {
                Ok(finished) => Outcome::Raw(finished.row.encode()),
                Err(error) => Outcome::Failed(RowError {
                    message: format!("model `{model}`: {error}"),
                }),
            };
            done(Ticket(ticket), outcome);
        })?;
        Ok(Progress {
            active: progress.active + progress.waiting,
            units: u64::from(progress.decoded_tokens),
        })
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        self.engine.withdraw().into_iter().map(Ticket).collect()
    }
}
