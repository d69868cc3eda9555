//! What comes together before anything is substituted: the file, what it includes, profiles and `--set`.
//! Maps merge, lists and scalars replace, `null` removes; later wins: include < file < profiles from left to right < `--set`.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use fracture_stage::Files;

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::suggestion;
use crate::source::{Mark, Source};
use crate::tree::{Entry, Node, Tree};
use crate::yaml;

/// Puts `over` over `base`.
pub fn merge(base: &Node, over: &Node) -> Node {
    let (Tree::Map(below), Tree::Map(above)) = (&base.tree, &over.tree) else {
        return over.clone();
    };
    let index: HashMap<&str, usize> = below.iter().enumerate().map(|(at, entry)| (&*entry.key, at)).collect();
    // A place that is emptied stays until the end, so that the others keep theirs.
    let mut entries: Vec<Option<Entry>> = below.iter().cloned().map(Some).collect();
    for entry in above {
        let place = index.get(&*entry.key).copied();
        match (place, &entry.value.tree) {
            (Some(place), Tree::Null) => entries[place] = None,
            (None, Tree::Null) => {}
            (Some(place), _) => {
                let value = merge(&below[place].value, &entry.value);
                entries[place] = Some(Entry { value, ..entry.clone() });
            }
            (None, _) => entries.push(Some(entry.clone())),
        }
    }
    let entries = entries.into_iter().flatten().collect();
    Node::new(Tree::Map(entries), &base.mark)
}

/// Leaves out `x-` keys everywhere.
pub fn without_extensions(mut node: Node) -> Node {
    leave_out_extensions(&mut node);
    node
}

fn leave_out_extensions(node: &mut Node) {
    match &mut node.tree {
        Tree::Map(entries) => {
            entries.retain(|entry| !entry.key.starts_with("x-"));
            entries
                .iter_mut()
                .for_each(|entry| leave_out_extensions(&mut entry.value));
        }
        Tree::List(items) => items.iter_mut().for_each(leave_out_extensions),
        _ => {}
    }
}

/// Parses a file and puts it over what it includes.
pub struct Loader<'a> {
    /// Reads included files.
    pub files: &'a dyn Files,
    /// The project's root: nothing outside is read.
    pub root: &'a Path,
    /// The files being loaded, outermost first.
    pub open: Vec<PathBuf>,
    /// Every file that was read, by path.
    pub read: Vec<PathBuf>,
    /// Whether an include failed, which was said: what the file lacks without it is not worth saying.
    pub incomplete: bool,
}

