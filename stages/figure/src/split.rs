//! `split`: one file for each combination of some columns' values. How many there are is known only when the table is
//! there, so the output of such a figure is a tree of files, named by the values; whoever copies them to `to` fills its
//! pattern from the name.

use fracture_stage::{Error, ParameterError};
use serde_json::Value;

use crate::order;
use crate::parameters::{FigureParameters, extension};
use crate::plots::Tables;
use crate::rows::Rows;

/// The most files of one figure: more is a mistake.
const MOST: usize = 500;
/// Longest name of a file.
const NAME: usize = 80;

/// One of the files.
pub struct Part {
    /// Its name in the tree, without an ending: the values, one folder each.
    pub name: String,
    /// Its title.
    pub title: Option<String>,
    /// Its rows.
    pub tables: Tables,
}

/// Checks that every path and `split` name the same columns.
pub fn check(parameters: &FigureParameters, errors: &mut Vec<ParameterError>) {
    for path in parameters.to.all() {
        for column in parameters.split.iter().filter(|column| !path.contains(&braced(column))) {
            let wrong = ParameterError::at(
                &["to"],
                format!("`split` writes one file per {column}, `{path}` has one name"),
            );
            errors.push(wrong.hint(format!("put `{{{column}}}` into the path")));
        }
        for column in patterns(path)
            .into_iter()
            .filter(|column| !parameters.split.contains(column))
        {
            let wrong = ParameterError::at(
                &["to"],
                format!("`{path}` has `{{{column}}}`, which `split` does not name"),
            );
            errors.push(wrong.hint(format!("add `split: [{column}]`")));
        }
    }
}

fn braced(column: &str) -> String {
    format!("{{{column}}}")
}

/// The names between braces.
fn patterns(path: &str) -> Vec<String> {
    let parts = path.split('{').skip(1);
    parts
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The tables of every file, in the order of the values.
///
/// # Errors
/// When a column is not there, has no value, or there are too many files.
pub fn parts(tables: &Tables, parameters: &FigureParameters) -> Result<Vec<Part>, Error> {
    let Some(main) = tables.0.first().and_then(Option::as_ref) else {
        return Err(Error::internal("a figure without its table"));
    };
    let main = main.clone().chosen(&parameters.filter)?;
    let mut parts = vec![(
        Vec::new(),
        Tables(
            std::iter::once(Some(main))
                .chain(tables.0.iter().skip(1).cloned())
                .collect(),
        ),
    )];
    for column in &parameters.split {
        let mut finer = Vec::new();
        for (values, tables) in parts {
            for value in distinct(&tables, column)? {
                let own = tables.0.iter().map(|table| only(table.as_ref(), column, &value));
                let own = Tables(own.collect::<Result<_, _>>()?);
                let mut values: Vec<String> = values.clone();
                values.push(value);
                finer.push((values, own));
            }
        }
        parts = finer;
    }
    if parts.len() > MOST {
        return Err(
            Error::pipeline(format!("`split` would write {} files, {MOST} are allowed", parts.len()))
                .hint("choose rows with `where`, or split by fewer columns"),
        );
    }
    let mut taken: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for (values, tables) in parts {
        let name = unique(&values, &mut taken);
        let filled = parameters.split.iter().zip(&values);
        let title = parameters
            .title
            .clone()
            .map(|title| filled.fold(title, |title, (column, value)| title.replace(&braced(column), value)));
        all.push(Part { name, title, tables });
    }
    Ok(all)
}

fn distinct(tables: &Tables, column: &str) -> Result<Vec<String>, Error> {
    let Some(Some(main)) = tables.0.first() else {
        return Ok(Vec::new());
    };
    let texts = main.texts(column)?;
    Ok(order::distinct(column, texts.iter().map(String::as_str)))
}

fn only(table: Option<&Rows>, column: &str, value: &str) -> Result<Option<Rows>, Error> {
    match table {
        Some(rows) if rows.column(column).is_some() => rows.any_of(column, &[value.to_owned()]).map(Some),
        other => Ok(other.cloned()),
    }
}

/// The values as a name that every file system takes, numbered where two values give one name.
fn unique(values: &[String], taken: &mut Vec<String>) -> String {
    let plain = |value: &String| {
        let safe = |letter: char| letter.is_alphanumeric() || "-_.=+,".contains(letter);
        let name: String = value
            .chars()
            .take(NAME)
            .map(|letter| if safe(letter) { letter } else { '_' })
            .collect();
        match name.trim_matches('.') {
            "" => "none".to_owned(),
            name => name.to_owned(),
        }
    };
    let name = values.iter().map(plain).collect::<Vec<_>>().join("/");
    // Some file systems take names of another case for the same.
    let same = |name: &str| taken.iter().any(|other| other.to_lowercase() == name.to_lowercase());
    let free = if same(&name) {
        (2..)
            .map(|number| format!("{name}-{number}"))
            .find(|name| !same(name))
            .unwrap_or(name)
    } else {
        name
    };
    taken.push(free.clone());
    free
}

/// The path of a file of a tree: the pattern of `to` with the values that the file's name holds.
pub fn split_path(with: &Value, pattern: &str, file: &str) -> String {
    let columns = with.get("split").and_then(Value::as_array);
    let columns = columns.into_iter().flatten().filter_map(Value::as_str);
    let ending = extension(file);
    let name = file.strip_suffix(&format!(".{ending}")).unwrap_or(file);
    columns
        .zip(name.split('/'))
        .fold(pattern.to_owned(), |path, (column, value)| {
            path.replace(&braced(column), value)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_names_and_names_paths() {
        let mut taken = Vec::new();
        let name = |values: &[&str], taken: &mut Vec<String>| {
            unique(
                &values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>(),
                taken,
            )
        };
        assert_eq!(name(&["org/a model:7B", "T=0.8"], &mut taken), "org_a_model_7B/T=0.8");
        assert_eq!(name(&["org/a model 7B", "t=0.8"], &mut taken), "org_a_model_7B/t=0.8-2");
        assert_eq!(name(&["..", ""], &mut taken), "none/none");
        let with = json!({ "split": ["model", "decoder"] });
        let path = split_path(&with, "figures/{decoder}/{model}.svg", "org_a/T=0.8.svg");
        assert_eq!(path, "figures/T=0.8/org_a.svg");
    }
}
