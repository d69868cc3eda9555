//! The DAG as a picture. Boxes are placed by `layout-rs`; what is drawn there is drawn here, so that labels fit their boxes
//! and the same pipeline gives the same bytes.

use std::collections::HashMap;
use std::fmt::Write as _;

use layout::core::base::Orientation;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

use super::{Drawing, Node};
use crate::engine::plan::State;

/// A monospaced font: every letter takes this share of the font's size, so widths are known without the font.
const LETTER: f64 = 0.602;
const FONT: &str = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";
/// Font sizes of the name and of the lines below it.
const NAME: f64 = 14.0;
const LINE: f64 = 12.0;
/// Between the text and the edge of its box.
const INSET: (f64, f64) = (12.0, 10.0);
/// Longer lines are cut in the middle.
const LETTERS: usize = 44;
/// Around everything.
const MARGIN: f64 = 16.0;
/// What marks the text of a box, in contrast to that of an edge.
const OF_BOX: char = '#';

/// How boxes of a state look: fill, line, and the words of the legend.
fn look(state: Option<State>) -> (&'static str, &'static str, &'static str) {
    match state {
        Some(State::Cached) => ("#e3f3e6", "#2f7d4a", "cached: its result is there"),
        Some(State::Run) => ("#fdecd2", "#b5620b", "a run computes it"),
        Some(State::Pending) => ("#fbf7d5", "#8d7a12", "waits for what a run computes"),
        None => ("#f3f4f6", "#5b6470", "not run yet"),
    }
}