impl Loader<'_> {
    /// The tree of a file with everything that it includes below it; `None` when it is no map. `included` is where another
    /// file names it.
    pub fn load(&mut self, path: &Path, text: &str, included: Option<&Mark>, sink: &mut Sink) -> Option<Node> {
        let name = path
            .strip_prefix(self.root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Arc::new(Source::new(name, text).included_at(included));
        let errors = sink.errors();
        let Some(parsed) = yaml::parse(&source, sink) else {
            if sink.errors() == errors {
                let empty = Diagnostic::error(format!("`{}` is empty", source.name)).at(&Mark::new(&source, 0, 0), "");
                sink.push(empty.hint("a pipeline begins with `version: 1` and has `stages:`"));
            }
            return None;
        };
        let node = without_extensions(parsed);
        if !matches!(node.tree, Tree::Map(_)) {
            let wrong = Diagnostic::error(format!("a pipeline is a map, found {}", node.found()));
            sink.push(wrong.at(&node.mark, "expected keys such as `version:` and `stages:`"));
            return None;
        }
        self.read.push(path.to_owned());
        self.open.push(path.to_owned());
        let node = self.with_includes(node, path, sink);
        self.open.pop();
        Some(node)
    }

    fn with_includes(&mut self, node: Node, path: &Path, sink: &mut Sink) -> Node {
        let Some(include) = node.get("include") else {
            return node;
        };
        let wanted: Vec<Node> = match &include.tree {
            Tree::List(items) => items.clone(),
            Tree::Null => Vec::new(),
            _ => vec![include.clone()],
        };
        let mut below: Option<Node> = None;
        for one in wanted {
            let Some(name) = one.text() else {
                sink.push(
                    Diagnostic::error(format!("`include`: found {}, expected a path", one.found())).at(&one.mark, ""),
                );
                self.incomplete = true;
                continue;
            };
            let included = self.included(name, path, &one.mark, sink);
            self.incomplete |= included.is_none();
            below = match (below, included) {
                (Some(below), Some(over)) => Some(merge(&below, &over)),
                (below, included) => included.or(below),
            };
        }
        let mut node = node;
        if let Tree::Map(entries) = &mut node.tree {
            entries.retain(|entry| entry.key != "include");
        }
        match below {
            None => node,
            Some(below) => Node {
                tree: merge(&below, &node).tree,
                mark: node.mark,
            },
        }
    }

    fn included(&mut self, name: &str, from: &Path, mark: &Mark, sink: &mut Sink) -> Option<Node> {
        let mut fail = |message: String, label: &str| {
            sink.push(Diagnostic::error(message).at(mark, label));
            None
        };
        let folder = from.parent().unwrap_or(Path::new(""));
        let path = normal(&folder.join(name));
        // The pipeline may have been named from the current folder, and the root in full.
        let full = |path: &Path| normal(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        if Path::new(name).is_absolute() || !full(&path).starts_with(full(self.root)) {
            return fail(
                format!("`{name}` leads outside the project"),
                "an include is relative to this file and inside the project",
            );
        }
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if let (Some(file), Some(root)) = (real(&path), real(self.root))
            && !file.starts_with(root)
        {
            return fail(format!("`{name}` leads outside the project through a link"), "not read");
        }
        if self.open.contains(&path) {
            let round: Vec<String> = self
                .open
                .iter()
                .chain([&path])
                .map(|one| format!("{}", one.strip_prefix(self.root).unwrap_or(one).display()))
                .collect();
            return fail(
                format!("files include each other: {}", round.join(" -> ")),
                "included here",
            );
        }
        let bytes = match self.files.head(&path, yaml::MAX_BYTES + 1) {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = error.context(format!("`{name}` can not be included"));
                let missing = Diagnostic::from_stage(error.hint("an include is relative to the file that names it"));
                sink.push(missing.at(mark, "included here"));
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.load(&path, &text, Some(mark), sink),
            Err(_) => fail(format!("`{name}` is not UTF-8"), "a pipeline is UTF-8 text"),
        }
    }
}

/// A path without `.` and `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if parts.file_name().is_some() => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts
}

/// Puts profiles over a pipeline.
pub fn with_profiles(node: Node, profiles: &[String], sink: &mut Sink) -> Node {
    let mut node = node;
    for name in profiles {
        let known = node.get("profiles").map(Node::entries).unwrap_or_default();
        let Some(entry) = known.iter().find(|entry| entry.key == *name) else {
            let hint = suggestion(name, known.iter().map(|entry| entry.key.as_str()), "profiles");
            let mut unknown = Diagnostic::error(format!("there is no profile `{name}`")).hint(hint);
            if let Some(profiles) = node.entry("profiles") {
                unknown = unknown.at(&profiles.mark, "the profiles of this pipeline");
            }
            sink.push(unknown);
            continue;
        };
        let over = entry.value.clone();
        if let Some(version) = over
            .entry("profiles")
            .or(over.entry("include"))
            .or(over.entry("version"))
        {
            sink.push(
                Diagnostic::error(format!("a profile can not change `{}`", version.key))
                    .at(&version.mark, "inside a profile"),
            );
            continue;
        }
        node = merge(&node, &over);
    }
    node
}

/// Puts `PATH=YAML` over a pipeline.
pub fn with_sets(node: Node, sets: &[String], sink: &mut Sink) -> Node {
    sets.iter().fold(node, |node, set| with_set(node, set, sink))
}

