//! What of a program's words may be quoted: the last lines, with no value of a variable that was passed on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use fracture_stage::Error;

/// Lines of stderr that an error quotes.
const LINES: usize = 20;

/// Characters of a line that an error quotes.
const WIDTH: usize = 400;

/// Of a program's output, this much is looked at, from its end.
const TAIL: u64 = 64 * 1024;

/// Shorter values are not hidden unless their name says that they are secret: hiding every `1` would hide the message.
const SHORT: usize = 4;

/// The variables that are passed on, and a way to hide their values.
pub struct Passed {
    variables: Vec<(String, OsString)>,
}

impl Passed {
    /// The listed variables that are set, as they are now.
    pub fn from_environment(names: &[String]) -> Self {
        let set = names
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var_os(name)?)));
        Self {
            variables: set.collect(),
        }
    }

    #[cfg(test)]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OsString)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The text with `<NAME>` for every value.
    pub fn hide(&self, text: &str) -> String {
        let hidden = |(name, value): (&str, &OsString)| {
            let value = value.to_string_lossy().into_owned();
            let short = if is_secret(name) { 1 } else { SHORT };
            // Of a value of several lines a quotation may hold only some.
            let lines = value
                .lines()
                .map(str::trim)
                .filter(|line| line.len() >= SHORT)
                .map(str::to_owned);
            let parts: Vec<String> = lines.chain((value.len() >= short).then(|| value.clone())).collect();
            parts
                .into_iter()
                .map(move |part| (part, format!("<{name}>")))
                .collect::<Vec<_>>()
        };
        let mut values: Vec<(String, String)> = self.iter().flat_map(hidden).collect();
        // The longest first: one value may be a part of another.
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        values
            .iter()
            .fold(text.to_owned(), |text, (value, name)| text.replace(value, name))
    }

    /// The error with every value hidden.
    pub fn hide_in(&self, error: Error) -> Error {
        Error {
            kind: error.kind,
            message: self.hide(&error.message),
            causes: error.causes.iter().map(|cause| self.hide(cause)).collect(),
            hint: error.hint.map(|hint| self.hide(&hint)),
            parameter: error.parameter,
        }
    }

    /// The last lines of a file; `None` when there is nothing in it.
    pub fn last_lines(&self, file: &Path) -> Option<String> {
        let mut file = File::open(file).ok()?;
        let size = file.metadata().ok()?.len();
        let skipped = size.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(skipped)).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).ok()?;
        let mut text = self.hide(&String::from_utf8_lossy(&bytes));
        if skipped > 0 {
            // The first line is cut, perhaps in the middle of a value.
            text = text.split_once('\n').map(|(_, rest)| rest.to_owned())?;
        }
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let quoted: Vec<String> = last.iter().map(|line| format!("    {}", shortened(line))).collect();
        (!quoted.is_empty()).then(|| quoted.join("\n"))
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD"]
        .iter()
        .any(|word| name.contains(word))
}
