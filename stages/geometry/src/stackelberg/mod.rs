//! The stage kind `stackelberg`: the mix of audits that an evaluator should commit to (SCIENCE.md B6).
//!
//! The evaluator (leader) commits to shares of its audits; every type of model (follower) sees the mix and responds as is
//! best for it, ties broken for the evaluator (`value_adverse_ties` breaks them the other way). The payoffs are given, or
//! measured from verdicts. The payoffs are the user's costs: the equilibrium supports a decision and is no evidence of
//! anybody's intent.

mod forms;
mod given;
mod measured;
mod named;
mod parameters;
mod result;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::BTreeSet;

use fracture_measure::rows::{Measured, Reading};
use fracture_measure::{read, table};
use fracture_science::{AuditCosts, AuditGame, Prior, pure_payoffs, solve, value_of};
use fracture_stage::stage::{Keys, Need, Port, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Field, Files, Inputs, Kind, Manifest, Named, Open, Outputs, ParameterError, PortName,
    Product, Schema, Schemas, Shape, Stage, View, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use forms::{Costs, Weights};
use given::unsolvable;
use measured::{Measurement, Measurer};
use parameters::{NONE, StackelbergParameters};
use result::{Action, Equilibrium};

/// The kind's semantic version.
const VERSION: u32 = 1;
const PORT: &str = "verdicts";

/// The declaration of `stackelberg`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "stackelberg",
        version: VERSION,
        summary: "Finds the mix of audits to commit to when models respond to it, from given or measured payoffs.",
        shape: Shape::Reduce,
        ports: &[PortName {
            name: PORT,
            required: false,
        }],
        any_ports: false,
        side: &["summary", "responses"],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(StackelbergParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: StackelbergParameters = parse_parameters(with)?;
    let mut errors = parameters.check();
    errors.extend(parameters.payoffs.iter().flat_map(given::check));
    errors.extend(given::check_current(&parameters));
    if errors.is_empty() {
        Ok(Box::new(StackelbergStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `stackelberg`.
struct StackelbergStage {
    parameters: StackelbergParameters,
}

impl StackelbergStage {
    fn reading<'a>(&'a self, by: Option<&'a [String]>) -> Reading<'a> {
        Reading {
            by,
            cluster: self.parameters.cluster.as_deref(),
            ..Reading::default()
        }
    }

    /// The columns that are named in parameters, but for `regime`.
    fn columns(&self) -> BTreeSet<String> {
        let parameters = &self.parameters;
        let actions = parameters.actions.iter().flatten().filter(|name| *name != "regime");
        let types = parameters.types.iter().flatten();
        actions
            .chain(types)
            .chain(parameters.truth.held.keys())
            .cloned()
            .collect()
    }
}

impl Stage for StackelbergStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "stackelberg",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let mut needs = self.reading(None).needs();
        for name in self.columns() {
            if needs.iter().all(|need| need.column != name) {
                needs.push(Need::any(&name));
            }
        }
        vec![Port {
            name: PORT.to_owned(),
            needs,
            keys: Keys::Values,
            all: false,
        }]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        match (&self.parameters.payoffs, inputs.at(PORT).is_empty()) {
            (Some(_), false) => {
                return Err(
                    Error::pipeline("the game is given by `payoffs`, so no verdicts are read")
                        .hint("leave out `needs:`, or leave out `payoffs:` to measure them"),
                );
            }
            (None, true) => {
                return Err(Error::pipeline("there is no game: neither payoffs nor verdicts")
                    .hint("say `payoffs:`, or `needs:` a `threshold` stage to measure them"));
            }
            (Some(_), true) => {}
            (None, false) => read::check_number(inputs, PORT, "p_unsafe")?,
        }
        let mut responses = table::schema(Some(&[]), result::RESPONSES);
        responses.fields.push(Field {
            name: result::BINDING.to_owned(),
            kind: Some(fracture_cache::ColumnType::Bool),
        });
        let summary = table::schema(Some(&[]), result::SUMMARY);
        Ok(Outputs {
            main: table::schema(Some(&[]), result::MIX),
            side: vec![("summary".to_owned(), summary), ("responses".to_owned(), responses)],
        })
    }

    fn named(&self) -> Vec<Named> {
        match self.parameters.payoffs {
            Some(_) => Vec::new(),
            None => self.parameters.named(),
        }
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &StackelbergParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for StackelbergStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let equilibrium = match &self.parameters.payoffs {
            Some(payoffs) => given::equilibrium(payoffs, &self.parameters)?,
            None => self.measured(&inputs.tables(PORT), open)?,
        };
        equilibrium.product()
    }
}

impl StackelbergStage {
    /// Measures the payoffs and solves the game, for the data and for every draw.
    fn measured(&self, views: &[&View], open: &Open<'_>) -> Result<Equilibrium, Error> {
        let parameters = &self.parameters;
        let mut by: BTreeSet<String> = self.columns();
        let within = ["item", "regime", "draw", "sample"];
        by.extend(views.iter().flat_map(|view| view.keys()).cloned());
        by.retain(|name| !within.contains(&name.as_str()));
        let by: Vec<String> = by.into_iter().collect();
        let measured = Measured::load(views, &self.reading(Some(&by)))?;
        let options = measured::options(parameters);
        let measurement = Measurer::new(&measured, parameters)?.measure(&options, open)?;
        let game = self.game(&measurement)?;
        let current = present_mix(parameters, &measurement.audits)?;
        let normal = game.game(None).map_err(unsolvable)?;
        let normal = normal.ok_or_else(|| Error::task("an audit and a type have no valid pair"))?;
        let solution = solve(&normal).map_err(unsolvable)?;
        let worth = |mix: &Vec<f64>| value_of(&normal, mix, false, 0.0).map(|value| value.0);
        let current_value = current.as_ref().map(worth).transpose().map_err(unsolvable)?;
        open.check()?;
        let draws = game
            .draws(parameters.bootstrap as usize, current.as_deref())
            .map_err(unsolvable)?;
        Ok(Equilibrium {
            actions: actions(&measurement, &game, &normal),
            kinds: self.kinds(&measurement, &game, &normal, &solution),
            payoffs: pure_payoffs(&normal, &solution.responses).map_err(unsolvable)?,
            current,
            current_value,
            near_ties: value_of(&normal, &solution.mix, true, parameters.epsilon)
                .map_err(unsolvable)?
                .0,
            notes: self.notes(&draws),
            draws,
            confidence: parameters.confidence,
            solution,
        })
    }

    fn game(&self, measurement: &Measurement) -> Result<AuditGame, Error> {
        let parameters = &self.parameters;
        let names = |what: &str, given: &str, known: &[String]| {
            Error::pipeline(format!("there is no {what} `{given}`")).hint(format!("they are {}", known.join(", ")))
        };
        let cost = match &parameters.audit_cost {
            Costs::All(cost) => {
                let of = |name: &String| if name == NONE { 0.0 } else { *cost };
                measurement.audits.iter().map(of).collect()
            }
            Costs::Of(map) => {
                if let Some(name) = map.keys().find(|name| !measurement.audits.contains(name)) {
                    return Err(names("audit", name, &measurement.audits));
                }
                let of = |name: &String| map.get(name).copied().unwrap_or(0.0);
                measurement.audits.iter().map(of).collect()
            }
        };
        let prior = match &parameters.prior {
            Weights::Uniform => Prior::Given(vec![1.0; measurement.types.len()]),
            Weights::Flips => Prior::Flips,
            Weights::Of(map) => {
                if let Some(name) = map.keys().find(|name| !measurement.types.contains(name)) {
                    return Err(names("type", name, &measurement.types));
                }
                let weight = |name: &String| {
                    map.get(name).copied().ok_or_else(|| {
                        Error::pipeline(format!("the type `{name}` has no prior"))
                            .hint("a weight for every type; 0 leaves one out of the value")
                    })
                };
                Prior::Given(measurement.types.iter().map(weight).collect::<Result<_, _>>()?)
            }
        };
        let follower = &parameters.follower;
        Ok(AuditGame {
            watched: measurement.watched.clone(),
            cost,
            tables: measurement.tables.clone(),
            behaviours: follower.responses.iter().map(|&response| response.into()).collect(),
            costs: AuditCosts {
                harm: parameters.harm,
                disagreement: parameters.disagreement,
                gain: follower.gain,
                penalty: follower.penalty,
                effort: follower.effort,
            },
            prior,
            follower: self.given_follower(measurement)?,
        })
    }

    /// The models' given payoffs, `[type][audit][response]`.
    fn given_follower(&self, measurement: &Measurement) -> Result<Option<Vec<Vec<Vec<f64>>>>, Error> {
        let follower = &self.parameters.follower;
        let Some(all) = &follower.payoffs else { return Ok(None) };
        if let Some(name) = follower.by_type.keys().find(|name| !measurement.types.contains(name)) {
            return Err(Error::pipeline(format!("there is no type `{name}` to give payoffs to"))
                .hint(format!("the types are {}", measurement.types.join(", "))));
        }
        let of_audit = |kind: &String, audit: &String| {
            let own = follower.by_type.get(kind).and_then(|map| map.get(audit));
            let row = own.or_else(|| all.get(audit)).ok_or_else(|| {
                Error::pipeline(format!("the models' payoffs say nothing of the audit `{audit}`"))
                    .hint(format!("the audits are {}", measurement.audits.join(", ")))
            })?;
            if row.len() != follower.responses.len() {
                let message = format!(
                    "`{audit}` has {} payoffs for {} responses",
                    row.len(),
                    follower.responses.len()
                );
                return Err(Error::pipeline(message).hint("one number per response, in the order of `responses`"));
            }
            Ok(row.clone())
        };
        let of_type = |kind: &String| measurement.audits.iter().map(|audit| of_audit(kind, audit)).collect();
        let rows: Result<Vec<Vec<Vec<f64>>>, Error> = measurement.types.iter().map(of_type).collect();
        rows.map(Some)
    }

    fn kinds(
        &self,
        measurement: &Measurement,
        game: &AuditGame,
        normal: &fracture_science::Game,
        solution: &fracture_science::Solution,
    ) -> Vec<result::Kind> {
        let kind = |(i, name): (usize, &String)| result::Kind {
            name: name.clone(),
            prior: normal.types()[i].prior,
            response: self.parameters.follower.responses[solution.responses[i]]
                .name()
                .to_owned(),
            binding: solution.binding[i],
            value: solution.follower_values[i],
            response_index: Some(solution.responses[i]),
            posterior: game.posterior(i),
        };
        measurement.types.iter().enumerate().map(kind).collect()
    }

    fn notes(&self, draws: &[fracture_science::AuditDraw]) -> Vec<String> {
        let mut notes = vec![
            "the payoffs are the costs in the pipeline: the equilibrium supports a decision and is no evidence of intent"
                .to_owned(),
        ];
        let asked = self.parameters.bootstrap as usize;
        if draws.is_empty() {
            notes.push("no intervals: fewer than two clusters of items".to_owned());
        } else if draws.len() < asked {
            let lost = asked - draws.len();
            notes.push(format!(
                "{lost} of {asked} draws held no pair of some audit and type and were left out"
            ));
        }
        notes
    }
}

/// The audits with what was measured, over the types by their priors.
fn actions(measurement: &Measurement, game: &AuditGame, normal: &fracture_science::Game) -> Vec<Action> {
    let action = |(i, name): (usize, &String)| {
        let tables = &measurement.tables[i];
        let over_types = |cell: usize| {
            let of = |(table, kind): (&fracture_science::FlipDraws, &fracture_science::FollowerType)| {
                Some(kind.prior * table.shares(None)?[cell])
            };
            tables.iter().zip(normal.types()).map(of).sum::<Option<f64>>()
        };
        // Without an audit everything unsafe is missed: the table has nothing flagged.
        Action {
            name: name.clone(),
            missed: over_types(1),
            false_alarms: over_types(2),
            cost: Some(game.cost[i]),
            n: tables.iter().map(|table| table.n).sum(),
        }
    };
    measurement.audits.iter().enumerate().map(action).collect()
}

/// The user's present mix over the actions of those names.
///
/// # Errors
/// When it names another action.
fn present_mix(parameters: &StackelbergParameters, names: &[String]) -> Result<Option<Vec<f64>>, Error> {
    let Some(current) = &parameters.current else {
        return Ok(None);
    };
    if let Some(name) = current.keys().find(|name| !names.contains(name)) {
        return Err(
            Error::pipeline(format!("the present mix names `{name}`, which is no action"))
                .hint(format!("the actions are {}", names.join(", "))),
        );
    }
    Ok(Some(
        names
            .iter()
            .map(|name| current.get(name).copied().unwrap_or(0.0))
            .collect(),
    ))
}
