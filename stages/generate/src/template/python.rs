//! What templates expect of Python: how values print, `json.dumps`, `strftime`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};
use std::fmt::Write as _;

use super::{OUTPUT_LIMIT, methods};

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
                'U' => Some((self.day_of_year() + 6 - self.weekday() as u32) / 7),
                'W' => Some((self.day_of_year() + 6 - (self.weekday() as u32 + 6) % 7) / 7),
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
                ('D' | 'x', _) => write!(text, "{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
                ('c', _) => write!(
                    text,
                    "{} {} {:2} 00:00:00 {}",
                    &day[..3],
                    &month[..3],
                    self.day,
                    self.year
                ),
                ('T' | 'X', _) => write!(text, "00:00:00"),
                ('R', _) => write!(text, "00:00"),
                ('f', _) => write!(text, "000000"),
                ('w', _) => write!(text, "{}", self.weekday()),
                ('u', _) => write!(text, "{}", (self.weekday() + 6) % 7 + 1),
                ('Z' | 'z', _) => Ok(()),
                ('n', _) => writeln!(text),
                ('t', _) => write!(text, "\t"),
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
    methods::install(environment);
}

/// Prints a value as Python's `str` does.
fn format_value(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::None) {
        return Err(Error::new(ErrorKind::InvalidOperation, "autoescape is not supported"));
    }
    let text = match value.kind() {
        ValueKind::Undefined => "",
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::String => value.as_str().unwrap_or_default(),
        ValueKind::Number => &number(value),
        _ => {
            write!(output, "{value}")?;
            return Ok(());
        }
    };
    output.write_str(text)?;
    Ok(())
}

/// A number as Python prints it: integers by their digits, floats by the shortest ones that tell them apart, with an
/// exponent below 1e-4 and from 1e16 on.
fn number(value: &Value) -> String {
    let text = value.to_string();
    let float = !value.is_integer() && text.contains(['.', 'e', 'E']);
    match f64::try_from(value.clone()) {
        Ok(number) if float && number != 0.0 && !(1e-4..1e16).contains(&number.abs()) => {
            let text = format!("{number:e}");
            match text.split_once('e') {
                Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent:0>2}"),
                Some((digits, exponent)) => format!("{digits}e-{:0>2}", &exponent[1..]),
                None => text,
            }
        }
        _ => text,
    }
}

/// `json.dumps(value, ensure_ascii=False, indent=.., separators=.., sort_keys=..)`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let indent = indent.map(|width| width.min(16));
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            let message = "tojson: separators are two texts";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let style = Json {
        indent,
        item,
        key,
        sorted: sorted == Some(true),
        ascii: ascii == Some(true),
    };
    let mut text = String::new();
    write_json(&mut text, value, &style, 0)?;
    Ok(text)
}

/// How JSON is written.
struct Json {
    indent: Option<usize>,
    /// Between items.
    item: String,
    /// Between a key and its value.
    key: String,
    sorted: bool,
    ascii: bool,
}

fn write_json(text: &mut String, value: &Value, style: &Json, depth: usize) -> Result<(), Error> {
    if depth > 100 {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deep"));
    }
    // A value that holds another one twice is twice as long, at every depth.
    if text.len() > OUTPUT_LIMIT {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: more than 16 MB"));
    }
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::String => text.push_str(&quoted(value.as_str().unwrap_or_default(), style)),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(text, ['[', ']'], items.len(), style, depth, |text, at| {
                write_json(text, &items[at], style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            write_items(text, ['{', '}'], keys.len(), style, depth, |text, at| {
                text.push_str(&quoted(&keys[at].to_string(), style));
                text.push_str(&style.key);
                write_json(text, &value.get_item(&keys[at])?, style, depth + 1)
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
    style: &Json,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |text: &mut String, depth: usize| {
        if let (Some(width), true) = (style.indent, count > 0) {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    text.push(open);
    for at in 0..count {
        if at > 0 {
            text.push_str(&style.item);
        }
        line(text, depth + 1);
        item(text, at)?;
    }
    line(text, depth);
    text.push(close);
    Ok(())
}

/// A JSON string. Python and this writer escape the same characters.
fn quoted(text: &str, style: &Json) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    if !style.ascii || quoted.is_ascii() {
        return quoted;
    }
    let mut ascii = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        match character.is_ascii() {
            true => ascii.push(character),
            false => {
                let units = character.encode_utf16(&mut [0; 2]).to_vec();
                ascii.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    ascii
}
