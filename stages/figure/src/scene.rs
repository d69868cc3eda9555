//! A picture before it is written: filled and stroked paths in points (1/72 inch), y down. SVG and PNG are both made from
//! it, so that they show the same.

use crate::font::Font;

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
        let corners = [[x + width, y], [x + width, y + height], [x, y + height]];
        let mut segments = vec![Segment::Move([x, y])];
        segments.extend(corners.map(Segment::Line));
        segments.push(Segment::Close);
        Self(segments)
    }

    /// A line through points.
    pub fn line(points: &[Point]) -> Self {
        let place = |(index, point): (usize, &Point)| match index {
            0 => Segment::Move(*point),
            _ => Segment::Line(*point),
        };
        Self(points.iter().enumerate().map(place).collect())
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
}

impl Line {
    /// A continuous line.
    pub fn solid(color: Color, width: f64) -> Self {
        Self {
            color,
            width,
            dash: None,
        }
    }
}

/// One thing that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A filled path; `label` is the text that it shows, if it is text.
    Fill {
        /// The outline.
        path: Path,
        /// Its colour.
        color: Color,
        /// The text.
        label: Option<String>,
    },
    /// A stroked path.
    Stroke {
        /// The path.
        path: Path,
        /// Its look.
        line: Line,
    },
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
        self.marks.push(Mark::Fill {
            path,
            color,
            label: None,
        });
    }

    /// Strokes a path.
    pub fn stroke(&mut self, path: Path, line: Line) {
        self.marks.push(Mark::Stroke { path, line });
    }

    /// Writes a text with its baseline at a point.
    pub fn text(&mut self, font: &Font, text: &Text<'_>, at: Point) {
        if text.text.is_empty() {
            return;
        }
        let back = match text.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        } * font.width(text.text, text.size);
        let [cos, sin] = text.direction;
        let turned = |[x, y]: Point| {
            let x = x - back;
            [at[0] + x * cos - y * sin, at[1] + x * sin + y * cos]
        };
        let path = font.outline(text.text, text.size).map(turned);
        self.marks.push(Mark::Fill {
            path,
            color: text.color,
            label: Some(text.text.to_owned()),
        });
    }
}
