//! A scene as PDF: vector graphics and real text in an embedded subset of the font, so that it can be searched, selected
//! and printed. The bytes hold no date; the file's identifiers are hashes of its content.

use fracture_stage::Error;
use krilla::Document;
use krilla::color::rgb;
use krilla::geom::{PathBuilder, Point, Transform};
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule, LineCap, LineJoin, Stroke, StrokeDash};
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph};

use crate::font;
use crate::scene::{Color, Label, Line, Mark, Path, Scene, Segment};

/// Draws a scene on one page of its size.
///
/// # Errors
/// When the page has no size or can not be written, which no table should cause.
pub fn write(scene: &Scene) -> Result<Vec<u8>, Error> {
    let font =
        Font::new(font::FILE.into(), 0).ok_or_else(|| Error::internal("the font can not be embedded into a PDF"))?;
    let settings = PageSettings::from_wh(scene.width as f32, scene.height as f32).ok_or_else(|| {
        let (width, height) = (scene.width, scene.height);
        Error::internal(format!("a page of {width} by {height} points can not be drawn"))
    })?;
    let mut document = Document::new();
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    for mark in &scene.marks {
        draw(&mut surface, mark, &font);
    }
    surface.finish();
    page.finish();
    let metadata = Metadata::new()
        .title(scene.title.clone())
        .description(scene.description.clone())
        .creator("fracture".to_owned())
        .language("en".to_owned());
    document.set_metadata(metadata);
    document
        .finish()
        .map_err(|error| Error::internal(format!("a figure can not be written as PDF: {error:?}")))
}

fn draw(surface: &mut Surface<'_>, mark: &Mark, font: &Font) {
    match mark {
        Mark::Fill { path, color, opacity } => {
            let Some(path) = outline(path) else { return };
            surface.set_stroke(None);
            surface.set_fill(Some(filled(*color, *opacity)));
            surface.draw_path(&path);
        }
        Mark::Stroke { path, line } => {
            let Some(path) = outline(path) else { return };
            surface.set_fill(None);
            surface.set_stroke(Some(stroked(line)));
            surface.draw_path(&path);
        }
        Mark::Text(label) => write_text(surface, label, font),
    }
}

fn write_text(surface: &mut Surface<'_>, label: &Label, font: &Font) {
    let em = |length: f64| (length / label.size) as f32;
    let glyphs: Vec<KrillaGlyph> = label
        .glyphs
        .iter()
        .map(|glyph| {
            let id = GlyphId::new(u32::from(glyph.id));
            KrillaGlyph::new(id, em(glyph.advance), 0.0, 0.0, 0.0, glyph.bytes.clone(), None)
        })
        .collect();
    surface.set_stroke(None);
    surface.set_fill(Some(filled(label.color, 1.0)));
    let ([x, y], [cos, sin]) = (label.origin.map(rounded), label.direction.map(|part| part as f32));
    surface.push_transform(&Transform::from_row(cos, sin, -sin, cos, x, y));
    let origin = Point::from_xy(0.0, 0.0);
    surface.draw_glyphs(origin, &glyphs, font.clone(), &label.text, label.size as f32, false);
    surface.pop();
}

fn paint([red, green, blue]: Color) -> krilla::paint::Paint {
    rgb::Color::new(red, green, blue).into()
}

fn filled(color: Color, opacity: f64) -> Fill {
    Fill {
        paint: paint(color),
        opacity: NormalizedF32::new(opacity as f32).unwrap_or(NormalizedF32::ONE),
        rule: FillRule::NonZero,
    }
}

fn stroked(line: &Line) -> Stroke {
    let (line_cap, line_join) = if line.round {
        (LineCap::Round, LineJoin::Round)
    } else {
        (LineCap::Butt, LineJoin::Miter)
    };
    Stroke {
        paint: paint(line.color),
        width: line.width as f32,
        miter_limit: 4.0,
        line_cap,
        line_join,
        opacity: NormalizedF32::ONE,
        dash: line.dash.map(|lengths| StrokeDash {
            array: lengths.map(|length| length as f32).to_vec(),
            offset: 0.0,
        }),
    }
}

/// Hundredths of a point, as in SVG and PNG.
fn rounded(value: f64) -> f32 {
    ((value * 100.0).round() / 100.0) as f32
}

fn outline(path: &Path) -> Option<krilla::geom::Path> {
    let mut builder = PathBuilder::new();
    for segment in &path.0 {
        match *segment {
            Segment::Move(to) => builder.move_to(rounded(to[0]), rounded(to[1])),
            Segment::Line(to) => builder.line_to(rounded(to[0]), rounded(to[1])),
            Segment::Quad(by, to) => builder.quad_to(rounded(by[0]), rounded(by[1]), rounded(to[0]), rounded(to[1])),
            Segment::Cubic(one, two, to) => {
                let [x1, y1] = one.map(rounded);
                let [x2, y2] = two.map(rounded);
                let [x, y] = to.map(rounded);
                builder.cubic_to(x1, y1, x2, y2, x, y);
            }
            Segment::Close => builder.close(),
        }
    }
    builder.finish()
}
