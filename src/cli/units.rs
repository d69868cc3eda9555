//! Sizes and durations as people write and read them.

use std::time::Duration;

/// Bytes from `500`, `20GB`, `1.5 GiB`: decimal units are powers of 1000, binary ones (`KiB`) of 1024.
///
/// # Errors
/// When it is no size.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: f64 = match unit.to_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err("a size is a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB".to_owned()),
    };
    amount(number, factor).map(|bytes| bytes as u64)
}

/// A duration from `90s`, `30m`, `12h`, `30d`, `2w`; a number alone counts days.
///
/// # Errors
/// When it is no duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor: f64 = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "" | "d" => 86_400.0,
        "w" => 7.0 * 86_400.0,
        _ => return Err("a duration is a number with s, m, h, d or w".to_owned()),
    };
    amount(number, factor).map(Duration::from_secs_f64)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn amount(number: &str, factor: f64) -> Result<f64, String> {
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    let amount = number * factor;
    if amount < 1e18 {
        Ok(amount)
    } else {
        Err("that is too much".to_owned())
    }
}

/// Bytes for people: `512 B`, `1.5 MB`.
pub fn bytes_text(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KB", "MB", "GB", "TB", "PB"] {
        // What would be printed as 1000 belongs to the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1e3;
        unit = next;
    }
    if unit == "B" || value >= 99.95 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A duration for people, in its greatest unit: `12 s`, `3 h`, `40 d`.
pub fn age_text(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Columns of equal width; numbers (columns whose heading ends with a blank) to the right.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.trim_end().chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if rows[0][column].ends_with(' ') {
                format!("{:>width$}", cell.trim_end())
            } else {
                format!("{cell:width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read() {
        assert_eq!(bytes("20GB"), Ok(20_000_000_000));
        assert_eq!(bytes("1.5 KiB"), Ok(1536));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(1_209_600)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(259_200)));
        for wrong in ["", "x", "-3", "1e400", "9999999999999TB", "3 parsecs", "1.2.3", "NaN"] {
            assert!(bytes(wrong).is_err() && duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_durations_are_written() {
        let sizes = [0, 999, 1_000, 99_940, 999_499, 999_500, 1_500_000_000].map(bytes_text);
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 KB", "99.9 KB", "999 KB", "1.0 MB", "1.5 GB"]
        );
        let ages = [59, 60, 7_200, 172_799].map(|seconds| age_text(Duration::from_secs(seconds)));
        assert_eq!(ages, ["59 s", "1 min", "2 h", "1 d"]);
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [["kind", "rows "], ["generate", "12 "], ["x", "1 "]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        assert_eq!(columns(&rows), "kind      rows\ngenerate    12\nx            1\n");
    }
}
