//! The parameters of a figure, and the files that it yields.

use std::collections::BTreeMap;

use fracture_stage::PathPart;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Parameters of a figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureParameters {
    /// The figure's name: its key under `figures:`.
    #[serde(default)]
    pub name: String,
    /// What is drawn.
    pub plot: Plot,
    /// The files that it writes: a path or several, ending in `.svg`, `.pdf`, `.png`, `.csv` or `.md`.
    #[serde(default)]
    pub to: Paths,
    /// The column along the horizontal axis; the first key column that has several values when not given.
    #[serde(default)]
    pub x: Option<String>,
    /// The column whose value is drawn; its interval is in the columns of the same name with `_low` and `_high`.
    #[serde(default)]
    pub y: Option<String>,
    /// The column that chooses the colour; of `plot: grid` the column of its rows.
    #[serde(default)]
    pub color: Option<String>,
    /// The column that chooses the panel.
    #[serde(default)]
    pub panel: Option<String>,
    /// Only rows whose column has this value, or one of these values.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, Chosen>,
    /// A title above the plot.
    #[serde(default)]
    pub title: Option<String>,
    /// The columns of a table and their order; all when not given.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Columns by whose values there is one file each, with `{COLUMN}` in `to` and, if wanted, in `title`.
    #[serde(default)]
    pub split: Vec<String>,
    /// The width in centimetres; when not given, that of a column (8.5) or of a page (17.8), as the content needs.
    #[serde(default)]
    #[schemars(range(min = 4, max = 100))]
    pub width: Option<f64>,
}

impl FigureParameters {
    /// The width that was asked for, in points.
    pub fn page(&self) -> Option<f64> {
        self.width.map(|centimetres| centimetres / 2.54 * 72.0)
    }
}

/// What a figure draws.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Plot {
    /// The rows, as a table.
    #[default]
    Table,
    /// A value with its interval as bars.
    Bars,
    /// A heat map over two columns.
    Grid,
    /// A value over temperature and top-p as a surface, with its ridge.
    Landscape,
    /// The same as a map with lines of equal value, ridge and caps.
    Contour,
    /// The exceedance frontiers of both regimes, their gap and the lifts.
    Frontier,
    /// Arrows from one regime to the other in the plane of the first principal components.
    Flow,
    /// FRACTURE and anti-FRACTURE against the threshold.
    Curve,
    /// How well the judge's probabilities fit frequencies.
    Reliability,
    /// The shares of an equilibrium's mix.
    Mix,
    /// The four numbers of the paper, a row a cell of its grid.
    Numbers,
}

impl Plot {
    /// The name in a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Bars => "bars",
            Self::Grid => "grid",
            Self::Landscape => "landscape",
            Self::Contour => "contour",
            Self::Frontier => "frontier",
            Self::Flow => "flow",
            Self::Curve => "curve",
            Self::Reliability => "reliability",
            Self::Mix => "mix",
            Self::Numbers => "numbers",
        }
    }
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One path.
    One(String),
    /// Several paths.
    Several(Vec<String>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Paths {
    /// The paths in order.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }
}

/// One value or a list of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Chosen {
    /// Any of these.
    Any(Vec<Value>),
    /// This one.
    One(Value),
}

impl Chosen {
    /// The values, as the text that a column has for them.
    pub fn texts(&self) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Self::Any(values) => values.iter().map(text).collect(),
            Self::One(value) => vec![text(value)],
        }
    }

    /// The values, each with where it is said as what `where` chooses of a column.
    pub fn placed(&self, column: &str) -> Vec<(String, Vec<PathPart>)> {
        let place = |index: usize| {
            let mut path = ["where", column].map(|key| PathPart::Key(key.to_owned())).to_vec();
            path.extend(matches!(self, Self::Any(_)).then_some(PathPart::Index(index)));
            path
        };
        let placed = self.texts().into_iter().enumerate();
        placed.map(|(index, value)| (value, place(index))).collect()
    }
}

/// What a file of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics, text as outlines.
    Svg,
    /// Vector graphics, text in an embedded font.
    Pdf,
    /// Pixels at 300 per inch.
    Png,
    /// The values, separated by commas.
    Csv,
    /// The values as a Markdown table.
    Md,
}

impl Format {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Pdf => "pdf",
            Self::Png => "png",
            Self::Csv => "csv",
            Self::Md => "md",
        }
    }

    /// Whether it is a picture rather than a text.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Svg | Self::Pdf | Self::Png)
    }

    /// The format that a path's ending names.
    pub fn of(path: &str) -> Option<Self> {
        match extension(path).as_str() {
            "svg" => Some(Self::Svg),
            "pdf" => Some(Self::Pdf),
            "png" => Some(Self::Png),
            "csv" => Some(Self::Csv),
            "md" => Some(Self::Md),
            _ => None,
        }
    }
}

/// The ending of a path in lower case, empty when there is none.
pub fn extension(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.rsplit_once('.')
        .map_or_else(String::new, |(_, ending)| ending.to_ascii_lowercase())
}

/// The output of each path: `main` for the first, the ending for the others, numbered where an ending comes again.
pub fn output_names(paths: &[String]) -> Vec<(String, String)> {
    let mut named: Vec<(String, String)> = Vec::with_capacity(paths.len());
    for path in paths {
        let mut name = if named.is_empty() {
            "main".to_owned()
        } else {
            extension(path)
        };
        let taken = |name: &str| named.iter().any(|(other, _)| other == name);
        if taken(&name) {
            let numbered = (2..).map(|number| format!("{name}_{number}")).find(|name| !taken(name));
            name = numbered.unwrap_or(name);
        }
        named.push((name, path.clone()));
    }
    named
}
