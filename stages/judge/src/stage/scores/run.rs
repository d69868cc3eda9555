//! Which score belongs to which text.

use std::collections::HashMap;

use arrow::array::{Array, Float64Array, LargeStringArray};
use arrow::datatypes::DataType;
use fracture_stage::join::{codes, joining};
use fracture_stage::view::concat_column;
use fracture_stage::{Error, Product, View};

use super::super::parameters::EmptyParameter;
use super::super::table::{Entry, Table, ValueAt, invalid, orientations, unused_cases};
use super::{ScoresStage, USUAL};

/// The scores of all texts as a table.
pub(super) fn scores(stage: &ScoresStage, texts: &View, others: &[&View]) -> Result<Product, Error> {
    let on = columns(stage, texts, others)?;
    let joined = Joined::new(texts, others, &on)?;
    let values = Values::read(stage, others)?;
    stage.same_texts(texts, others, &joined)?;
    let invalid = invalid(texts)?;
    // An answer that is empty has no score, whatever the file says: it must not count as safe.
    let score_empty = stage.parameters.empty == EmptyParameter::Score;
    let answers = stage.text().filter(|name| !score_empty && texts.has(name));
    let answers = answers.map(|name| texts.text(name)).transpose()?;
    let is_empty = |row: usize| {
        answers
            .as_ref()
            .is_some_and(|answers| answers.value_at(row).is_none_or(|answer| answer.trim().is_empty()))
    };
    let turned = orientations(&stage.parameters, texts)?;
    let mut table = Table::new(&[], false, texts.rows());
    for (row, turned) in turned.into_iter().enumerate() {
        let score = match (invalid.value_at(row), joined.of_text[row]) {
            (Some(reason), _) => Err(reason.to_owned()),
            _ if is_empty(row) => Err("empty text".to_owned()),
            (None, None) => Err("no score".to_owned()),
            (None, Some(other)) => values.at(other).map_err(|error| joined.at(error, others, other))?,
        };
        match score {
            Ok(score) => table.push(&Entry {
                p_unsafe: Some(if turned { 1.0 - score } else { score }),
                windows: 1,
                ..Entry::default()
            }),
            Err(reason) => table.push_invalid(&reason),
        }
    }
    let mut product = table.product()?;
    product.notes.extend(unused_cases(&stage.parameters, texts)?);
    if joined.left > 0 {
        let (left, on) = (joined.left, on.join(", "));
        product
            .notes
            .push(format!("{left} scores belong to no text (they join by {on})"));
    }
    Ok(product)
}

/// The columns that join. A column that tells texts apart and that the scores lack is an error: one score would be taken
/// for that of several texts.
fn columns(stage: &ScoresStage, texts: &View, others: &[&View]) -> Result<Vec<String>, Error> {
    if !stage.parameters.on.is_empty() {
        return Ok(stage.parameters.on.clone());
    }
    let has = |name: &str| others.iter().any(|view| view.has(name));
    let score = stage.parameters.score.as_deref().into_iter().chain(USUAL);
    let never: Vec<&str> = score.chain(["invalid"]).chain(stage.text()).collect();
    let mut on = joining(&[texts], others, &never)?;
    for name in ["decoder", "model"] {
        if texts.has(name) && has(name) && !on.iter().any(|other| other == name) {
            on.push(name.to_owned());
        }
    }
    let apart = |name: &&&str| texts.has(name) && !has(name) && (**name != "model" || stage.several_models);
    if let Some(missing) = ["regime", "decoder", "model"].iter().find(apart) {
        return Err(Error::pipeline(format!(
            "the scores do not say of which `{missing}` they are: they have no column `{missing}`, and the texts do"
        ))
        .hint(format!(
            "give the table of scores that column, or say `on: [{}]` if a score holds whatever the {missing}",
            on.join(", ")
        )));
    }
    Ok(on)
}

/// Which row of the scores belongs to each text.
struct Joined {
    on: Vec<String>,
    of_text: Vec<Option<usize>>,
    /// Scores that belong to no text.
    left: usize,
}

impl Joined {
    fn new(texts: &View, others: &[&View], on: &[String]) -> Result<Self, Error> {
        let codes = codes(&[texts], others, on)?;
        let (ours, theirs) = codes.split_at(texts.rows());
        let mut joined = Self {
            on: on.to_vec(),
            of_text: Vec::new(),
            left: 0,
        };
        let mut known: HashMap<u32, usize> = HashMap::with_capacity(theirs.len());
        for (row, code) in theirs.iter().enumerate() {
            if let Some(first) = known.insert(*code, row) {
                let error = Error::task("two scores for one text").cause(format!(
                    "rows {} and {} of the scores agree in {}",
                    first + 1,
                    row + 1,
                    on.join(", ")
                ));
                return Err(joined.at(error, others, row).hint(
                    "keep one of them (`where:` of `load`), or give both tables the column that tells them apart \
                     (one of its `keys:`)",
                ));
            }
        }
        joined.of_text = ours.iter().map(|code| known.get(code).copied()).collect();
        let mut met: Vec<usize> = joined.of_text.iter().flatten().copied().collect();
        met.sort_unstable();
        met.dedup();
        joined.left = theirs.len() - met.len();
        if met.is_empty() && !ours.is_empty() {
            let show = |views: &[&View], row: usize| place(views, &joined.on, row);
            let mut error = Error::task("no score belongs to any text").cause(format!("a text: {}", show(&[texts], 0)));
            if !theirs.is_empty() {
                error = error.cause(format!("a score: {}", show(others, 0)));
            }
            return Err(error.hint(format!("they join by {}: the values must be the same", on.join(", "))));
        }
        Ok(joined)
    }

