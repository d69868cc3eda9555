//! The order of labels: what has an order in the field keeps it, numbers count as numbers, the rest is alphabetical.

use std::cmp::Ordering;

/// Orders that readers expect, by column.
const KNOWN: &[(&str, &[&str])] = &[
    ("axis", &["safety", "harmlessness", "helpfulness"]),
    ("decoder", &["greedy", "sampling"]),
    ("contrast", &["train->deploy"]),
    ("aggregate", &["product"]),
];

/// Compares two labels of a column. `7B` is above `0.8M`, `pico-10` above `pico-9`.
pub fn compare(column: &str, one: &str, other: &str) -> Ordering {
    let known = KNOWN
        .iter()
        .find(|(name, _)| *name == column)
        .map_or(&[][..], |(_, labels)| labels);
    let rank = |label: &str| known.iter().position(|name| *name == label).unwrap_or(known.len());
    rank(one)
        .cmp(&rank(other))
        .then_with(|| natural(one, other))
        .then_with(|| one.cmp(other))
}

/// The distinct labels of a column in order.
pub fn distinct<'a>(column: &str, labels: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<&str> = labels.into_iter().collect();
    all.sort_by(|one, other| compare(column, one, other));
    all.dedup();
    all.into_iter().map(str::to_owned).collect()
}

/// Part of a label.
enum Piece<'a> {
    Text(&'a str),
    Number(f64),
}

fn natural(one: &str, other: &str) -> Ordering {
    let (one, other) = (pieces(one), pieces(other));
    for (left, right) in one.iter().zip(&other) {
        let order = match (left, right) {
            (Piece::Number(left), Piece::Number(right)) => left.total_cmp(right),
            (Piece::Text(left), Piece::Text(right)) => left.cmp(right),
            (Piece::Number(_), Piece::Text(_)) => Ordering::Less,
            (Piece::Text(_), Piece::Number(_)) => Ordering::Greater,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

/// Splits a label into texts and numbers; a unit (`K`, `M`, `B`, `T`) that ends a word scales the number before it.
fn pieces(label: &str) -> Vec<Piece<'_>> {
    let bytes = label.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut pieces = Vec::new();
    let (mut at, mut text) = (0, 0);
    while at < bytes.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        if text < at {
            pieces.push(Piece::Text(&label[text..at]));
        }
        let start = at;
        while digit(at) || (bytes.get(at) == Some(&b'.') && digit(at + 1)) {
            at += 1;
        }
        // `1.2.3` is no number and counts by its first part.
        let number = label[start..at]
            .parse()
            .unwrap_or_else(|_| first_number(&label[start..at]));
        let unit = match bytes.get(at) {
            Some(b'K' | b'k') => 1e3,
            Some(b'M' | b'm') => 1e6,
            Some(b'B' | b'b') => 1e9,
            Some(b'T' | b't') => 1e12,
            _ => 1.0,
        };
        let ends = !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
        if unit > 1.0 && ends {
            at += 1;
            pieces.push(Piece::Number(number * unit));
        } else {
            pieces.push(Piece::Number(number));
        }
        text = at;
    }
    if text < bytes.len() {
        pieces.push(Piece::Text(&label[text..]));
    }
    pieces
}

fn first_number(text: &str) -> f64 {
    text.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_the_order_that_readers_expect() {
        let sizes = distinct("model", ["7B", "0.8M", "13B", "70B", "7B", "125M"]);
        assert_eq!(sizes, ["0.8M", "125M", "7B", "13B", "70B"]);
        assert_eq!(
            distinct("model", ["pico-10", "pico-9", "pico-3.4M"]),
            ["pico-9", "pico-10", "pico-3.4M"]
        );
        assert_eq!(
            distinct("axis", ["tone", "helpfulness", "safety", "all"]),
            ["safety", "helpfulness", "all", "tone"]
        );
        assert_eq!(
            distinct("decoder", ["sampling", "T=0.7", "greedy"]),
            ["greedy", "sampling", "T=0.7"]
        );
        assert_eq!(
            distinct("v", ["T=1.5", "T=0.5", "x", "", "T=12"]),
            ["", "T=0.5", "T=1.5", "T=12", "x"]
        );
    }
}
