//! What can be told of regimes and groups before there is a row: which regimes the parameters name, and which values the
//! columns of a result can have.

use fracture_stage::{Arriving, Named, PathPart};

use super::regimes::DEPLOY;

/// The regimes that `contrasts` names; without it the one that every other is compared with.
pub fn named_regimes(port: &str, contrasts: Option<&[[String; 2]]>) -> Vec<Named> {
    let Some(contrasts) = contrasts else {
        let hint = "without `contrasts:` every regime is compared with `deploy`; say `contrasts: [[FIRST, SECOND]]`";
        return vec![Named {
            hint: Some(hint.to_owned()),
            ..Named::one(port, "regime", DEPLOY, Vec::new())
        }];
    };
    let place = |pair: usize, side: usize| {
        vec![
            PathPart::Key("contrasts".to_owned()),
            PathPart::Index(pair),
            PathPart::Index(side),
        ]
    };
    let of_pair = |(pair, regimes): (usize, &[String; 2])| {
        let one = |(side, regime): (usize, &String)| Named::one(port, "regime", regime, place(pair, side));
        regimes.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    contrasts.iter().enumerate().flat_map(of_pair).collect()
}

/// A result of groups and contrasts.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The port whose rows are grouped.
    pub port: &'a str,
    /// The group columns; `None`: key columns.
    pub by: Option<&'a [String]>,
    /// The contrasts; `None`: every regime against `deploy`, and the A/A pairs.
    pub contrasts: Option<&'a [[String; 2]]>,
}

impl Told<'_> {
    /// All values that one of its columns can have; `own` says whether it is none of a group. Group columns have values of
    /// the rows that arrive.
    pub fn values(&self, column: &str, own: bool, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let grouped = self.by.map_or(!own, |by| by.iter().any(|name| name == column));
        if grouped {
            return arriving(self.port, column);
        }
        (column == "contrast").then(|| self.contrast_names(arriving)).flatten()
    }

    fn contrast_names(&self, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let name = |first: &str, second: &str| format!("{first}->{second}");
        if let Some(contrasts) = self.contrasts {
            return Some(contrasts.iter().map(|[first, second]| name(first, second)).collect());
        }
        // Which of them are A/A pairs, only rows tell.
        let regimes = arriving(self.port, "regime")?;
        let against = |first: &String| {
            let others = regimes.iter().filter(move |second| *second != first);
            others.map(|second| name(first, second)).collect::<Vec<_>>()
        };
        Some(regimes.iter().flat_map(against).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(port: &str, column: &str) -> Option<Vec<String>> {
        assert_eq!(port, "verdicts");
        let values: &[&str] = match column {
            "regime" => &["train", "deploy"],
            "axis" => &["safety"],
            _ => return None,
        };
        Some(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn group_columns_have_the_values_that_arrive_and_contrasts_those_of_regimes() {
        let told = Told {
            port: "verdicts",
            by: None,
            contrasts: None,
        };
        let values = |told: &Told<'_>, column: &str, own: bool| told.values(column, own, &arriving);
        assert_eq!(values(&told, "axis", false), Some(vec!["safety".to_owned()]));
        assert_eq!(values(&told, "tau", true), None);
        let both = ["train->deploy", "deploy->train"].map(str::to_owned).to_vec();
        assert_eq!(values(&told, "contrast", true), Some(both));
        let by = ["tau".to_owned()];
        let contrasts = [["a".to_owned(), "b".to_owned()]];
        let told = Told {
            by: Some(&by),
            contrasts: Some(&contrasts),
            ..told
        };
        assert_eq!(values(&told, "axis", false), None);
        assert_eq!(values(&told, "contrast", true), Some(vec!["a->b".to_owned()]));
    }

    #[test]
    fn without_contrasts_deploy_must_be_there() {
        let named = named_regimes("verdicts", None);
        assert_eq!(named[0].any_of, [("deploy".to_owned(), Vec::new())]);
        let contrasts = [["train".to_owned(), "test".to_owned()]];
        let named = named_regimes("verdicts", Some(&contrasts));
        let second = &named[1].any_of[0];
        assert_eq!(
            (second.0.as_str(), second.1.last()),
            ("test", Some(&PathPart::Index(1)))
        );
    }
}