fn with_set(node: Node, set: &str, sink: &mut Sink) -> Node {
    let text = set.to_owned();
    let Some((path, value)) = set.split_once('=') else {
        let wrong = Diagnostic::error(format!("`--set {set}` sets nothing"))
            .hint("write --set PATH=VALUE, for example --set vars.harm=9");
        sink.push(wrong);
        return node;
    };
    let source = Arc::new(Source::new("--set", text));
    let whole = Mark::new(&source, 0, path.len());
    // Only the value is parsed; its places are moved behind the equals sign.
    let blank: String = path.chars().map(|_| ' ').chain([' ']).collect();
    let padded = Arc::new(Source::new("--set", format!("{blank}{value}")));
    let errors = sink.errors();
    let value = match yaml::parse(&padded, sink) {
        Some(value) => moved(&value, &source, set.len(), path.len() + 1),
        None if sink.errors() > errors => return node,
        None => Node::new(Tree::Null, &whole),
    };
    let mut steps: Vec<&str> = path.trim().split('.').collect();
    if steps.iter().any(|step| step.is_empty()) {
        sink.push(
            Diagnostic::error(format!("`{path}` is no path")).at(&whole, "expected names with dots between them"),
        );
        return node;
    }
    if let ["vars" | "stages" | "models" | "figures", name, ..] = steps.as_slice() {
        let known = node.get(steps[0]).map(Node::entries).unwrap_or_default();
        if !known.iter().any(|entry| entry.key == *name) && (steps[0] == "vars" || steps.len() > 2) {
            let hint = suggestion(name, known.iter().map(|entry| entry.key.as_str()), steps[0]);
            sink.push(
                Diagnostic::error(format!("the pipeline has no `{}.{name}` to set", steps[0]))
                    .at(&whole.narrow(name), hint),
            );
            return node;
        }
    }
    let first = steps.remove(0);
    put(&node, first, &steps, value, &whole, sink)
}

fn moved(value: &Node, source: &Arc<Source>, limit: usize, shift: usize) -> Node {
    let mark = |mark: &Mark| {
        // Columns are kept by one blank per character; bytes of the path may be more.
        let skew = shift.saturating_sub(source.text[..shift].chars().count());
        Mark::new(source, (mark.start + skew).min(limit), (mark.end + skew).min(limit))
    };
    let tree = match &value.tree {
        Tree::List(items) => Tree::List(items.iter().map(|item| moved(item, source, limit, shift)).collect()),
        Tree::Map(entries) => {
            let entry = |entry: &Entry| Entry {
                key: entry.key.clone(),
                mark: mark(&entry.mark),
                value: moved(&entry.value, source, limit, shift),
            };
            Tree::Map(entries.iter().map(entry).collect())
        }
        other => other.clone(),
    };
    Node {
        tree,
        mark: mark(&value.mark),
    }
}

fn put(node: &Node, step: &str, rest: &[&str], value: Node, mark: &Mark, sink: &mut Sink) -> Node {
    let below = |child: Option<&Node>, sink: &mut Sink| match rest.split_first() {
        None => value.clone(),
        Some((next, rest)) => {
            let empty = Node::new(Tree::Map(Vec::new()), mark);
            put(child.unwrap_or(&empty), next, rest, value.clone(), mark, sink)
        }
    };
    match &node.tree {
        Tree::List(items) => {
            let Some(index) = step.parse::<usize>().ok().filter(|index| *index < items.len()) else {
                let message = format!("`{step}` is no item of a list of {}", items.len());
                sink.push(Diagnostic::error(message).at(&mark.narrow(step), "expected a number from 0"));
                return node.clone();
            };
            let mut items = items.clone();
            items[index] = below(items.get(index), sink);
            Node::new(Tree::List(items), &node.mark)
        }
        Tree::Map(_) | Tree::Null => {
            let mut entries = node.entries().to_vec();
            let place = entries.iter().position(|entry| entry.key == step);
            let child = below(place.map(|place| &entries[place].value), sink);
            match (place, &child.tree) {
                (Some(place), Tree::Null) => drop(entries.remove(place)),
                (Some(place), _) => entries[place].value = child,
                (None, Tree::Null) => {}
                (None, _) => entries.push(Entry {
                    key: step.to_owned(),
                    mark: mark.clone(),
                    value: child,
                }),
            }
            Node::new(Tree::Map(entries), &node.mark)
        }
        _ => {
            let message = format!("`{step}` can not be set inside {}", node.found());
            sink.push(
                Diagnostic::error(message)
                    .at(mark, "this path leads through a value")
                    .also(&node.mark, "this value"),
            );
            node.clone()
        }
    }
}
