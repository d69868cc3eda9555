//! Plain scalars of the YAML 1.2 core schema (section 10.3.2): `no`, `on`, `0.9M` and `1_000` are text.

use serde_json::Number;

/// What a plain scalar means.
#[derive(Debug, PartialEq)]
pub enum Scalar {
    /// Empty, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// `.inf` or `.nan`, or digits beyond what a double holds.
    NotFinite,
    /// Anything else.
    Text,
}

/// Resolves a plain scalar.
pub fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Scalar::NotFinite;
    }
    if let Some(number) = radix(text) {
        return Scalar::Number(number);
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') || !is_decimal(unsigned) {
        return Scalar::Text;
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Ok(integer) = digits.parse::<i64>() {
        return Scalar::Number(integer.into());
    }
    if let Ok(integer) = digits.parse::<u64>() {
        return Scalar::Number(integer.into());
    }
    match digits.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Scalar::Number(number),
        None => Scalar::NotFinite,
    }
}

fn radix(text: &str) -> Option<Number> {
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 8),
        _ => return None,
    };
    let plain = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    plain
        .then(|| u64::from_str_radix(digits, radix).ok().map(Number::from))
        .flatten()
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, with an exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && good_exponent
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_core_schema() {
        for text in [
            "no", "on", "yes", "0.9M", "1_000", "1e", "-", "+", ".", "0x", "0b1", "1.2.3", "e5", "inf", "--1", "１",
        ] {
            assert_eq!(plain(text), Scalar::Text, "{text}");
        }
        for (text, number) in [
            ("0x1F", 31.0),
            ("0o17", 15.0),
            ("+12", 12.0),
            ("-3", -3.0),
            ("12e03", 12000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("007", 7.0),
        ] {
            let Scalar::Number(found) = plain(text) else {
                panic!("{text} is no number")
            };
            assert_eq!(found.as_f64().unwrap(), number, "{text}");
        }
        assert_eq!(plain("18446744073709551615"), Scalar::Number(u64::MAX.into()));
        assert_eq!(plain("-.inf"), Scalar::NotFinite);
        assert_eq!(plain("1e999"), Scalar::NotFinite);
        assert_eq!(plain("~"), Scalar::Null);
    }
}
