//! How many rows may fail.

use std::collections::BTreeMap;

use fracture_stage::{Error, ErrorKind};

use crate::failure::{Failure, Sort};
use crate::model::Model;

/// Shares are taken of at least so many rows: one failure among the first two is no half.
const LEAST: u64 = 20;

/// The rows that landed and those that failed.
#[derive(Debug, Default)]
pub struct Budget {
    landed: u64,
    failed: BTreeMap<Sort, u64>,
}

impl Budget {
    /// A row landed.
    pub fn landed(&mut self) {
        self.landed += 1;
    }

    /// A row failed; gives the error that ends the run when too many did.
    pub fn failed(&mut self, failure: &Failure, model: &Model) -> Option<Error> {
        *self.failed.entry(failure.sort).or_default() += 1;
        let failed: u64 = self.failed.values().sum();
        let all = failed + self.landed;
        if failed as f64 <= model.max_error_rate * all.max(LEAST) as f64 {
            return None;
        }
        let mut counts: Vec<(&Sort, &u64)> = self.failed.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let reasons: Vec<String> = counts
            .into_iter()
            .map(|(sort, count)| format!("{count} × {}", sort.name()))
            .collect();
        let error = Error::new(
            ErrorKind::Environment,
            format!(
                "too many rows of the model `{}` ({} at {}) failed: {failed} of {all}, and max_error_rate is {}",
                model.shown, model.name, model.address, model.max_error_rate
            ),
        );
        Some(
            error
                .cause(reasons.join(", "))
                .cause(format!("the last one: {failure}"))
                .hint(format!(
                    "{}; rows that landed are kept, the next run asks for the others",
                    failure.hint(model)
                )),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fracture_stage::ModelSpec;
    use serde_json::json;

    fn model(rate: f64) -> Model {
        let spec = ModelSpec {
            name: "m".to_owned(),
            source: "openai://x".to_owned(),
            settings: json!({ "base_url": "http://localhost:1/v1", "max_error_rate": rate })
                .as_object()
                .cloned()
                .unwrap(),
            ..ModelSpec::default()
        };
        Model::new(&spec).unwrap()
    }

    #[test]
    fn the_budget_is_a_share_of_at_least_twenty_rows() {
        let failure = |sort| Failure::new(sort, "it broke");
        let mut strict = Budget::default();
        assert!(strict.failed(&failure(Sort::Timeout), &model(0.0)).is_some());
        let (mut budget, tenth) = (Budget::default(), model(0.1));
        assert!(budget.failed(&failure(Sort::Timeout), &tenth).is_none());
        assert!(budget.failed(&failure(Sort::Server), &tenth).is_none());
        let error = budget.failed(&failure(Sort::Server), &tenth).unwrap();
        assert_eq!(error.causes[0], "2 × server error, 1 × timeout");
        assert!(
            error.message.contains("3 of 3") && error.message.contains("http://localhost:1/v1"),
            "{error}"
        );
        let mut long = Budget::default();
        (0..97).for_each(|_| long.landed());
        for _ in 0..10 {
            assert!(long.failed(&failure(Sort::Server), &tenth).is_none());
        }
        assert!(long.failed(&failure(Sort::Server), &tenth).is_some(), "11 of 108");
    }
}
