//! A picture before it is written: filled and stroked paths and texts in points (1/72 inch), y down. SVG, PDF and PNG are
//! all made from it, so that they show the same. A text carries its words, its glyphs and its outlines: PDF sets it in the
//! embedded font, SVG and PNG draw the outlines.

use crate::font::{Font, Glyph};

/// A point, x and y.
pub type Point = [f64; 2];

/// A colour, red, green and blue.
pub type Color = [u8; 3];

/// Text, axes and outlines.
pub const INK: Color = [0x22, 0x22, 0x22];
/// Secondary text.
pub const GREY: Color = [0x55, 0x55, 0x55];
/// Lines behind the data.
pub const GRID: Color = [0xDD, 0xDD, 0xDD];
/// The page.
pub const WHITE: Color = [0xFF, 0xFF, 0xFF];

/// Part of a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Segment {
    /// Starts an outline.
    Move(Point),
    /// A line to a point.
    Line(Point),
    /// A curve with one control point.
    Quad(Point, Point),
    /// A curve with two control points.
    Cubic(Point, Point, Point),
    /// Ends an outline where it started.
    Close,
}

/// A path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// A rectangle from its left upper corner.
    pub fn rect(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self::polygon(&[[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    }

    /// A line through points.
    pub fn line(points: &[Point]) -> Self {
        let place = |(index, point): (usize, &Point)| match index {
            0 => Segment::Move(*point),
            _ => Segment::Line(*point),
        };
        Self(points.iter().enumerate().map(place).collect())
    }

    /// A closed outline through points.
    pub fn polygon(points: &[Point]) -> Self {
        let mut path = Self::line(points);
        path.0.push(Segment::Close);
        path
    }

    /// A circle, as four curves.
    pub fn circle([x, y]: Point, radius: f64) -> Self {
        // Control points at this share of the radius keep the curve within 0.03% of a circle.
        let pull = 0.552_284_75 * radius;
        let at = |dx: f64, dy: f64| [x + dx, y + dy];
        Self(vec![
            Segment::Move(at(radius, 0.0)),
            Segment::Cubic(at(radius, pull), at(pull, radius), at(0.0, radius)),
            Segment::Cubic(at(-pull, radius), at(-radius, pull), at(-radius, 0.0)),
            Segment::Cubic(at(-radius, -pull), at(-pull, -radius), at(0.0, -radius)),
            Segment::Cubic(at(pull, -radius), at(radius, -pull), at(radius, 0.0)),
            Segment::Close,
        ])
    }

    /// Adds another path's outlines.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The path with every point changed.
    #[must_use]
    pub fn map(&self, change: impl Fn(Point) -> Point) -> Self {
        let segment = |segment: &Segment| match *segment {
            Segment::Move(to) => Segment::Move(change(to)),
            Segment::Line(to) => Segment::Line(change(to)),
            Segment::Quad(control, to) => Segment::Quad(change(control), change(to)),
            Segment::Cubic(first, second, to) => Segment::Cubic(change(first), change(second), change(to)),
            Segment::Close => Segment::Close,
        };
        Self(self.0.iter().map(segment).collect())
    }
}

/// A line's look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its colour.
    pub color: Color,
    /// Its width.
    pub width: f64,
    /// Lengths of dashes and gaps.
    pub dash: Option<[f64; 2]>,
    /// Round corners and ends: for curves of many points, whose sharp corners would spike.
    pub round: bool,
}

impl Line {
    /// A continuous line.
    pub const fn solid(color: Color, width: f64) -> Self {
        Self {
            color,
            width,
            dash: None,
            round: false,
        }
    }

    /// With dashes and gaps of these lengths.
    #[must_use]
    pub const fn dashed(mut self, dash: f64, gap: f64) -> Self {
        self.dash = Some([dash, gap]);
        self
    }

    /// With round corners and ends.
    #[must_use]
    pub const fn rounded(mut self) -> Self {
        self.round = true;
        self
    }
}

/// A text that was laid out.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The words.
    pub text: String,
    /// The glyphs, from the start of the text.
    pub glyphs: Vec<Glyph>,
    /// The size of the font.
    pub size: f64,
    /// Its colour.
    pub color: Color,
    /// Where the baseline starts.
    pub origin: Point,
    /// Direction of the baseline as cosine and sine.
    pub direction: Point,
    /// The outlines, in place.
    pub path: Path,
}

