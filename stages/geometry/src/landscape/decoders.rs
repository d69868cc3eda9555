//! The decoder of every row, and the rows that a landscape is made of.
//!
//! At temperature 0 top-p has no effect. Where a matrix makes greedy decoding several times (T × top-p with a row T = 0),
//! its rows are the same answers, and one of them stands for all: the greedy cell has no top-p (null). Two sampled decoders
//! of one temperature and top-p would be one cell of the grid, so that is an error.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Float64Array, LargeStringArray};
use fracture_measure::{order, read};
use fracture_stage::{Error, View};

use super::parameters::DECODER;

/// Columns that tell the rows of one pair apart.
const WITHIN: [&str; 3] = ["regime", "draw", "sample"];

/// A decoder as the grid knows it, ordered by temperature and top-p; bits, so that it can be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    temperature: u64,
    /// `None` at temperature 0.
    top_p: Option<u64>,
}

impl Setting {
    fn new(temperature: f64, top_p: f64) -> Self {
        // Both are at least 0, where the order of bits is that of numbers; -0 is 0.
        Self {
            temperature: (temperature + 0.0).to_bits(),
            top_p: (temperature > 0.0).then_some(top_p.to_bits()),
        }
    }

    /// The temperature.
    pub fn temperature(self) -> f64 {
        f64::from_bits(self.temperature)
    }

    /// The nucleus mass; `None` at temperature 0.
    pub fn top_p(self) -> Option<f64> {
        self.top_p.map(f64::from_bits)
    }

    /// Whether decoding is greedy.
    pub fn greedy(self) -> bool {
        self.top_p.is_none()
    }
}

/// A row of a landscape: a row of the tables, under a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The number of the row over all tables.
    pub row: u32,
    /// The cell that it counts in.
    pub setting: Setting,
}

/// The rows of a port with what says which decoder made them.
pub struct Decoders {
    settings: Vec<Setting>,
    /// For each row what tells units apart beside item and decoder, as a number.
    rest: Vec<u32>,
    /// The values behind those numbers, for messages.
    rest_names: Vec<String>,
    /// For each row the decoder's key columns, as a number.
    variant: Vec<u32>,
    /// The values behind those numbers.
    variant_names: Vec<String>,
    regime: LargeStringArray,
    /// The key columns that stay, beside `item`.
    pub keys: Vec<String>,
}

impl Decoders {
    /// Reads the decoder of every row. `by` are the group columns that were asked for.
    ///
    /// # Errors
    /// When a row lacks its temperature or, being sampled, its top-p, or one is outside its range.
    pub fn read(views: &[&View], by: Option<&[String]>) -> Result<Self, Error> {
        let settings = settings(views)?;
        let all: BTreeSet<&str> = views.iter().flat_map(|view| view.keys()).map(String::as_str).collect();
        let own = |name: &str| name == "item" || WITHIN.contains(&name) || DECODER.contains(&name);
        let (mut keys, mut texts) = (Vec::new(), Vec::new());
        for name in all.iter().filter(|name| !own(name)) {
            let Some(column) = read::text(views, name)? else {
                continue;
            };
            let asked = by.is_none_or(|by| by.iter().any(|column| column == name));
            if asked || !goes_with(&column, &settings) {
                keys.push((*name).to_owned());
                texts.push(column);
            }
        }
        let mut variants = Vec::new();
        for name in DECODER.into_iter().filter(|name| all.contains(name)) {
            variants.extend(read::text(views, name)?);
        }
        let (rest, rest_names) = codes(&texts, settings.len());
        let (variant, variant_names) = codes(&variants, settings.len());
        Ok(Self {
            variant,
            variant_names,
            regime: read::required(read::text(views, "regime")?, "regime", views)?,
            settings,
            rest,
            rest_names,
            keys,
        })
    }

    /// Every row once under its own setting; of greedy rows that were made several times, one.
    ///
    /// # Errors
    /// When two decoders can not be one cell.
    pub fn placed(&self, views: &[&View]) -> Result<Vec<Placed>, Error> {
        let mut variants: BTreeMap<(u32, Setting), BTreeSet<u32>> = BTreeMap::new();
        for row in 0..self.settings.len() {
            let cell = variants.entry((self.rest[row], self.settings[row])).or_default();
            cell.insert(self.variant[row]);
        }
        let mut kept: HashMap<(u32, Setting), u32> = HashMap::new();
        let name = |variant: u32| Some(self.variant_names[variant as usize].as_str());
        for ((rest, setting), several) in &variants {
            let mut sorted: Vec<u32> = several.iter().copied().collect();
            sorted.sort_by(|a, b| order::compare(name(*a), name(*b)));
            if sorted.len() > 1 {
                if !setting.greedy() {
                    return Err(self.one_cell(*rest, *setting, [sorted[0], sorted[1]]));
                }
                for &other in &sorted[1..] {
                    if self.answers(views, *rest, sorted[0])? != self.answers(views, *rest, other)? {
                        return Err(self.one_cell(*rest, *setting, [sorted[0], other]));
                    }
                }
            }
            kept.insert((*rest, *setting), sorted[0]);
        }
        let stands = |row: &usize| kept.get(&(self.rest[*row], self.settings[*row])) == Some(&self.variant[*row]);
        Ok((0..self.settings.len())
            .filter(stands)
            .map(|row| Placed {
                row: row as u32,
                setting: self.settings[row],
            })
            .collect())
    }

    /// Whether any of the rows has the regime.
    pub fn occurs(&self, rows: &[Placed], regime: &str) -> bool {
        rows.iter()
            .any(|placed| self.regime.value(placed.row as usize) == regime)
    }

