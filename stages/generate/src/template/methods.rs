//! Methods of Python's types and filters of its engine that `minijinja` has not, or has in another way.

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(call);
    // Whatever has a length and items by index or key: texts and maps too.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("replace", replace);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Methods that are not among those of `minijinja_contrib`, then those.
fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => value.as_str().map(|text| string(text, method, args)),
        ValueKind::Seq => Some(list(value, method, args)),
        ValueKind::Map if method == "copy" => Some(from_args(args).map(|()| Some(value.clone()))),
        _ => None,
    };
    match own.transpose()?.flatten() {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// A method of `str`; `None` for one that is not here.
fn string(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let one = || from_args::<(String,)>(args).map(|(text,)| text);
    Ok(Some(match method {
        "rsplit" => rsplit(text, args)?,
        "partition" | "rpartition" => {
            let separator = one()?;
            let last = method == "rpartition";
            let parts = if last {
                text.rsplit_once(&separator)
            } else {
                text.split_once(&separator)
            };
            let parts = match parts {
                Some((before, after)) => [before, &separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Value::from(Tuple::from(parts.map(Value::from).to_vec()))
        }
        "removeprefix" => Value::from(text.strip_prefix(&*one()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(&*one()?).unwrap_or(text)),
        "index" => match text.find(&*one()?) {
            Some(at) => Value::from(text[..at].chars().count()),
            None => return Err(refused("substring not found")),
        },
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| match c.is_lowercase() {
                true => c.to_uppercase().collect::<String>(),
                false => c.to_lowercase().collect(),
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "isdecimal" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(char::is_whitespace))
        }
        "zfill" => {
            let (width,) = from_args::<(usize,)>(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            Value::from(format!("{sign}{}{digits}", pad("0", width, text)?))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill) = from_args::<(usize, Option<String>)>(args)?;
            let fill = fill.unwrap_or_else(|| " ".to_owned());
            let padding = pad(&fill, width, text)?;
            let count = padding.chars().count();
            // Where the sides differ by one, Python puts more to the left when both numbers are odd.
            let left = match method {
                "ljust" => 0,
                "rjust" => count,
                _ => count / 2 + (count & width & 1),
            };
            Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(count - left)))
        }
        _ => return Ok(None),
    }))
}

/// As many `fill` as `text` is short of `width` characters.
fn pad(fill: &str, width: usize, text: &str) -> Result<String, Error> {
    if fill.chars().count() != 1 || width > 1 << 16 {
        return Err(refused("a text is padded by one character, to 65536 at most"));
    }
    Ok(fill.repeat(width.saturating_sub(text.chars().count())))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most) = from_args::<(Option<Value>, Option<i64>)>(args)?;
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator.as_ref().and_then(Value::as_str) {
        Some("") => return Err(refused("empty separator")),
        Some(separator) => text.rsplitn(most + 1, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim();
            while !rest.is_empty() {
                match rest.rfind(char::is_whitespace) {
                    Some(at) if parts.len() < most => {
                        let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                        parts.push(&rest[at + width..]);
                        rest = rest[..at].trim_end();
                    }
                    _ => {
                        parts.push(rest);
                        break;
                    }
                }
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// A method of `list`; `None` for one that is not here.
fn list(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "copy" => {
            let () = from_args(args)?;
            value.clone()
        }
        "index" => {
            let (wanted,) = from_args::<(Value,)>(args)?;
            match value.try_iter()?.position(|item| item == wanted) {
                Some(at) => Value::from(at),
                None => return Err(refused(format!("{wanted} is not in the list"))),
            }
        }
        _ => return Ok(None),
    }))
}

fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Value::from_safe_string(escaped)
}

/// What is not there has no items.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    match value.as_str() {
        Some(text) => Ok(text.chars().count()),
        None => value
            .len()
            .ok_or_else(|| refused(format!("a {} has no length", value.kind()))),
    }
}

fn replace(text: &Value, old: &str, new: &str, count: Option<usize>) -> String {
    let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
    match count {
        Some(count) => text.replacen(old, new, count),
        None => text.replace(old, new),
    }
}

/// The first of `default`, by position or name.
fn default_of(rest: &Rest<Value>, options: &Kwargs) -> Result<Option<Value>, Error> {
    let named: Option<Value> = options.get("default")?;
    options.assert_all_used()?;
    match (rest.as_slice(), named) {
        ([], named) => Ok(named),
        ([given], None) => Ok(Some(given.clone())),
        _ => Err(refused("one default is what is taken")),
    }
}

/// `int`: what is no number is the default, 0.
fn int(value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default_of(&rest, &options)?.unwrap_or_else(|| Value::from(0));
    let float = |number: f64| number.is_finite().then(|| Value::from(number.trunc() as i128));
    let number = match value.kind() {
        ValueKind::Bool => Some(Value::from(i32::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(float),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let whole = text.parse::<i128>().ok().map(Value::from);
            whole.or_else(|| text.parse().ok().and_then(float))
        }
        _ => None,
    };
    Ok(number.unwrap_or(default))
}

/// `float`: what is no number is the default, 0.0.
fn float(value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default_of(&rest, &options)?.unwrap_or_else(|| Value::from(0.0));
    let number = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str().unwrap_or_default().trim().replace('_', "").parse().ok(),
        _ => None,
    };
    Ok(number.map_or(default, Value::from))
}
