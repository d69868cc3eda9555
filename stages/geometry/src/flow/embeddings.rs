//! Reads vectors, and finds the one that belongs to each verdict.
//!
//! A vector belongs to the rows with which it agrees in `item`, `axis`, `regime`, `draw`, `sample` and every key column that
//! both tables have. It may belong to several judges' verdicts on one completion.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Float32Array, LargeStringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use fracture_measure::read;
use fracture_measure::rows::Codes;
use fracture_stage::view::{concat_column, unveiled};
use fracture_stage::{Error, View};

use super::EMBEDDING;

/// Columns that join besides the key columns.
const JOINING: [&str; 5] = ["item", "axis", "regime", "draw", "sample"];

/// Vectors of one length or several, row by row.
#[derive(Debug, Default)]
pub struct Vectors {
    values: Vec<f32>,
    /// For each row where its vector lies; `None` where it has none.
    rows: Vec<Option<(usize, usize)>>,
}

impl Vectors {
    /// The vectors of all tables, in order.
    ///
    /// # Errors
    /// When the column holds no vectors.
    pub fn read(views: &[&View]) -> Result<Self, Error> {
        let mut vectors = Self::default();
        for view in views {
            let column = view.column(EMBEDDING)?;
            let lists = match column.data_type() {
                DataType::FixedSizeList(item, _) if *item.data_type() == DataType::Float32 => column.clone(),
                DataType::LargeList(item) if *item.data_type() == DataType::Float32 => column.clone(),
                // A column without a single value has no type of its own.
                _ if column.null_count() == column.len() => {
                    vectors.rows.extend((0..column.len()).map(|_| None));
                    continue;
                }
                other => {
                    return Err(Error::task(format!(
                        "column `{EMBEDDING}` is of type {other}, and a vector is needed"
                    ))
                    .hint("put an `embed` stage between the texts and this one"));
                }
            };
            for row in 0..lists.len() {
                let list = lists.is_valid(row).then(|| match lists.as_fixed_size_list_opt() {
                    Some(lists) => lists.value(row),
                    None => lists.as_list::<i64>().value(row),
                });
                vectors.push(list.as_deref());
            }
        }
        Ok(vectors)
    }

    fn push(&mut self, list: Option<&dyn Array>) {
        let values: Option<&Float32Array> = list.and_then(|list| list.as_any().downcast_ref());
        // A vector with a gap, without length or with a value that is no number lies nowhere.
        let usable = values.filter(|values| {
            let finite = values.values().iter().all(|x| x.is_finite());
            values.null_count() == 0 && finite && values.values().iter().any(|x| *x != 0.0)
        });
        self.rows.push(usable.map(|values| {
            let start = self.values.len();
            self.values.extend_from_slice(values.values());
            (start, self.values.len())
        }));
    }

    /// The vector of a row.
    pub fn row(&self, row: usize) -> Option<&[f32]> {
        let (start, end) = (*self.rows.get(row)?)?;
        Some(&self.values[start..end])
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The vectors of verdicts.
#[derive(Debug)]
pub struct Embeddings {
    vectors: Vectors,
    /// For each verdict the row of its vector.
    of_verdict: Vec<Option<u32>>,
    /// Verdicts without a row among the embeddings.
    pub missing: usize,
}

impl Embeddings {
    /// Reads the vectors of `views` and joins them to the rows of `verdicts`.
    ///
    /// # Errors
    /// When two vectors fit one verdict, or none fits any.
    pub fn read(views: &[&View], verdicts: &[&View]) -> Result<Self, Error> {
        let vectors = Vectors::read(views)?;
        let count: usize = verdicts.iter().map(|view| view.rows()).sum();
        let codes = codes(verdicts, views, &joining(verdicts, views))?;
        // Messages speak of the columns as their user knows them.
        let spoken = || joining(&unveiled(verdicts), &unveiled(views));
        let (ours, theirs) = codes.split_at(count.min(codes.len()));
        let mut known: HashMap<u32, u32> = HashMap::with_capacity(theirs.len());
        for (row, code) in theirs.iter().enumerate() {
            if let Some(before) = known.insert(*code, row as u32) {
                return Err(twice(&unveiled(views), [before as usize, row], &spoken()));
            }
        }
        let of_verdict: Vec<Option<u32>> = ours.iter().map(|code| known.get(code).copied()).collect();
        let missing = of_verdict.iter().filter(|row| row.is_none()).count();
        if missing == count && count > 0 && vectors.len() > 0 {
            return Err(Error::task("no embedding belongs to any verdict").hint(format!(
                "they join by {}: their values must be the same; embed the completions that were judged",
                spoken().join(", ")
            )));
        }
        Ok(Self {
            vectors,
            of_verdict,
            missing,
        })
    }

    /// The vector of a verdict, by its row over all tables.
    pub fn of(&self, verdict: usize) -> Option<&[f32]> {
        let row = (*self.of_verdict.get(verdict)?)?;
        self.vectors.row(row as usize)
    }
}

/// The columns that both have and that join.
fn joining(verdicts: &[&View], views: &[&View]) -> Vec<String> {
    let keys = verdicts.iter().flat_map(|view| view.keys()).map(String::as_str);
    let mut names: Vec<&str> = JOINING.iter().copied().chain(keys).collect();
    let mut seen = Vec::new();
    names.retain(|name| {
        let new = !seen.contains(name) && read::has(verdicts, name) && read::has(views, name);
        seen.push(*name);
        new
    });
    names.into_iter().map(str::to_owned).collect()
}

/// One code per row of both, first those of the verdicts: equal codes agree in all columns.
fn codes(verdicts: &[&View], views: &[&View], columns: &[String]) -> Result<Vec<u32>, Error> {
    let both: Vec<&View> = verdicts.iter().chain(views).copied().collect();
    let rows = both.iter().map(|view| view.rows()).sum();
    let mut texts = Vec::with_capacity(columns.len());
    for name in columns {
        let column = concat_column(&both, name)?;
        // `1` and `1.0` are one number.
        let column = if column.data_type().is_numeric() {
            cast(&column, &DataType::Float64)
                .map_err(|error| Error::task(format!("column `{name}` can not be compared")).cause(error))?
        } else {
            column
        };
        texts.push(read::cast::<LargeStringArray>(&column, name, &DataType::LargeUtf8)?);
    }
    Ok(Codes::all(&texts, rows).of_row)
}

/// Two vectors that nothing the verdicts know tells apart.
fn twice(views: &[&View], rows: [usize; 2], joining: &[String]) -> Error {
    let value = |name: &str, row: usize| -> Option<String> {
        let column = read::text(views, name).ok()??;
        read::at(&column, row).map(str::to_owned)
    };
    let said: Vec<String> = joining
        .iter()
        .filter_map(|name| Some(format!("{name} {}", value(name, rows[0])?)))
        .collect();
    let error = Error::task(format!("two embeddings for one completion: {}", said.join(", ")));
    let keys = views.iter().flat_map(|view| view.keys());
    let apart = keys
        .filter(|name| !joining.contains(name))
        .find(|name| value(name, rows[0]) != value(name, rows[1]));
    error.hint(match apart {
        Some(name) => format!("they differ in `{name}`, which the verdicts do not have: take one value of it"),
        None => "the same rows arrive twice: name one `embed` stage under `embeddings:`".to_owned(),
    })
}
