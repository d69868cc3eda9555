//! Names: what they may look like, and which known one was probably meant.

pub use fracture_stage::names::{listing, nearest, suggestion};

/// Whether a text is a name: `[A-Za-z_][A-Za-z0-9_-]*`.
pub fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        assert!(is_name("deploy-again") && is_name("_x9"));
        assert!(!is_name("9x") && !is_name("") && !is_name("a.b") && !is_name("é"));
    }
}
