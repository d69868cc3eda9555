//! What every figure has around its plot: a title above, a legend, a caption below; and the sizes of a paper.

use crate::font::Font;
use crate::glyphs::{Key, draw_key};
use crate::scene::{Anchor, GREY, Scene, Text};

/// Width of a column of a paper, 8.5 cm in points.
pub const COLUMN: f64 = 8.5 / 2.54 * 72.0;
/// Width of a page of a paper, 17.8 cm.
pub const PAGE: f64 = 17.8 / 2.54 * 72.0;
/// Size of the font.
pub const TEXT: f64 = 7.0;
/// Size of the smallest text.
pub const SMALL: f64 = 6.0;
/// Size of a title.
pub const TITLE: f64 = 8.0;
/// Space around everything.
pub const MARGIN: f64 = 4.0;
/// Distance of lines of text.
pub const LEADING: f64 = TEXT * 1.3;

/// A figure in the making: a scene, and how far down it is filled.
pub struct Page<'a> {
    /// The picture.
    pub scene: Scene,
    /// Its font.
    pub font: &'a Font,
    /// Where the next thing starts.
    pub y: f64,
}

impl<'a> Page<'a> {
    /// A page with its title above; `named` is what the picture is called where it has no title.
    pub fn new(font: &'a Font, width: f64, title: Option<&str>, named: &str) -> Self {
        let mut scene = Scene {
            width,
            height: 0.0,
            title: title.unwrap_or(named).to_owned(),
            description: String::new(),
            marks: Vec::new(),
        };
        let mut y = MARGIN;
        let lines = title.map(|title| font.wrap(title, TITLE, width - 2.0 * MARGIN));
        for line in lines.unwrap_or_default() {
            y += TITLE;
            scene.text(font, &Text::new(&line, TITLE, Anchor::Start), [MARGIN, y]);
            y += TITLE * 0.35;
        }
        Self { scene, font, y }
    }

    /// Writes a text.
    pub fn text(&mut self, text: &Text<'_>, at: [f64; 2]) {
        self.scene.text(self.font, text, at);
    }

    /// Adds a legend, in as many lines as it takes.
    pub fn legend(&mut self, entries: &[(Key, String)]) {
        if entries.is_empty() {
            self.y += 2.0;
            return;
        }
        let right = self.scene.width - MARGIN;
        let (mut x, mut y) = (MARGIN, self.y + TEXT + 1.0);
        for (key, text) in entries {
            let mark = key.width();
            let text = self.font.cut(text, TEXT, right - MARGIN - mark);
            let wide = mark + self.font.width(&text, TEXT);
            if x > MARGIN && x + wide > right {
                x = MARGIN;
                y += LEADING + 1.0;
            }
            draw_key(&mut self.scene, *key, [x, y]);
            self.scene
                .text(self.font, &Text::new(&text, TEXT, Anchor::Start), [x + mark, y]);
            x += wide + if mark > 0.0 { 9.0 } else { 5.0 };
        }
        self.y = y + 4.0;
    }

    /// Ends the page with its caption.
    pub fn finish(mut self, caption: &str) -> Scene {
        self.y += 4.0;
        for line in self.font.wrap(caption, TEXT, self.scene.width - 2.0 * MARGIN) {
            self.y += LEADING;
            let text = Text::new(&line, TEXT, Anchor::Start).colored(GREY);
            self.scene.text(self.font, &text, [MARGIN, self.y]);
        }
        self.scene.description = caption.to_owned();
        self.scene.height = self.y + 3.0 + MARGIN;
        self.scene
    }
}
