//! The engine as an executor.

use fracture_stage::{Error, Executor, Outcome, Progress, Request, RowError, Ticket};

use crate::engine::{Engine, Request as EngineRequest};

/// A model with its running batch, as the scheduler drives it.
pub struct GenerateExecutor {
    engine: Engine,
}

impl GenerateExecutor {
    /// An executor of a loaded engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
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
        self.engine.submit(ticket.0, request.clone())
    }

    fn step(&mut self, _: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let progress = self.engine.step(&mut |ticket, result| {
            let outcome = match result {
                Ok(finished) => Outcome::Raw(finished.row.encode()),
                Err(error) => Outcome::Failed(RowError {
                    message: error.to_string(),
                }),
            };
            done(Ticket(ticket), outcome);
        })?;
        Ok(Progress {
            active: progress.active + progress.waiting,
            units: u64::from(progress.decoded_tokens),
        })
    }
}
