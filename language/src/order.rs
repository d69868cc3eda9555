//! The order in which stages can be expanded, and cycles.

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::listing;
use crate::stages::{Reference, StageDraft};

/// The order in which stages can be expanded: each after what it needs, else as in the file. Stages on a cycle are left
/// out, and so is what needs them.
pub fn order(stages: &[StageDraft], sink: &mut Sink) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
        Cyclic,
    }
    let mut state = vec![State::New; stages.len()];
    let mut order = Vec::new();
    for start in 0..stages.len() {
        // An explicit stack: a chain of thousands of stages must not exhaust the thread's.
        let mut stack: Vec<(usize, usize)> = Vec::new();
        if state[start] == State::New {
            state[start] = State::Open;
            stack.push((start, 0));
        }
        while let Some((stage, next)) = stack.last().copied() {
            let needed = stages[stage].needs.iter().flat_map(|need| &need.sources).nth(next);
            let Some(needed) = needed else {
                if state[stage] == State::Open {
                    state[stage] = State::Done;
                    order.push(stage);
                }
                stack.pop();
                if let Some((above, _)) = stack.last()
                    && state[stage] == State::Cyclic
                    && state[*above] == State::Open
                {
                    state[*above] = State::Cyclic;
                }
                continue;
            };
            if let Some(top) = stack.last_mut() {
                top.1 += 1;
            }
            match state[needed.stage] {
                State::New => {
                    state[needed.stage] = State::Open;
                    stack.push((needed.stage, 0));
                }
                State::Open => {
                    let begin = stack.iter().position(|(one, _)| *one == needed.stage).unwrap_or(0);
                    let round: Vec<usize> = stack[begin..].iter().map(|(one, _)| *one).collect();
                    sink.push(cycle(stages, &round, needed));
                    round.iter().for_each(|one| state[*one] = State::Cyclic);
                }
                State::Cyclic if state[stage] == State::Open && !stack.iter().any(|(one, _)| *one == needed.stage) => {
                    state[stage] = State::Cyclic;
                }
                State::Cyclic | State::Done => {}
            }
        }
    }
    order
}

fn cycle(stages: &[StageDraft], round: &[usize], closing: &Reference) -> Diagnostic {
    // Told from the stage that comes first in the file, so that the words do not depend on where the search began.
    let first = round
        .iter()
        .position(|stage| Some(stage) == round.iter().min())
        .unwrap_or(0);
    let mut path: Vec<&str> = round[first..]
        .iter()
        .chain(&round[..first])
        .map(|stage| stages[*stage].name.as_str())
        .collect();
    path.push(stages[round[first]].name.as_str());
    let mut found = Diagnostic::error(format!("stages need each other: {}", path.join(" -> "))).at(
        &closing.mark,
        format!("closes the cycle of {}", listing(path[1..].iter().copied())),
    );
    for stage in round
        .iter()
        .filter(|stage| **stage != closing.stage || round.len() == 1)
    {
        found = found.also(&stages[*stage].mark, "");
    }
    found.hint("read `a -> b` as: a needs b")
}
