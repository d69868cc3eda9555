//! PDF files: one page of the figure's size, real text in an embedded font, no dates.

use serde_json::json;

use super::{picture, tables};

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn a_pdf_has_text_in_an_embedded_font() {
    let (_, _, pdf) = picture(
        "pdf",
        &json!({ "plot": "grid" }),
        vec![("table", vec![tables::rubric(2)])],
    )
    .unwrap();
    assert!(pdf.starts_with(b"%PDF-1."));
    for part in ["/FontFile", "+LiberationSans", "/ToUnicode", "/Lang", "/Title"] {
        assert!(holds(&pdf, part), "{part}");
    }
    // A subset: the font alone has 400 kB.
    assert!(pdf.len() < 60_000, "{}", pdf.len());
    for part in ["CreationDate", "ModDate", "CreateDate", "/Subtype/Image"] {
        assert!(!holds(&pdf, part), "{part}");
    }
}
