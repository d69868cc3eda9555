//! The order of values: numbers as numbers, labels such as `0.8M` and `7B` too, then everything else as text.

use std::cmp::Ordering;

/// Compares two values of a column; null comes last.
pub fn compare(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => match (magnitude(a), magnitude(b)) {
            (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.cmp(b),
        },
    }
}

/// Whether two values are the same one: equal texts or equal numbers (`1` and `1.0`).
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((magnitude(a), magnitude(b)), (Some(x), Some(y)) if x == y)
}

/// The number that a value says, with the suffixes of parameter counts.
fn magnitude(text: &str) -> Option<f64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1e3),
        b'm' | b'M' => (&text[..text.len() - 1], 1e6),
        b'b' | b'B' => (&text[..text.len() - 1], 1e9),
        b't' | b'T' => (&text[..text.len() - 1], 1e12),
        _ => (text, 1.0),
    };
    // `inf` and `nan` are words here.
    digits
        .bytes()
        .any(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<f64>().ok())
        .flatten()
        .map(|number| number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_before_words_and_null_last() {
        let mut values = [
            None,
            Some("b"),
            Some("7B"),
            Some("10"),
            Some("0.8M"),
            Some("9"),
            Some("70B"),
            Some("a"),
        ];
        values.sort_by(|a, b| compare(*a, *b));
        assert_eq!(
            values,
            [
                Some("9"),
                Some("10"),
                Some("0.8M"),
                Some("7B"),
                Some("70B"),
                Some("a"),
                Some("b"),
                None
            ]
        );
        assert!(same("1", "1.0") && same("1B", "1000M") && !same("a", "b") && !same("inf", "nan"));
    }
}
