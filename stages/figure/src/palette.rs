//! Colours that people with any colour vision can tell apart, and that stay apart in a grey copy. Series: Okabe and Ito, in
//! an order in which they also differ in lightness. Ramps: from light to dark in even steps of lightness.

use crate::scene::{Color, INK, WHITE};

/// Blue of Okabe and Ito.
pub const BLUE: Color = [0x00, 0x72, 0xB2];
/// Orange.
pub const ORANGE: Color = [0xE6, 0x9F, 0x00];
/// Bluish green.
pub const GREEN: Color = [0x00, 0x9E, 0x73];
/// Yellow.
pub const YELLOW: Color = [0xF0, 0xE4, 0x42];
/// Vermilion.
pub const VERMILION: Color = [0xD5, 0x5E, 0x00];
/// Sky blue.
pub const SKY: Color = [0x56, 0xB4, 0xE9];
/// Reddish purple.
pub const PURPLE: Color = [0xCC, 0x79, 0xA7];

/// The colour of a series and whether it is hatched: from the fifth on, colours repeat lightnesses.
pub fn series(index: usize, count: usize) -> (Color, bool) {
    let colors: &[Color] = match count {
        0..=2 => &[BLUE, ORANGE],
        3 => &[BLUE, ORANGE, YELLOW],
        4 => &[BLUE, GREEN, ORANGE, YELLOW],
        _ => &[BLUE, GREEN, ORANGE, YELLOW, VERMILION, SKY, PURPLE],
    };
    (colors[index % colors.len()], index >= 4)
}

/// Low to high of a share: viridis turned around, so that high is dark and nothing is nearly white ink on white paper.
const SEQUENTIAL: &[Color] = &[
    [0xFB, 0xF3, 0xC8],
    [0xD2, 0xE2, 0x5C],
    [0x8C, 0xCB, 0x5A],
    [0x4A, 0xB0, 0x76],
    [0x27, 0x8F, 0x8C],
    [0x2C, 0x6E, 0x8E],
    [0x3A, 0x4B, 0x87],
    [0x45, 0x22, 0x6E],
    [0x33, 0x00, 0x48],
];

/// Negative, none, positive: blue over white to orange-brown, equally dark at both ends.
const DIVERGING: &[Color] = &[
    [0x0B, 0x3C, 0x74],
    [0x2F, 0x79, 0xB5],
    [0x8F, 0xC1, 0xE3],
    [0xF4, 0xF4, 0xF2],
    [0xF3, 0xB7, 0x7C],
    [0xC8, 0x66, 0x1C],
    [0x74, 0x2E, 0x04],
];

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ramp {
    /// From none to much.
    Sequential,
    /// From negative over none to positive; the middle is 0.
    Diverging,
}

impl Ramp {
    /// The colour at a place from 0 to 1.
    pub fn at(self, place: f64) -> Color {
        let stops = match self {
            Self::Sequential => SEQUENTIAL,
            Self::Diverging => DIVERGING,
        };
        let along = place.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let below = (along.floor() as usize).min(stops.len() - 2);
        mix(stops[below], stops[below + 1], along - below as f64)
    }
}

/// A colour between two.
pub fn mix(one: Color, other: Color, share: f64) -> Color {
    let part = |index: usize| {
        let (from, to) = (f64::from(one[index]), f64::from(other[index]));
        (from + (to - from) * share).round() as u8
    };
    [part(0), part(1), part(2)]
}

/// How light a colour looks, 0 to 1 (Rec. 709 luma).
pub fn lightness([red, green, blue]: Color) -> f64 {
    (0.2126 * f64::from(red) + 0.7152 * f64::from(green) + 0.0722 * f64::from(blue)) / 255.0
}

/// The ink that can be read on a colour.
pub fn ink_on(color: Color) -> Color {
    if lightness(color) > 0.5 { INK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_are_even_in_grey() {
        let greys: Vec<f64> = (0..=20)
            .map(|step| lightness(Ramp::Sequential.at(f64::from(step) / 20.0)))
            .collect();
        assert!(greys.windows(2).all(|pair| pair[0] - pair[1] > 0.015), "{greys:?}");
        for step in 0..10 {
            let (down, up) = (f64::from(step) / 20.0, 1.0 - f64::from(step) / 20.0);
            let (down, up) = (Ramp::Diverging.at(down), Ramp::Diverging.at(up));
            assert!((lightness(down) - lightness(up)).abs() < 0.1, "{down:?} {up:?}");
        }
        assert_eq!(ink_on(Ramp::Sequential.at(0.0)), INK);
        assert_eq!(ink_on(Ramp::Sequential.at(1.0)), WHITE);
    }

    #[test]
    fn series_differ_in_grey() {
        for count in 1..=4 {
            let greys: Vec<f64> = (0..count).map(|index| lightness(series(index, count).0)).collect();
            for (index, one) in greys.iter().enumerate() {
                assert!(
                    greys[..index].iter().all(|other| (one - other).abs() > 0.07),
                    "{greys:?}"
                );
            }
        }
    }
}