    fn one_cell(&self, rest: u32, setting: Setting, variants: [u32; 2]) -> Error {
        let [a, b] = variants.map(|variant| &self.variant_names[variant as usize]);
        let place = &self.rest_names[rest as usize];
        let at = if place.is_empty() {
            String::new()
        } else {
            format!(" ({place})")
        };
        let top_p = setting.top_p().map_or(String::new(), |p| format!(" and top-p {p}"));
        let message = format!(
            "two decoders of temperature {}{top_p} would be one cell of the landscape: `{a}` and `{b}`{at}",
            setting.temperature()
        );
        Error::pipeline(message).hint("they differ in something else (min_p, samples, …): leave one of them out")
    }

    /// What a greedy variant answered: its scores by what tells its rows apart.
    fn answers(&self, views: &[&View], rest: u32, variant: u32) -> Result<BTreeMap<Vec<String>, u64>, Error> {
        let mut columns = Vec::new();
        for name in ["item", "axis", "regime", "draw", "sample"] {
            columns.extend(read::text(views, name)?);
        }
        let scores = read::required(read::numbers(views, super::SCORE)?, super::SCORE, views)?;
        let rows = (0..self.settings.len())
            .filter(|&row| self.settings[row].greedy() && self.rest[row] == rest && self.variant[row] == variant);
        let identity = |row: usize| -> Vec<String> {
            columns
                .iter()
                .map(|column| read::at(column, row).unwrap_or("null").to_owned())
                .collect()
        };
        Ok(rows
            .map(|row| (identity(row), read::number_at(&scores, row).to_bits()))
            .collect())
    }

    /// The rows of `mode: deploy`: those of the regimes in `greedy` come from temperature 0, once for every cell in which
    /// the other regimes were measured. Returns also the groups in which no greedy row was there to take.
    pub fn against_greedy(&self, placed: &[Placed], greedy: &BTreeSet<&str>) -> (Vec<Placed>, Vec<String>) {
        let is_first = |row: u32| greedy.contains(self.regime.value(row as usize));
        let mut cells: BTreeMap<u32, BTreeSet<Setting>> = BTreeMap::new();
        let mut has_greedy: BTreeSet<u32> = BTreeSet::new();
        for one in placed {
            let rest = self.rest[one.row as usize];
            if !is_first(one.row) {
                cells.entry(rest).or_default().insert(one.setting);
            } else if one.setting.greedy() {
                has_greedy.insert(rest);
            }
        }
        let mut rows = Vec::new();
        for one in placed {
            if !is_first(one.row) {
                rows.push(*one);
            } else if one.setting.greedy() {
                let settings = cells.get(&self.rest[one.row as usize]).into_iter().flatten();
                rows.extend(settings.map(|&setting| Placed { setting, ..*one }));
            }
        }
        let without = cells.keys().filter(|rest| !has_greedy.contains(rest));
        (
            rows,
            without.map(|&rest| self.rest_names[rest as usize].clone()).collect(),
        )
    }
}

/// Rows that agree in all columns as equal numbers, and the values behind each number.
fn codes(columns: &[LargeStringArray], rows: usize) -> (Vec<u32>, Vec<String>) {
    let mut of_row = vec![0u32; rows];
    let mut examples: Vec<usize> = (0..rows.min(1)).collect();
    for column in columns {
        let mut known: HashMap<(u32, Option<&str>), u32> = HashMap::new();
        examples.clear();
        for (row, code) in of_row.iter_mut().enumerate() {
            let next = examples.len() as u32;
            *code = *known.entry((*code, read::at(column, row))).or_insert(next);
            if *code == next {
                examples.push(row);
            }
        }
    }
    let name = |&row: &usize| {
        let values = columns.iter().map(|column| read::at(column, row).unwrap_or("null"));
        values.collect::<Vec<_>>().join(", ")
    };
    (of_row, examples.iter().map(name).collect())
}

/// Whether a key column only names decoders: each of its values has one setting, and there are several settings.
fn goes_with(column: &LargeStringArray, settings: &[Setting]) -> bool {
    let mut of_value: HashMap<Option<&str>, Setting> = HashMap::new();
    let one = settings
        .iter()
        .enumerate()
        .all(|(row, setting)| *of_value.entry(read::at(column, row)).or_insert(*setting) == *setting);
    one && of_value.values().collect::<BTreeSet<_>>().len() > 1
}

fn settings(views: &[&View]) -> Result<Vec<Setting>, Error> {
    let column = |name: &str| -> Result<Float64Array, Error> {
        let column = read::required(read::numbers(views, name)?, name, views);
        column.map_err(|error| {
            let hint = "a landscape needs the decoder of every row: `generate` says it; a loaded table needs the columns \
                        `temperature` and `top_p`";
            Error {
                hint: Some(hint.to_owned()),
                ..error
            }
        })
    };
    let temperatures = column("temperature")?;
    let top_ps = match read::numbers(views, "top_p")? {
        Some(column) => column,
        None if temperatures.iter().all(|t| t == Some(0.0)) => Float64Array::new_null(temperatures.len()),
        None => column("top_p")?,
    };
    let setting = |row: usize| {
        let (t, p) = (read::number_at(&temperatures, row), read::number_at(&top_ps, row));
        if !(t >= 0.0 && t.is_finite()) {
            return Err(Error::task(format!("row {row} has the temperature {t}")).hint("a temperature is 0 or more"));
        }
        if t > 0.0 && !(p > 0.0 && p <= 1.0) {
            return Err(
                Error::task(format!("row {row} has the temperature {t} and the top-p {p}"))
                    .hint("a sampled row needs a top-p above 0 and at most 1; 1 keeps every token"),
            );
        }
        Ok(Setting::new(t, p))
    };
    (0..temperatures.len()).map(setting).collect()
}
