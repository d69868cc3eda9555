//! The one font of all figures: Liberation Sans, shipped with fracture, so that text looks the same everywhere. SVG and PNG
//! draw its outlines (a font in an SVG is dropped by many programs that import it), PDF embeds the glyphs that it uses.

use std::ops::Range;

use fracture_stage::Error;
use ttf_parser::{Face, GlyphId, OutlineBuilder};

use crate::scene::{Path, Segment};

/// The font's file.
pub const FILE: &[u8] = include_bytes!("../fonts/LiberationSans-Regular.ttf");

/// A glyph of a text that was laid out.
#[derive(Debug, Clone, PartialEq)]
pub struct Glyph {
    /// Its number in the font.
    pub id: u16,
    /// How far the next one is, kerning included, in the unit of the size.
    pub advance: f64,
    /// The bytes of the text that it shows.
    pub bytes: Range<usize>,
}

/// The font, opened.
pub struct Font {
    face: Face<'static>,
}

impl Font {
    /// Opens the font.
    ///
    /// # Errors
    /// Never with the file that is shipped; an internal error otherwise.
    pub fn open() -> Result<Self, Error> {
        let face = Face::parse(FILE, 0).map_err(|error| Error::internal("the font can not be read").cause(error))?;
        Ok(Self { face })
    }

    /// How wide a line of text is, in the unit of `size`.
    pub fn width(&self, text: &str, size: f64) -> f64 {
        self.layout(text).last().map_or(0.0, |(_, end, advance)| end + advance) * self.scale(size)
    }

    /// The glyphs of a line of text; their advances are in the unit of `size`.
    pub fn glyphs(&self, text: &str, size: f64) -> Vec<Glyph> {
        let placed = self.layout(text);
        let scale = self.scale(size);
        let ends = placed.iter().skip(1).map(|(_, start, _)| *start);
        let last = placed.last().map(|(_, start, advance)| start + advance);
        let ends: Vec<f64> = ends.chain(last).collect();
        let letters = text.char_indices().map(|(at, letter)| at..at + letter.len_utf8());
        let placed = placed.iter().zip(ends).zip(letters);
        placed
            .map(|(((id, start, _), end), bytes)| Glyph {
                id: id.0,
                advance: (end - start) * scale,
                bytes,
            })
            .collect()
    }

    /// The letters of a text that the font can not show.
    pub fn missing(&self, text: &str) -> Vec<char> {
        let shown = |letter: &char| letter.is_control() || self.face.glyph_index(*letter).is_some();
        text.chars().filter(|letter| !shown(letter)).collect()
    }

    /// The outlines of a line of text whose baseline starts at 0, 0; y goes down.
    pub fn outline(&self, text: &str, size: f64) -> Path {
        let scale = self.scale(size);
        let mut path = Path::default();
        for (glyph, start, _) in self.layout(text) {
            self.face.outline_glyph(
                glyph,
                &mut Pen {
                    path: &mut path,
                    scale,
                    start: start * scale,
                },
            );
        }
        path
    }

    /// Breaks a text into lines that are at most `width` wide, at spaces.
    pub fn wrap(&self, text: &str, size: f64, width: f64) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let joined = lines.last().map(|line| format!("{line} {word}"));
            match (joined, lines.last_mut()) {
                (Some(joined), Some(line)) if self.width(&joined, size) <= width => *line = joined,
                _ => lines.push(self.cut(word, size, width)),
            }
        }
        lines
    }

    /// A text that is at most `width` wide: cut, with an ellipsis, where it is longer.
    pub fn cut(&self, text: &str, size: f64, width: f64) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let letters: Vec<char> = text.chars().collect();
        let fits = |kept: &usize| {
            let cut: String = letters[..*kept].iter().chain(&['…']).collect();
            self.width(&cut, size) <= width
        };
        let kept = (0..letters.len()).rev().find(fits).unwrap_or(0);
        let kept: String = letters[..kept].iter().collect();
        format!("{}…", kept.trim_end())
    }

    fn scale(&self, size: f64) -> f64 {
        size / f64::from(self.face.units_per_em())
    }

    /// Each glyph with its start and advance in font units, kerned.
    fn layout(&self, text: &str) -> Vec<(GlyphId, f64, f64)> {
        let mut placed: Vec<(GlyphId, f64, f64)> = Vec::new();
        let mut at = 0.0;
        for letter in text.chars() {
            let glyph = self.face.glyph_index(letter).unwrap_or(GlyphId(0));
            if let Some((before, _, _)) = placed.last() {
                at += f64::from(self.kerning(*before, glyph));
            }
            let advance = f64::from(self.face.glyph_hor_advance(glyph).unwrap_or(0));
            placed.push((glyph, at, advance));
            at += advance;
        }
        placed
    }

    fn kerning(&self, left: GlyphId, right: GlyphId) -> i16 {
        let Some(kern) = self.face.tables().kern else { return 0 };
        let mut pairs = kern
            .subtables
            .into_iter()
            .filter(|table| table.horizontal && !table.has_cross_stream);
        pairs.find_map(|table| table.glyphs_kerning(left, right)).unwrap_or(0)
    }
}

/// Takes a glyph's outline into a path.
struct Pen<'a> {
    path: &'a mut Path,
    scale: f64,
    start: f64,
}

impl Pen<'_> {
    fn at(&self, x: f32, y: f32) -> [f64; 2] {
        [self.start + f64::from(x) * self.scale, -f64::from(y) * self.scale]
    }
}

impl OutlineBuilder for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.0.push(Segment::Move(self.at(x, y)));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.0.push(Segment::Line(self.at(x, y)));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.path.0.push(Segment::Quad(self.at(x1, y1), self.at(x, y)));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.path
            .0
            .push(Segment::Cubic(self.at(x1, y1), self.at(x2, y2), self.at(x, y)));
    }

    fn close(&mut self) {
        self.path.0.push(Segment::Close);
    }
}
