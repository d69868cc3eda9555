//! A linear axis with round ticks.

/// An axis from `low` to `high` with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Where the ticks are, from low to high.
    pub ticks: Vec<f64>,
    /// Digits behind the point of every label; `None` for as many as each needs.
    digits: Option<usize>,
}

impl Scale {
    /// The shortest axis that holds 0 and all values, ends at ticks and has at most `most` steps of 1, 2 or 5 times a power
    /// of ten.
    pub fn around(values: impl IntoIterator<Item = f64>, most: usize) -> Self {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        if high - low <= 0.0 {
            high = 0.1;
        }
        Self::spanning(low, high, most)
    }

    /// The shortest such axis that holds both ends, whether or not 0 is between them.
    pub fn spanning(low: f64, high: f64, most: usize) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            // One value sits in the middle of an axis of its own size.
            let half = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
            (low - half, low + half)
        };
        let most = most.max(1) as i64;
        let mut exponent = ((high - low) / most as f64).log10().floor() as i32 - 1;
        loop {
            for base in [1, 2, 5] {
                // Ends are counted in steps, with a little room for what 0.1 + 0.2 is.
                let step = f64::from(base) * 10_f64.powi(exponent);
                let first = (low / step + 1e-9).floor() as i64;
                let last = (high / step - 1e-9).ceil() as i64;
                if last - first <= most {
                    let digits = usize::try_from(-exponent).unwrap_or(0);
                    let tick = |index: i64| {
                        let text = format!("{:.digits$}", index as f64 * step);
                        text.parse().unwrap_or(index as f64 * step)
                    };
                    let ticks: Vec<f64> = (first..=last).map(tick).collect();
                    return Self {
                        low: tick(first),
                        high: tick(last),
                        ticks,
                        digits: Some(digits),
                    };
                }
            }
            exponent += 1;
        }
    }

    /// The axis of shares, 0 to 1.
    pub fn shares(most: usize) -> Self {
        Self::spanning(0.0, 1.0, most)
    }

    /// An axis with ends and ticks of its own, each labelled with the digits that it needs.
    pub fn with_ticks(low: f64, high: f64, ticks: Vec<f64>) -> Self {
        Self {
            low,
            high,
            ticks,
            digits: None,
        }
    }

    /// A tick's label.
    pub fn label(&self, tick: f64) -> String {
        let text = match self.digits {
            Some(digits) => format!("{:.digits$}", tick.abs()),
            None => format!("{}", (tick.abs() * 1e4).round() / 1e4),
        };
        if tick < 0.0 { format!("−{text}") } else { text }
    }

    /// Where a value is between the ends, 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_ticks_around_the_values() {
        let scale = Scale::around([0.12, 0.47], 5);
        assert_eq!((scale.low, scale.high, scale.ticks.len()), (0.0, 0.5, 6));
        assert_eq!(scale.label(0.1), "0.1");
        let scale = Scale::around([0.3, 1.0], 5);
        assert_eq!(scale.ticks, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        let scale = Scale::around([-0.13, 0.3], 5);
        assert_eq!((scale.low, scale.high), (-0.2, 0.3));
        assert_eq!(scale.label(-0.2), "−0.2");
        assert_eq!(Scale::around([], 5).high, 0.1);
        assert_eq!(Scale::around([0.0], 4).ticks.len(), 3);
        assert_eq!(Scale::around([37.0, 60.0], 5).ticks, [0.0, 20.0, 40.0, 60.0]);
    }
}
