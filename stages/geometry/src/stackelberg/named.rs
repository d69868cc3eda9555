//! The regimes, audits and types that a measured game names, which rows must have.

use fracture_stage::{Named, PathPart};

use super::PORT;
use super::forms::{Costs, Weights};
use super::measured::JOIN;
use super::parameters::{NONE, StackelbergParameters};

impl StackelbergParameters {
    /// Everything that it names.
    pub fn named(&self) -> Vec<Named> {
        let mut named = vec![Named {
            hint: Some("`truth:` says which regime shows how a model behaves in deployment".to_owned()),
            ..Named::one(PORT, "regime", &self.truth.regime, path(&["truth", "regime"]))
        }];
        let held = self.truth.held.iter();
        named.extend(held.map(|(column, value)| Named::one(PORT, column, value, path(&["truth", column]))));
        for (key, regimes) in [("regimes", &self.regimes), ("train", &self.train)] {
            for (index, regime) in regimes.iter().flatten().enumerate() {
                let mut path = path(&[key]);
                path.push(PathPart::Index(index));
                named.push(Named::one(PORT, "regime", regime, path));
            }
        }
        if let Weights::Of(map) = &self.prior {
            map.keys()
                .for_each(|kind| self.kind(kind, &["prior", kind], &mut named));
        }
        let follower = &self.follower;
        for kind in follower.by_type.keys() {
            self.kind(kind, &["follower", "by_type", kind], &mut named);
        }
        if let Costs::Of(map) = &self.audit_cost {
            map.keys()
                .for_each(|audit| self.audit(audit, &["audit_cost", audit], &mut named));
        }
        for audit in self.current.iter().flat_map(|map| map.keys()) {
            self.audit(audit, &["current", audit], &mut named);
        }
        named
    }

    /// A type: the values of its columns.
    fn kind(&self, name: &str, place: &[&str], named: &mut Vec<Named>) {
        match &self.types {
            Some(columns) => parts(columns, name, place, named),
            None => parts(&["model".to_owned()], name, place, named),
        }
    }

    /// An audit: the values of its columns. Which columns it has without `actions`, the rows decide.
    fn audit(&self, name: &str, place: &[&str], named: &mut Vec<Named>) {
        match &self.actions {
            _ if name == NONE => {}
            Some(columns) => parts(columns, name, place, named),
            // With other columns there would be what joins their values.
            None if !name.contains(JOIN) => parts(&["regime".to_owned()], name, place, named),
            None => {}
        }
    }
}

/// The values in a name, where they are told apart: a value may hold what joins them.
fn parts(columns: &[String], name: &str, place: &[&str], named: &mut Vec<Named>) {
    let values: Vec<&str> = match columns {
        [_] => vec![name],
        _ => name.split(JOIN).collect(),
    };
    if values.len() == columns.len() {
        let one = |(column, value): (&String, &str)| Named {
            is_key: true,
            ..Named::one(PORT, column, value, path(place))
        };
        named.extend(columns.iter().zip(values).map(one));
    }
}

fn path(keys: &[&str]) -> Vec<PathPart> {
    keys.iter().map(|key| PathPart::Key((*key).to_owned())).collect()
}
