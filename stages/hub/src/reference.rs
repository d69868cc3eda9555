//! Names of models on a hub: `hf://ORG/NAME@REVISION`.

use std::fmt;

use fracture_stage::Error;
use fracture_stage::source::HUB;

/// The revision that is meant when none is named.
pub const MAIN: &str = "main";

/// The longest revision.
const REVISION_LIMIT: usize = 200;
/// The longest organisation or name.
const NAME_LIMIT: usize = 96;

/// A model on a hub at a revision: a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The user or organisation.
    pub organisation: String,
    /// The model's name.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Reference {
    /// Reads `hf://ORG/NAME`, `hf://ORG/NAME@REVISION`.
    ///
    /// # Errors
    /// When it is none; the error says what is wrong and how it is written.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| {
            Error::pipeline(format!("`{source}` names no model on the hub: {problem}"))
                .hint("it is written hf://ORG/NAME or hf://ORG/NAME@REVISION; a file of it is chosen by `file:`")
        };
        let rest = source
            .strip_prefix(HUB)
            .ok_or_else(|| wrong("it does not begin with hf://"))?;
        let (whole, revision) = match rest.split_once('@') {
            Some((whole, revision)) => (whole, revision),
            None => (rest, MAIN),
        };
        let (organisation, name) = whole
            .split_once('/')
            .ok_or_else(|| wrong("there is no organisation before the name"))?;
        if !is_name(organisation) || !is_name(name) {
            return Err(wrong(
                "organisation and name are made of letters, digits, `-`, `_` and `.`",
            ));
        }
        if !is_revision(revision) {
            return Err(wrong("the revision is no branch, tag or commit"));
        }
        Ok(Self {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// `ORG/NAME`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// A file of it as lock files write it: `hf://ORG/NAME/PATH`, with `@REVISION` behind the name where that is not `main`.
    pub fn file(&self, path: &str) -> String {
        format!("{}/{path}", self.folder())
    }

    /// What every [`Reference::file`] begins with, without the slash.
    pub fn folder(&self) -> String {
        let repository = self.repository();
        match self.revision.as_str() {
            MAIN => format!("{HUB}{repository}"),
            revision => format!("{HUB}{repository}@{}", revision.replace('/', "%2F")),
        }
    }

    /// The reference and the path of what [`Reference::file`] wrote.
    pub fn of_file(source: &str) -> Option<(Self, &str)> {
        let rest = source.strip_prefix(HUB)?;
        let name = rest.find('/')? + 1;
        let end = name + rest.get(name..)?.find('/')?;
        let (folder, path) = (rest.get(..end)?, rest.get(end + 1..)?);
        let reference = Self::parse(&format!("{HUB}{}", folder.replace("%2F", "/"))).ok()?;
        (!path.is_empty()).then_some((reference, path))
    }

    /// Whether the revision is a whole commit, which never means another one.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HUB}{}@{}", self.repository(), self.revision)
    }
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // `--` stands between organisation and name in the cache.
    (1..=NAME_LIMIT).contains(&text.len())
        && text.bytes().all(plain)
        && !text.contains("..")
        && !text.contains("--")
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
}

/// Whether a text is a revision that may become part of a path and of an address.
fn is_revision(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte);
    (1..=REVISION_LIMIT).contains(&text.len())
        && text.bytes().all(plain)
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && !text.contains("..")
        && !text.starts_with('-')
}

/// Whether a hub's name of a commit may become part of a path and of a lock file.
pub(crate) fn is_commit_name(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn references_are_read() {
        let reference = Reference::parse("hf://org/a-model.v1").unwrap();
        assert_eq!(
            (reference.repository().as_str(), reference.revision.as_str()),
            ("org/a-model.v1", "main")
        );
        assert_eq!(reference.to_string(), "hf://org/a-model.v1@main");
        let request = Reference::parse("hf://org/m@refs/pr/5").unwrap();
        assert_eq!(request.revision, "refs/pr/5");
        assert!(!request.is_commit());
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(Reference::parse(&format!("hf://org/m@{commit}")).unwrap().is_commit());
    }

    #[test]
    fn what_is_none_is_refused() {
        for source in [
            "org/name",
            "hf://name",
            "hf://",
            "hf:///name",
            "hf://org/",
            "hf://org/name/file.gguf",
            "hf://../name",
            "hf://org/..",
            "hf://org/na--me",
            "hf://org/name@",
            "hf://org/name@../../x",
            "hf://org/name@a//b",
            "hf://org/name@/etc",
            "hf://org/name@-x",
            "hf://org/name@a b",
            "hf://org/name@a\tb",
            "hf://org/name@.git/x",
        ] {
            let error = Reference::parse(source).unwrap_err();
            assert!(error.message.contains(source) && error.hint.is_some(), "{source}");
        }
    }

    #[test]
    fn files_lead_back_to_their_reference() {
        for (source, written) in [
            ("hf://org/name", "hf://org/name/onnx/model.onnx"),
            ("hf://org/name@main", "hf://org/name/onnx/model.onnx"),
            ("hf://org/name@v1.0", "hf://org/name@v1.0/onnx/model.onnx"),
            ("hf://org/name@refs/pr/5", "hf://org/name@refs%2Fpr%2F5/onnx/model.onnx"),
        ] {
            let reference = Reference::parse(source).unwrap();
            assert_eq!(reference.file("onnx/model.onnx"), written);
            assert_eq!(Reference::of_file(written), Some((reference, "onnx/model.onnx")));
        }
        assert_eq!(Reference::of_file("hf://org/name"), None);
        assert_eq!(Reference::of_file("examples/models/x"), None);
    }
}
