//! Colours that people with any colour vision can tell apart (Okabe and Ito), in an order in which they also differ in
//! lightness, so that a grey copy stays legible.

use crate::scene::Color;

const BLUE: Color = [0x00, 0x72, 0xB2];
const ORANGE: Color = [0xE6, 0x9F, 0x00];
const GREEN: Color = [0x00, 0x9E, 0x73];
const YELLOW: Color = [0xF0, 0xE4, 0x42];
const VERMILION: Color = [0xD5, 0x5E, 0x00];
const SKY: Color = [0x56, 0xB4, 0xE9];
const PURPLE: Color = [0xCC, 0x79, 0xA7];

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
