//! A game whose payoffs are given.

use fracture_science::{FollowerType, Game, ScienceError, solve, value_of};
use fracture_stage::names::suggestion;
use fracture_stage::{Error, ParameterError, PathPart};

use super::parameters::{Payoffs, StackelbergParameters};
use super::result::{Action, Equilibrium, Kind};

/// Everything that is wrong with given payoffs.
pub fn check(payoffs: &Payoffs) -> Vec<ParameterError> {
    let mut errors = Vec::new();
    let at = |path: Vec<PathPart>, message: String| ParameterError {
        path,
        message,
        hint: None,
    };
    let of = |index: usize, key: &str| {
        vec![
            PathPart::Key("payoffs".to_owned()),
            PathPart::Key("types".to_owned()),
            PathPart::Index(index),
            PathPart::Key(key.to_owned()),
        ]
    };
    let Some(first) = payoffs.types.first() else {
        let path = ["payoffs", "types"].map(|key| PathPart::Key(key.to_owned()));
        return vec![at(path.into(), "a game needs at least one type".to_owned())];
    };
    let rows = payoffs.actions.as_ref().map_or(first.leader.len(), Vec::len);
    for (index, kind) in payoffs.types.iter().enumerate() {
        if payoffs.types[..index].iter().any(|other| other.name == kind.name) {
            errors.push(at(of(index, "name"), format!("`{}` is named twice", kind.name)));
        }
        let columns = match &payoffs.responses {
            Some(responses) => responses.len(),
            None => kind.leader.first().map_or(0, Vec::len),
        };
        for (key, matrix) in [("leader", &kind.leader), ("follower", &kind.follower)] {
            let wrong = matrix.iter().position(|row| row.len() != columns || row.is_empty());
            if matrix.len() != rows || matrix.is_empty() {
                let message = format!("{} rows, but the evaluator has {rows} actions", matrix.len());
                errors.push(at(of(index, key), message).hint("a row per action of the evaluator"));
            } else if let Some(row) = wrong {
                let message = format!("row {} has {} columns instead of {columns}", row + 1, matrix[row].len());
                errors.push(at(of(index, key), message).hint("a column per response of the model"));
            }
        }
    }
    errors
}

/// Actions of the present mix that a given game does not have.
pub fn check_current(parameters: &StackelbergParameters) -> Vec<ParameterError> {
    let Some(payoffs) = &parameters.payoffs else {
        return Vec::new();
    };
    let names = actions(payoffs);
    let present = parameters.current.iter().flat_map(|current| current.keys());
    let unknown = present.filter(|name| !names.contains(name));
    let error = |name: &String| {
        let error = ParameterError::at(&["current", name], format!("there is no action `{name}`"));
        error.hint(suggestion(name, names.iter().map(String::as_str), "actions"))
    };
    unknown.map(error).collect()
}

/// The names of the evaluator's actions.
fn actions(payoffs: &Payoffs) -> Vec<String> {
    let count = payoffs.types.first().map_or(0, |kind| kind.leader.len());
    let numbered = || (1..=count).map(|number| number.to_string()).collect();
    payoffs.actions.clone().unwrap_or_else(numbered)
}

/// Solves it.
///
/// # Errors
/// When it is too large, or `current` names an action that is not there.
pub fn equilibrium(payoffs: &Payoffs, parameters: &StackelbergParameters) -> Result<Equilibrium, Error> {
    let types = payoffs.types.iter().map(|kind| FollowerType {
        prior: kind.prior,
        leader: kind.leader.clone(),
        follower: kind.follower.clone(),
    });
    let game = Game::new(types.collect()).map_err(unsolvable)?;
    let names = actions(payoffs);
    let current = super::present_mix(parameters, &names)?;
    let solution = solve(&game).map_err(unsolvable)?;
    let response = |index: usize| match &payoffs.responses {
        Some(names) => names[index].clone(),
        None => (index + 1).to_string(),
    };
    let near = value_of(&game, &solution.mix, true, parameters.epsilon)
        .map_err(unsolvable)?
        .0;
    let now = match &current {
        Some(mix) => Some(value_of(&game, mix, false, 0.0).map_err(unsolvable)?.0),
        None => None,
    };
    let kinds = payoffs.types.iter().zip(game.types()).enumerate();
    let kinds = kinds.map(|(index, (given, kind))| Kind {
        name: given.name.clone(),
        prior: kind.prior,
        response: response(solution.responses[index]),
        binding: solution.binding[index],
        value: solution.follower_values[index],
        ..Kind::default()
    });
    let actions = names.into_iter().map(|name| Action {
        name,
        ..Action::default()
    });
    Ok(Equilibrium {
        kinds: kinds.collect(),
        actions: actions.collect(),
        current,
        current_value: now,
        near_ties: near,
        draws: Vec::new(),
        confidence: parameters.confidence,
        payoffs: fracture_science::pure_payoffs(&game, &solution.responses).map_err(unsolvable)?,
        solution,
        notes: Vec::new(),
    })
}

/// An error of the numbers as one of the pipeline's game.
pub fn unsolvable(error: ScienceError) -> Error {
    Error::pipeline(error.to_string())
}