/// One thing that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A filled path.
    Fill {
        /// The outline.
        path: Path,
        /// Its colour.
        color: Color,
        /// From 0, not seen, to 1.
        opacity: f64,
    },
    /// A stroked path.
    Stroke {
        /// The path.
        path: Path,
        /// Its look.
        line: Line,
    },
    /// A text.
    Text(Label),
}

/// Where a text's x is: at its start, middle or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The text starts there.
    Start,
    /// The text is centred there.
    Middle,
    /// The text ends there.
    End,
}

/// A text and how it looks.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The words.
    pub text: &'a str,
    /// The size of the font.
    pub size: f64,
    /// Where its x is.
    pub anchor: Anchor,
    /// Its colour.
    pub color: Color,
    /// Direction of the baseline as cosine and sine, y down; `[1, 0]` is level.
    pub direction: Point,
}

impl<'a> Text<'a> {
    /// A level text.
    pub fn new(text: &'a str, size: f64, anchor: Anchor) -> Self {
        Self {
            text,
            size,
            anchor,
            color: INK,
            direction: [1.0, 0.0],
        }
    }

    /// In another colour.
    #[must_use]
    pub fn colored(mut self, color: Color) -> Self {
        self.color = color;
        self
    }

    /// In another direction.
    #[must_use]
    pub fn along(mut self, direction: Point) -> Self {
        self.direction = direction;
        self
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width in points.
    pub width: f64,
    /// Height in points.
    pub height: f64,
    /// What it is, in a few words.
    pub title: String,
    /// What it shows, for those who can not see it.
    pub description: String,
    /// What is drawn, from back to front.
    pub marks: Vec<Mark>,
}

impl Scene {
    /// Fills a path.
    pub fn fill(&mut self, path: Path, color: Color) {
        self.tint(path, color, 1.0);
    }

    /// Fills a path so that what lies behind shows through.
    pub fn tint(&mut self, path: Path, color: Color, opacity: f64) {
        self.marks.push(Mark::Fill { path, color, opacity });
    }

    /// Strokes a path.
    pub fn stroke(&mut self, path: Path, line: Line) {
        self.marks.push(Mark::Stroke { path, line });
    }

    /// Writes a text with its baseline at a point.
    pub fn text(&mut self, font: &Font, text: &Text<'_>, at: Point) {
        if let Some(label) = label(font, text, at) {
            self.marks.push(Mark::Text(label));
        }
    }

    /// Writes a text on a rim of white, so that it can be read on anything.
    pub fn rimmed(&mut self, font: &Font, text: &Text<'_>, at: Point) {
        if let Some(label) = label(font, text, at) {
            self.stroke(label.path.clone(), Line::solid(WHITE, 1.8).rounded());
            self.marks.push(Mark::Text(label));
        }
    }
}

/// Lays a text out; `None` when there are no words.
fn label(font: &Font, text: &Text<'_>, at: Point) -> Option<Label> {
    if text.text.is_empty() {
        return None;
    }
    let words: String = text
        .text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let back = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => 0.5,
        Anchor::End => 1.0,
    } * font.width(&words, text.size);
    let [cos, sin] = text.direction;
    let origin = [at[0] - back * cos, at[1] - back * sin];
    let turned = |[x, y]: Point| [origin[0] + x * cos - y * sin, origin[1] + x * sin + y * cos];
    Some(Label {
        glyphs: font.glyphs(&words, text.size),
        path: font.outline(&words, text.size).map(turned),
        text: words,
        size: text.size,
        color: text.color,
        origin,
        direction: text.direction,
    })
}
