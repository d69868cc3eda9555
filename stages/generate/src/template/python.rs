//! What templates expect of Python: how values print, `json.dumps`, `strftime`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use std::fmt::Write as _;

/// The day that `strftime_now` renders. A clock would make results depend on when they were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Default for Date {
    /// 26 July 2024, the date that Llama 3's template falls back to.
    fn default() -> Self {
        Self {
            year: 2024,
            month: 7,
            day: 26,
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Date {
    /// Reads `YYYY-MM-DD`; `None` when it is no day of the Gregorian calendar after the year 0.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
            return None;
        }
        let date = Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
            day: day.parse().ok()?,
        };
        let valid = date.year > 0 && (1..=12).contains(&date.month) && (1..=date.month_length()).contains(&date.day);
        valid.then_some(date)
    }

    fn is_leap(self) -> bool {
        self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400))
    }

    fn month_length(self) -> u8 {
        match self.month {
            2 => 28 + u8::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days since the first of January.
    fn day_of_year(self) -> u32 {
        let whole = (1..self.month)
            .map(|month| u32::from(Self { month, ..self }.month_length()))
            .sum::<u32>();
        whole + u32::from(self.day)
    }

    /// 0 is Sunday.
    fn weekday(self) -> usize {
        let before = u32::from(self.year) - 1;
        ((before * 365 + before / 4 - before / 100 + before / 400 + self.day_of_year()) % 7) as usize
    }

    /// C's `strftime` of midnight on this day; `None` for a directive that is not known.
    pub fn format(self, format: &str) -> Option<String> {
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next()?;
            let bare = directive == '-';
            if bare {
                directive = characters.next()?;
            }
            let number = match directive {
                'd' | 'e' => Some(u32::from(self.day)),
                'm' => Some(u32::from(self.month)),
                'y' => Some(u32::from(self.year % 100)),
                'H' | 'M' | 'S' => Some(0),
                'I' => Some(12),
                _ => None,
            };
            let (month, day) = (MONTHS[usize::from(self.month) - 1], DAYS[self.weekday()]);
            let written = match (directive, number) {
                (_, Some(number)) if bare => write!(text, "{number}"),
                ('e', Some(number)) => write!(text, "{number:2}"),
                (_, Some(number)) => write!(text, "{number:02}"),
                ('Y', _) => write!(text, "{}", self.year),
                ('B', _) => write!(text, "{month}"),
                ('b' | 'h', _) => write!(text, "{}", &month[..3]),
                ('A', _) => write!(text, "{day}"),
                ('a', _) => write!(text, "{}", &day[..3]),
                ('j', _) if bare => write!(text, "{}", self.day_of_year()),
                ('j', _) => write!(text, "{:03}", self.day_of_year()),
                ('p', _) => write!(text, "AM"),
                ('F', _) => write!(text, "{:04}-{:02}-{:02}", self.year, self.month, self.day),
                ('T', _) => write!(text, "00:00:00"),
                ('%', _) => write!(text, "%"),
                _ => return None,
            };
            written.ok()?;
        }
        Some(text)
    }
}

/// Gives an environment the functions, the filter and the formatting that `transformers` gives its own.
pub(super) fn install(environment: &mut Environment<'_>, date: Date) {
    environment.set_formatter(format_value);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        date.format(&format)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("strftime: {format}")))
    });
    environment.add_filter("tojson", to_json);
}

/// Prints a value as Python's `str` does.
fn format_value(output: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::Undefined => "",
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::String => value.as_str().unwrap_or_default(),
        _ => {
            write!(output, "{value}")?;
            return Ok(());
        }
    };
    output.write_str(text)?;
    Ok(())
}

/// `json.dumps(value, ensure_ascii=False, indent=..)`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson: ensure_ascii=true is not supported",
        ));
    }
    let mut text = String::new();
    write_json(
        &mut text,
        value,
        indent.map(|width| width.min(16)),
        sorted == Some(true),
        0,
    )?;
    Ok(text)
}

fn write_json(
    text: &mut String,
    value: &Value,
    indent: Option<usize>,
    sorted: bool,
    depth: usize,
) -> Result<(), Error> {
    if depth > 100 {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deep"));
    }
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&value.to_string()),
        ValueKind::String => text.push_str(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(text, ['[', ']'], items.len(), indent, depth, |text, at| {
                write_json(text, &items[at], indent, sorted, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if sorted {
                keys.sort();
            }
            write_items(text, ['{', '}'], keys.len(), indent, depth, |text, at| {
                text.push_str(&quoted(&keys[at].to_string()));
                text.push_str(": ");
                write_json(text, &value.get_item(&keys[at])?, indent, sorted, depth + 1)
            })?;
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: {kind} is no JSON"),
            ));
        }
    }
    Ok(())
}

/// Items between brackets: on one line with `, ` between them, or one a line.
fn write_items(
    text: &mut String,
    [open, close]: [char; 2],
    count: usize,
    indent: Option<usize>,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |text: &mut String, depth: usize| {
        if let (Some(width), true) = (indent, count > 0) {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    text.push(open);
    for at in 0..count {
        if at > 0 {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(text, depth + 1);
        item(text, at)?;
    }
    line(text, depth);
    text.push(close);
    Ok(())
}

/// A JSON string. Python and this writer escape the same characters.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `{% generation %}` marks what the assistant says, for training; what it holds is rendered as it is. The tags become
/// ones that this engine knows, with their whitespace control.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag
            .trim_start_matches("{%")
            .trim_end_matches("%}")
            .trim_matches(['-', '+'])
            .trim();
        match name {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
