//! A scene as PNG at 300 pixels per inch.

use fracture_stage::Error;
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use crate::scene::{Color, Mark, Path, Scene, Segment, WHITE};

/// Pixels per inch.
const RESOLUTION: f64 = 300.0;

/// Draws a scene.
///
/// # Errors
/// When the picture has no size or can not be encoded, which no table should cause.
pub fn write(scene: &Scene) -> Result<Vec<u8>, Error> {
    let scale = RESOLUTION / 72.0;
    let (width, height) = (
        (scene.width * scale).round() as u32,
        (scene.height * scale).round() as u32,
    );
    let mut pixels = Pixmap::new(width, height)
        .ok_or_else(|| Error::internal(format!("a picture of {width} by {height} pixels can not be drawn")))?;
    let [red, green, blue] = WHITE;
    pixels.fill(tiny_skia::Color::from_rgba8(red, green, blue, 255));
    let transform = Transform::from_scale(scale as f32, scale as f32);
    for mark in &scene.marks {
        match mark {
            Mark::Fill { path, color, opacity } => fill(&mut pixels, path, *color, *opacity, transform),
            Mark::Text(label) => fill(&mut pixels, &label.path, label.color, 1.0, transform),
            Mark::Stroke { path, line } => {
                let (line_cap, line_join) = if line.round {
                    (LineCap::Round, LineJoin::Round)
                } else {
                    (LineCap::Butt, LineJoin::Miter)
                };
                let stroke = Stroke {
                    width: line.width as f32,
                    line_cap,
                    line_join,
                    dash: line
                        .dash
                        .and_then(|[dash, gap]| StrokeDash::new(vec![dash as f32, gap as f32], 0.0)),
                    ..Stroke::default()
                };
                if let Some(path) = outline(path) {
                    pixels.stroke_path(&path, &paint(line.color, 1.0), &stroke, transform, None);
                }
            }
        }
    }
    let bytes = pixels
        .encode_png()
        .map_err(|error| Error::internal("a picture can not be encoded").cause(error))?;
    Ok(with_resolution(bytes))
}

fn fill(pixels: &mut Pixmap, path: &Path, color: Color, opacity: f64, transform: Transform) {
    if let Some(path) = outline(path) {
        pixels.fill_path(&path, &paint(color, opacity), FillRule::Winding, transform, None);
    }
}

fn paint([red, green, blue]: Color, opacity: f64) -> Paint<'static> {
    let mut paint = Paint {
        anti_alias: true,
        ..Paint::default()
    };
    paint.set_color_rgba8(red, green, blue, (opacity * 255.0).round() as u8);
    paint
}

/// The path in hundredths of a point as SVG has it, so that both pictures are made of the same numbers.
fn outline(path: &Path) -> Option<tiny_skia::Path> {
    let round = |value: f64| ((value * 100.0).round() / 100.0) as f32;
    let mut builder = PathBuilder::new();
    for segment in &path.0 {
        match *segment {
            Segment::Move([x, y]) => builder.move_to(round(x), round(y)),
            Segment::Line([x, y]) => builder.line_to(round(x), round(y)),
            Segment::Quad([x1, y1], [x, y]) => builder.quad_to(round(x1), round(y1), round(x), round(y)),
            Segment::Cubic([x1, y1], [x2, y2], [x, y]) => {
                builder.cubic_to(round(x1), round(y1), round(x2), round(y2), round(x), round(y));
            }
            Segment::Close => builder.close(),
        }
    }
    builder.finish()
}

/// Adds the chunk `pHYs` (PNG, 11.3.5.3) behind the header, so that the picture has its size in print.
fn with_resolution(bytes: Vec<u8>) -> Vec<u8> {
    // The signature takes 8 bytes, the header chunk 25.
    const HEADER: usize = 33;
    if bytes.len() < HEADER {
        return bytes;
    }
    let per_metre = ((RESOLUTION / 0.0254).round() as u32).to_be_bytes();
    let mut chunk = b"pHYs".to_vec();
    chunk.extend(per_metre);
    chunk.extend(per_metre);
    chunk.push(1);
    let mut with = bytes[..HEADER].to_vec();
    with.extend((chunk.len() as u32 - 4).to_be_bytes());
    with.extend(&chunk);
    with.extend(crc(&chunk).to_be_bytes());
    with.extend(&bytes[HEADER..]);
    with
}

/// The checksum of PNG chunks (CRC-32, ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                0xEDB8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_png() {
        // Every PNG ends with the checksum of an empty `IEND`.
        assert_eq!(crc(b"IEND"), 0xAE42_6082);
        assert_eq!(crc(b"123456789"), 0xCBF4_3926);
    }
}