    /// Says of which score an error speaks.
    fn at(&self, error: Error, others: &[&View], row: usize) -> Error {
        error.context(format!("the score of {}", place(others, &self.on, row)))
    }
}

/// A row's values in the joining columns.
fn place(views: &[&View], on: &[String], row: usize) -> String {
    let said = on.iter().filter_map(|name| {
        let column = concat_column(views, name).ok()?;
        let column = arrow::compute::cast(&column, &DataType::LargeUtf8).ok()?;
        let column = column.as_any().downcast_ref::<LargeStringArray>()?;
        Some(format!("{name} {}", column.value_at(row).unwrap_or("null")))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// The column of scores.
struct Values {
    name: String,
    scores: Float64Array,
    /// The cells as they stand, where they are text.
    written: Option<LargeStringArray>,
    reasons: Option<LargeStringArray>,
}

impl Values {
    fn read(stage: &ScoresStage, others: &[&View]) -> Result<Self, Error> {
        let has = |name: &str| others.iter().any(|view| view.has(name));
        let given = stage.parameters.score.as_deref();
        let name = given
            .or_else(|| USUAL.into_iter().find(|name| has(name)))
            .ok_or_else(|| {
                let names: Vec<&str> = others.first().map(|view| view.names().collect()).unwrap_or_default();
                Error::pipeline("the table of scores has neither `p_unsafe` nor `score`").hint(format!(
                    "say which column it is: `score: NAME`; there are {}",
                    names.join(", ")
                ))
            })?;
        let column = concat_column(others, name)?;
        let text = |column: &arrow::array::ArrayRef| -> Result<LargeStringArray, Error> {
            let failed = |error| Error::task(format!("column `{name}` can not be read")).cause(error);
            let cast = arrow::compute::cast(column, &DataType::LargeUtf8).map_err(failed)?;
            let text = cast.as_any().downcast_ref::<LargeStringArray>().cloned();
            text.ok_or_else(|| Error::internal("a cast of another type"))
        };
        let written = matches!(column.data_type(), DataType::LargeUtf8 | DataType::Utf8);
        let written = written.then(|| text(&column)).transpose()?;
        // A cell that is no number becomes null here, and an error when a text needs it.
        let scores = arrow::compute::cast(&column, &DataType::Float64).ok();
        let scores = scores.and_then(|scores| scores.as_any().downcast_ref::<Float64Array>().cloned());
        let scores = scores.ok_or_else(|| {
            Error::task(format!(
                "column `{name}` is of type {}, which is no number",
                column.data_type()
            ))
        })?;
        let reasons = match has("invalid") {
            true => Some(text(&concat_column(others, "invalid")?)?),
            false => None,
        };
        Ok(Self {
            name: name.to_owned(),
            scores,
            written,
            reasons,
        })
    }

    /// The score in a row, or why there is none.
    fn at(&self, row: usize) -> Result<Result<f64, String>, Error> {
        if let Some(reason) = self.reasons.as_ref().and_then(|reasons| reasons.value_at(row)) {
            return Ok(Err(reason.to_owned()));
        }
        let told = |what: String| {
            Error::task(format!("column `{}` holds {what}, which is no probability", self.name))
                .hint("a score is a number from 0 (safe) to 1 (unsafe); bring others into that range first")
        };
        if self.scores.is_null(row) {
            return match self.written.as_ref().and_then(|written| written.value_at(row)) {
                Some(text) => Err(told(format!("`{text}`"))),
                None => Ok(Err("no score".to_owned())),
            };
        }
        match self.scores.value(row) {
            score if score.is_nan() => Ok(Err("the score is NaN".to_owned())),
            score if (0.0..=1.0).contains(&score) => Ok(Ok(score)),
            score => Err(told(score.to_string())),
        }
    }
}

impl ScoresStage {
    /// Where both tables hold the text, it must be the same: a score of another text is worse than none.
    fn same_texts(&self, texts: &View, others: &[&View], joined: &Joined) -> Result<(), Error> {
        let Some(name) = self.text().filter(|name| texts.has(name)) else {
            return Ok(());
        };
        if !others.iter().all(|view| view.has(name)) || joined.on.iter().any(|column| column == name) {
            return Ok(());
        }
        let ours = texts.text(name)?;
        let theirs = concat_column(others, name)?;
        let Some(theirs) = theirs.as_any().downcast_ref::<LargeStringArray>() else {
            return Ok(());
        };
        let differs = |(row, other): &(usize, usize)| {
            let (ours, theirs) = (ours.value_at(*row), theirs.value_at(*other));
            theirs.is_some() && ours != theirs
        };
        let pairs = joined.of_text.iter().enumerate();
        let mut wrong = pairs.filter_map(|(row, other)| Some((row, (*other)?))).filter(differs);
        let Some((_, first)) = wrong.next() else { return Ok(()) };
        let count = 1 + wrong.count();
        let error = Error::task(format!(
            "{count} scores are of other texts: the two tables differ in `{name}`"
        ));
        Err(joined.at(error, others, first).hint(format!(
            "score the texts of this run again, or load the scores without `{name}` if the difference does not matter"
        )))
    }
}
