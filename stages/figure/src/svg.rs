//! A scene as SVG: text as outlines with its words beside them, coordinates to a hundredth of a point.
//!
//! Outlines, because programs that import an SVG (Inkscape, LaTeX, Word) drop an embedded font and put another in its
//! place: labels would then overlap. The words stay as `aria-label`, and a reader of the screen gets `title` and `desc`.

use crate::scene::{Color, Mark, Path, Point, Scene, Segment};

/// Millimetres in a point.
const MILLIMETRES: f64 = 25.4 / 72.0;

/// Writes a scene.
pub fn write(scene: &Scene) -> Vec<u8> {
    let (width, height) = (coordinate(scene.width), coordinate(scene.height));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}mm\" height=\"{}mm\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n",
        coordinate(scene.width * MILLIMETRES),
        coordinate(scene.height * MILLIMETRES),
        escaped(&scene.title),
        escaped(&scene.description),
    );
    for mark in &scene.marks {
        match mark {
            Mark::Fill { path, color, opacity } => {
                let opacity = if *opacity < 1.0 {
                    format!(" fill-opacity=\"{}\"", coordinate(*opacity))
                } else {
                    String::new()
                };
                text.push_str(&format!(
                    "<path fill=\"{}\"{opacity} d=\"{}\"/>\n",
                    hex(*color),
                    data(path)
                ));
            }
            Mark::Stroke { path, line } => {
                let dash = line.dash.map_or_else(String::new, |[dash, gap]| {
                    format!(" stroke-dasharray=\"{} {}\"", coordinate(dash), coordinate(gap))
                });
                let round = if line.round {
                    " stroke-linecap=\"round\" stroke-linejoin=\"round\""
                } else {
                    ""
                };
                text.push_str(&format!(
                    "<path fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{dash}{round} d=\"{}\"/>\n",
                    hex(line.color),
                    coordinate(line.width),
                    data(path),
                ));
            }
            Mark::Text(label) => text.push_str(&format!(
                "<path fill=\"{}\" aria-label=\"{}\" d=\"{}\"/>\n",
                hex(label.color),
                escaped(&label.text),
                data(&label.path)
            )),
        }
    }
    text.push_str("</svg>\n");
    text.into_bytes()
}

/// A path as the `d` of SVG.
fn data(path: &Path) -> String {
    let mut text = String::new();
    let mut points = |letter: char, points: &[Point]| {
        text.push(letter);
        for (index, [x, y]) in points.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(&format!("{} {}", coordinate(*x), coordinate(*y)));
        }
    };
    for segment in &path.0 {
        match segment {
            Segment::Move(to) => points('M', &[*to]),
            Segment::Line(to) => points('L', &[*to]),
            Segment::Quad(control, to) => points('Q', &[*control, *to]),
            Segment::Cubic(first, second, to) => points('C', &[*first, *second, *to]),
            Segment::Close => points('Z', &[]),
        }
    }
    text
}

/// A coordinate with at most two digits behind the point.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn hex([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A text in XML. Control characters, which XML can not hold, become spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}
