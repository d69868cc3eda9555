//! Labels and scores from elsewhere: rows of another table that belong to the rows of this one.
//!
//! A label belongs to the rows with which it agrees in `item` and in `axis`, `regime`, `sample` and every key column that both
//! tables have. One label may belong to several judges' scores of one text; it never stands for different texts, which is an
//! error. Several people who label one text are told apart by `rater`; the majority counts, a tie counts as no label.

use std::collections::{BTreeSet, HashMap};

use arrow::array::Array;
use fracture_stage::join::{SAME_TEXT, codes, joining};
use fracture_stage::stage::Need;
use fracture_stage::view::unveiled;
use fracture_stage::{Error, View};

use crate::read;

/// The column of what people said.
pub const LABEL: &str = "unsafe_human";
/// The column that tells people apart.
pub const RATER: &str = "rater";

/// What a port of labels reads, besides its key columns.
pub fn label_needs() -> Vec<Need> {
    let mut needs = vec![Need::any("item"), Need::any(LABEL)];
    needs.extend(["axis", "regime", "sample", "draw", RATER].map(Need::optional));
    needs
}

/// What people said of each row.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The people, sorted; one without a name when there is no `rater`.
    pub raters: Vec<String>,
    /// `[raters][rows]`: 1 unsafe, 0 safe, NaN where there is no label.
    pub of_rater: Vec<Vec<f64>>,
    /// The majority of each row; NaN without a label or at a tie.
    pub majority: Vec<f64>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Labels {
    /// Joins the labels to the rows of `views`.
    ///
    /// # Errors
    /// When no label fits, one fits different texts, or one person labels a text twice.
    pub fn join(views: &[&View], labels: &[&View]) -> Result<Self, Error> {
        let rows: usize = views.iter().map(|view| view.rows()).sum();
        let columns = joining(views, labels, &[RATER])?;
        let codes = codes(views, labels, &columns)?;
        let (left, right) = codes.split_at(rows);
        // Messages speak of the columns as their user knows them.
        let spoken = || joining(&unveiled(views), &unveiled(labels), &[RATER]);
        if let Err(error) = one_text(views, left, right, &columns) {
            one_text(&unveiled(views), left, right, &spoken()?)?;
            return Err(error);
        }
        let said = read::required(read::flags(labels, LABEL)?, LABEL, labels)?;
        let rater = read::text(labels, RATER)?;
        let name = |row: usize| {
            rater
                .as_ref()
                .and_then(|names| read::at(names, row))
                .unwrap_or_default()
        };
        let raters: BTreeSet<&str> = (0..right.len()).map(name).collect();
        let raters: Vec<&str> = raters.into_iter().collect();
        let mut known: HashMap<u32, Vec<(usize, f64)>> = HashMap::new();
        for (row, code) in right.iter().enumerate().filter(|(row, _)| said.is_valid(*row)) {
            let place = raters.partition_point(|other| *other < name(row));
            let votes = known.entry(*code).or_default();
            if votes.iter().any(|(other, _)| *other == place) {
                return Err(twice(&unveiled(labels), row, rater.is_some(), &spoken()?));
            }
            votes.push((place, f64::from(u8::from(said.value(row)))));
        }
        let mut joined = Self {
            of_rater: vec![vec![f64::NAN; rows]; raters.len()],
            raters: raters.into_iter().map(str::to_owned).collect(),
            majority: vec![f64::NAN; rows],
            notes: Vec::new(),
        };
        let (mut met, mut ties) = (BTreeSet::new(), BTreeSet::new());
        for (row, code) in left.iter().enumerate() {
            let Some(votes) = known.get(code) else { continue };
            met.insert(*code);
            for &(place, vote) in votes {
                joined.of_rater[place][row] = vote;
            }
            let share = votes.iter().map(|vote| vote.1).sum::<f64>() / votes.len() as f64;
            if share == 0.5 {
                ties.insert(*code);
            } else {
                joined.majority[row] = f64::from(u8::from(share > 0.5));
            }
        }
        if met.is_empty() && !known.is_empty() && rows > 0 {
            return Err(Error::task("no label belongs to any row").hint(format!(
                "labels join by {}: their values must be the same",
                spoken()?.join(", ")
            )));
        }
        let lost = known.len() - met.len();
        joined.note(lost, "labels belong to no row");
        joined.note(
            ties.len(),
            "labelled texts have as many raters for unsafe as for safe and count as not labelled",
        );
        Ok(joined)
    }

    fn note(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.notes.push(format!("{count} {what}"));
        }
    }
}

/// Refuses a label that fits rows of different texts.
fn one_text(views: &[&View], left: &[u32], right: &[u32], joining: &[String]) -> Result<(), Error> {
    let labelled: BTreeSet<u32> = right.iter().copied().collect();
    let keys = views.iter().flat_map(|view| view.keys()).map(String::as_str);
    let mut others: Vec<&str> = ["axis", "regime", "sample"].into_iter().chain(keys).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|name| {
        !SAME_TEXT.contains(name) && read::has(views, name) && !joining.iter().any(|joined| joined == name)
    });
    for name in others {
        let Some(column) = read::text(views, name)? else {
            continue;
        };
        let mut first: HashMap<u32, Option<&str>> = HashMap::new();
        for (row, code) in left.iter().enumerate().filter(|(_, code)| labelled.contains(code)) {
            let value = read::at(&column, row);
            let known = *first.entry(*code).or_insert(value);
            if known != value {
                let say = |value: Option<&str>| value.unwrap_or("null").to_owned();
                return Err(Error::pipeline(format!(
                    "a label fits texts that differ in `{name}` ({} and {})",
                    say(known),
                    say(value)
                ))
                .hint(format!(
                    "labels join by {}; give the table of labels the column `{name}` (as one of its `keys:`)",
                    joining.join(", ")
                )));
            }
        }
    }
    Ok(())
}

/// Two labels of one person on one text.
fn twice(labels: &[&View], row: usize, rater: bool, joining: &[String]) -> Error {
    let say = |name: &String| {
        let column = read::text(labels, name).ok()??;
        Some(format!("{name} {}", read::at(&column, row)?))
    };
    let place: Vec<String> = joining.iter().filter_map(say).collect();
    let error = Error::task(format!("two labels for one text: {}", place.join(", ")));
    if rater {
        error.hint(
            "one `rater` gives one label; keep the last one, or give the labels the column that tells the texts apart",
        )
    } else {
        error.hint("labels of several people are told apart by a column `rater`")
    }
}
