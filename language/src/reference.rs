//! The syntax of `${…}`.

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text, `$${` already turned into `${`.
    Text(String),
    /// A reference.
    Reference(Reference),
}

/// `${root.field.field}` or `${root[label=value]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it was written, braces included.
    pub written: String,
    /// `vars`, `matrix`, `models`, `profile`, `env`.
    pub root: String,
    /// What follows the dots.
    pub fields: Vec<String>,
    /// What stands between brackets.
    pub filter: Option<(String, String)>,
}

/// Something that is no reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The text from `${` on.
    pub written: String,
    /// What is wrong.
    pub message: String,
}

/// Splits a text into literal pieces and references. A text without any is one piece.
///
/// # Errors
/// When a `${` is not closed or holds no reference.
pub fn split(text: &str) -> Result<Vec<Part>, Malformed> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        literal.push_str(&rest[..at - usize::from(escaped)]);
        let inner = &rest[at + 2..];
        if escaped {
            literal.push_str("${");
            rest = inner;
            continue;
        }
        let Some(close) = inner.find('}') else {
            let written = rest[at..].chars().take(40).collect();
            return Err(Malformed {
                written,
                message: "`${` is never closed by `}`".to_owned(),
            });
        };
        let written = &rest[at..at + 2 + close + 1];
        let reference = parse(&inner[..close], written);
        let reference = reference.map_err(|message| Malformed {
            written: written.to_owned(),
            message,
        })?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Reference(reference));
        rest = &inner[close + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

fn parse(inner: &str, written: &str) -> Result<Reference, String> {
    let inner = inner.trim();
    let (path, filter) = match inner.split_once('[') {
        None => (inner, None),
        Some((path, filter)) => {
            let filter = filter.strip_suffix(']').and_then(|filter| filter.split_once('='));
            let (label, value) =
                filter.ok_or_else(|| format!("`{written}` should look like `${{models[label=value]}}`"))?;
            (path, Some((label.trim().to_owned(), value.trim().to_owned())))
        }
    };
    let mut steps = path.split('.').map(|step| step.trim().to_owned());
    let root = steps.next().unwrap_or_default();
    let fields: Vec<String> = steps.collect();
    if root.is_empty() || fields.iter().any(String::is_empty) {
        return Err(format!("`{written}` names nothing"));
    }
    Ok(Reference {
        written: written.to_owned(),
        root,
        fields,
        filter,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_and_escapes() {
        let parts = split("a ${vars.x.y} $${vars.z} ${models[family=llama]}").unwrap();
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[2], Part::Text(" ${vars.z} ".to_owned()));
        assert!(matches!(&parts[1], Part::Reference(one) if one.root == "vars" && one.fields == ["x", "y"]));
        assert!(matches!(&parts[3], Part::Reference(one) if one.filter == Some(("family".into(), "llama".into()))));
        assert!(split("${vars.x").is_err() && split("${}").is_err() && split("${a..b}").is_err());
        assert_eq!(split("").unwrap(), [Part::Text(String::new())]);
    }

    proptest! {
        #[test]
        fn an_escaped_text_is_itself(text in "[a-z${} .]{0,40}") {
            let escaped = text.replace("${", "$${");
            // `$` before `${` would itself read as the escape, so such texts can not be escaped twice in a row.
            prop_assume!(!text.contains("$${"));
            prop_assert_eq!(split(&escaped).unwrap(), vec![Part::Text(text)]);
        }

        #[test]
        fn splitting_never_panics(text in ".{0,60}") {
            let _ = split(&text);
        }
    }
}