/// The lines of a box: its name first.
fn lines(node: &Node) -> Vec<String> {
    let (stage, variables) = match node.name.split_once('[') {
        Some((stage, variables)) => (stage, variables.trim_end_matches(']')),
        None => (node.name.as_str(), ""),
    };
    let mut lines = vec![cut(stage)];
    if !variables.is_empty() {
        lines.extend(variables.split(',').map(cut));
    }
    let tasks = if node.tasks == 1 {
        String::new()
    } else {
        format!(" × {}", node.tasks)
    };
    lines.push(cut(&format!("{}{tasks}", node.kind)));
    if let Some([cached, run, pending]) = node.states {
        let word = |count: usize, word: &str| {
            (count > 0).then(|| {
                if node.tasks == 1 {
                    word.to_owned()
                } else {
                    format!("{count} {word}")
                }
            })
        };
        let words = [word(run, "to run"), word(pending, "pending"), word(cached, "cached")];
        lines.push(words.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
    lines
}

fn cut(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= LETTERS {
        return text.to_owned();
    }
    let half = (LETTERS - 1) / 2;
    let (begin, end) = (&letters[..half], &letters[letters.len() - half..]);
    begin.iter().chain(&['…']).chain(end).collect()
}

fn size(lines: &[String]) -> Point {
    let width = |(index, line): (usize, &String)| {
        let font = if index == 0 { NAME } else { LINE };
        line.chars().count() as f64 * font * LETTER
    };
    let widest = lines.iter().enumerate().map(width).fold(60.0, f64::max);
    let height = NAME + (lines.len() - 1) as f64 * LINE * 1.4;
    Point::new(widest.ceil() + 2.0 * INSET.0, height.ceil() + 2.0 * INSET.1)
}

/// Draws the picture.
pub fn draw(drawing: &Drawing) -> String {
    let direction = Orientation::LeftToRight;
    let mut graph = VisualGraph::new(direction);
    // Its checks of its own work take time that grows with the number of paths.
    graph.dag.set_validate(false);
    let boxes: Vec<Vec<String>> = drawing.nodes.iter().map(lines).collect();
    let style = StyleAttr {
        font_size: 12,
        ..StyleAttr::simple()
    };
    // Tasks of one stage stand in one column and are equally wide.
    let mut widest: HashMap<&str, f64> = HashMap::new();
    for lines in &boxes {
        let width = widest.entry(&lines[0]).or_default();
        *width = width.max(size(lines).x);
    }
    let handles: Vec<_> = boxes
        .iter()
        .enumerate()
        .map(|(index, lines)| {
            let shape = ShapeKind::Box(format!("{OF_BOX}{index}"));
            let size = Point::new(widest[lines[0].as_str()], size(lines).y);
            graph.add_node(Element::create(shape, style.clone(), direction, size))
        })
        .collect();
    // By the order of what they come from: what an edge leads to has no edges of its own then, so that looking for cycles
    // takes no time.
    for ((from, to), labels) in drawing.pairs() {
        let arrow = Arrow {
            look: style.clone(),
            ..Arrow::simple(&labels.join(", "))
        };
        graph.add_edge(arrow, handles[from], handles[to]);
    }
    let mut canvas = Canvas {
        drawing,
        boxes: &boxes,
        placed: Vec::new(),
        edges: Vec::new(),
        labels: Vec::new(),
        low: (f64::MAX, f64::MAX),
        high: (f64::MIN, f64::MIN),
        last: None,
    };
    if !boxes.is_empty() {
        graph.do_it(false, false, false, &mut canvas);
    }
    canvas.finish()
}

/// Takes what is drawn and writes it as SVG.
struct Canvas<'a> {
    drawing: &'a Drawing,
    boxes: &'a [Vec<String>],
    /// Boxes with their top left corner and size.
    placed: Vec<(usize, Point, Point)>,
    edges: Vec<String>,
    labels: Vec<(Point, String)>,
    low: (f64, f64),
    high: (f64, f64),
    /// The rectangle that was drawn last; the text behind it says whose it is.
    last: Option<(Point, Point)>,
}

impl RenderBackend for Canvas<'_> {
    fn draw_rect(&mut self, xy: Point, size: Point, _: &StyleAttr, _: Option<String>, _: Option<ClipHandle>) {
        self.grow(xy);
        self.grow(xy.add(size));
        self.last = Some((xy, size));
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_text(&mut self, xy: Point, text: &str, _: &StyleAttr) {
        let index = text.strip_prefix(OF_BOX).and_then(|index| index.parse::<usize>().ok());
        match (index, self.last.take()) {
            (Some(index), Some((at, size))) => self.placed.push((index, at, size)),
            _ => self.labels.push((xy, text.to_owned())),
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _: bool,
        _: (bool, bool),
        _: &StyleAttr,
        _: Option<String>,
        _: &str,
    ) {
        let [(begin, leave), (enter, end), rest @ ..] = path else {
            return;
        };
        let mut line = format!("M{} C{} {} {}", at(*begin), at(*leave), at(*enter), at(*end));
        for (control, point) in rest {
            let _ = write!(line, " S{} {}", at(*control), at(*point));
            self.grow(*point);
        }
        self.edges.push(line);
    }

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

impl Canvas<'_> {
    fn grow(&mut self, point: Point) {
        self.low = (self.low.0.min(point.x), self.low.1.min(point.y));
        self.high = (self.high.0.max(point.x), self.high.1.max(point.y));
    }

    fn finish(mut self) -> String {
        if self.placed.is_empty() {
            self.grow(Point::zero());
        }
        self.placed.sort_by_key(|(index, ..)| *index);
        let mut states: Vec<Option<State>> = self.drawing.nodes.iter().map(Node::state).collect();
        states.sort_by_key(|state| state.map(|state| state as usize));
        states.dedup();
        let legend = self.legend(&states);
        let (left, top) = (self.low.0 - MARGIN, self.low.1 - MARGIN);
        let (width, height) = (self.high.0 + MARGIN - left, self.high.1 + MARGIN - top);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"{2} {3} {0} {1}\" \
             font-family=\"{FONT}\">\n<defs><marker id=\"head\" viewBox=\"0 0 10 8\" refX=\"9.5\" refY=\"4\" markerWidth=\"9\" \
             markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 L10 4 L0 8 z\" fill=\"#5b6470\"/></marker></defs>\n",
            short(width),
            short(height),
            short(left),
            short(top),
        );
        let _ = writeln!(
            text,
            "<rect x=\"{}\" y=\"{}\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
            short(left),
            short(top)
        );
        for line in &self.edges {
            let _ = writeln!(
                text,
                "<path d=\"{line}\" fill=\"none\" stroke=\"#5b6470\" stroke-width=\"1.5\" marker-end=\"url(#head)\"/>"
            );
        }
        for (index, at, size) in &self.placed {
            text.push_str(&self.drawn(*index, *at, *size));
        }
        for (at, label) in &self.labels {
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{}\" font-size=\"{LINE}\" text-anchor=\"middle\" fill=\"#1f2328\" stroke=\"#ffffff\" \
                 stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
                short(at.x),
                short(at.y - 6.0),
                escaped(label)
            );
        }
        text.push_str(&legend);
        text.push_str("</svg>\n");
        text
    }

    fn drawn(&self, index: usize, at: Point, size: Point) -> String {
        let node = &self.drawing.nodes[index];
        let (fill, line, _) = look(node.state());
        let mut text = format!(
            "<g><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"{fill}\" stroke=\"{line}\" \
             stroke-width=\"1.5\"/>\n",
            escaped(&node.name),
            short(at.x),
            short(at.y),
            short(size.x),
            short(size.y),
        );
        let mut below = at.y + INSET.1 + NAME * 0.8;
        for (number, words) in self.boxes[index].iter().enumerate() {
            let (font, weight, color) = if number == 0 {
                (NAME, "bold", "#1f2328")
            } else {
                (LINE, "normal", "#3d444d")
            };
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{}\" font-size=\"{font}\" font-weight=\"{weight}\" fill=\"{color}\">{}</text>",
                short(at.x + INSET.0),
                short(below),
                escaped(words),
            );
            below += LINE * 1.4;
        }
        text.push_str("</g>\n");
        text
    }

    /// What the colours mean, below the picture.
    fn legend(&mut self, states: &[Option<State>]) -> String {
        let mut text = String::new();
        if states.iter().all(Option::is_none) {
            return text;
        }
        let mut y = self.high.1 + 28.0;
        for state in states {
            let (fill, line, words) = look(*state);
            let _ = writeln!(
                text,
                "<rect x=\"{0}\" y=\"{1}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{fill}\" stroke=\"{line}\" \
                 stroke-width=\"1.5\"/><text x=\"{2}\" y=\"{3}\" font-size=\"{LINE}\" fill=\"#3d444d\">{words}</text>",
                short(self.low.0),
                short(y),
                short(self.low.0 + 22.0),
                short(y + 11.0),
            );
            self.grow(Point::new(
                self.low.0 + 22.0 + words.chars().count() as f64 * LINE * LETTER,
                y + 14.0,
            ));
            y += 22.0;
        }
        text
    }
}

fn at(point: Point) -> String {
    format!("{} {}", short(point.x), short(point.y))
}

/// A length with at most one digit behind the point.
fn short(number: f64) -> String {
    let rounded = (number * 10.0).round() / 10.0;
    // Minus zero is zero.
    format!("{}", rounded + 0.0)
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
