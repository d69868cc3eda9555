//! YAML text to marked tree: YAML 1.2 core, anchors, merge keys; doubled keys, alias bombs and deep nesting refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::diagnostic::{Diagnostic, Sink};
use crate::scalar::{Scalar, plain};
use crate::source::{Mark, Source};
use crate::tree::{Entry, Node, Tree};

/// Pipelines are written by people: more than this is a mistake or an attack.
pub const MAX_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 400_000;

/// Parses one document. What is wrong goes to `sink`; `None` when nothing usable is left.
pub fn parse(source: &Arc<Source>, sink: &mut Sink) -> Option<Node> {
    if source.text.len() > MAX_BYTES {
        let size = source.text.len() >> 20;
        let message = format!(
            "`{}` has {size} MB; a pipeline has at most {} MB",
            source.name,
            MAX_BYTES >> 20
        );
        sink.push(Diagnostic::error(message).hint("keep data in files of their own and name their paths here"));
        return None;
    }
    let mut loader = Loader::new(source);
    let mut parser = Parser::new_from_str(&source.text);
    let built = loader.document(&mut parser, sink);
    match built {
        Ok(node) => node,
        Err(Stop::Syntax(error)) => {
            sink.push(syntax(source, &loader, &error));
            None
        }
        Err(Stop::Refused(refusal)) => {
            sink.push(*refusal);
            None
        }
    }
}

enum Stop {
    Syntax(ScanError),
    Refused(Box<Diagnostic>),
}

struct Loader<'a> {
    source: &'a Arc<Source>,
    /// Byte offset of each character when the text is not ASCII: the parser counts characters.
    offsets: Option<Vec<u32>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

type Events<'a> = Parser<'a, StrInput<'a>>;

impl<'a> Loader<'a> {
    fn new(source: &'a Arc<Source>) -> Self {
        let text = &source.text;
        let offsets = (!text.is_ascii()).then(|| {
            let ends = text.char_indices().map(|(offset, _)| offset as u32);
            ends.chain(std::iter::once(text.len() as u32)).collect()
        });
        Self {
            source,
            offsets,
            anchors: HashMap::new(),
            nodes: 0,
        }
    }

    fn byte(&self, character: usize) -> usize {
        match &self.offsets {
            None => character.min(self.source.text.len()),
            Some(offsets) => offsets
                .get(character)
                .map_or(self.source.text.len(), |&offset| offset as usize),
        }
    }

    fn mark(&self, span: Span) -> Mark {
        Mark::new(self.source, self.byte(span.start.index()), self.byte(span.end.index()))
    }

    fn document(&mut self, parser: &mut Events<'a>, sink: &mut Sink) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next(parser)?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if root.is_some() => {
                    let refusal = Diagnostic::error("a pipeline is one YAML document, this file has several");
                    return Err(refuse(refusal.at(&self.mark(span), "the second one begins here")));
                }
                event => root = Some(self.node(parser, event, span, 0, sink)?),
            }
        }
        Ok(root)
    }

    fn next(&self, parser: &mut Events<'a>) -> Result<(Event<'a>, Span), Stop> {
        match parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Stop::Syntax(error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count(&mut self, nodes: usize, mark: &Mark) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let refusal = Diagnostic::error(format!("this file expands to more than {MAX_NODES} values"))
                .at(mark, "the limit is passed here")
                .hint("aliases that hold aliases multiply; write less of it, or generate files of data instead");
            return Err(refuse(refusal));
        }
        Ok(())
    }

    fn node(
        &mut self,
        parser: &mut Events<'a>,
        event: Event<'a>,
        span: Span,
        depth: usize,
        sink: &mut Sink,
    ) -> Result<Node, Stop> {
        let mark = self.mark(span);
        self.count(1, &mark)?;
        if depth > MAX_DEPTH {
            return Err(refuse(too_deep(&mark)));
        }
        let before = self.nodes;
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(refuse(
                        Diagnostic::error("an alias inside its own anchor").at(&mark, "used here"),
                    ));
                };
                self.count(size, &mark)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => (self.scalar(&text, style, tag.as_deref(), &mark, sink), anchor),
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq", &mark, sink);
                (self.list(parser, &mark, depth, sink)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map", &mark, sink);
                (self.map(parser, &mark, depth, sink)?, anchor)
            }
            _ => (Node::new(Tree::Null, &mark), 0),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn refuse_tag(&self, tag: Option<&Tag>, allowed: &str, mark: &Mark, sink: &mut Sink) {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == allowed)) {
            sink.push(
                Diagnostic::error(format!("the tag `{}` means nothing here", shown(tag))).at(mark, "remove the tag"),
            );
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, mark: &Mark, sink: &mut Sink) -> Node {
        let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        if let Some(tag) = tag.filter(|_| !is_text) {
            let core = tag.is_yaml_core_schema() && ["int", "float", "bool", "null"].contains(&tag.suffix.as_str());
            if !core {
                sink.push(
                    Diagnostic::error(format!("the tag `{}` means nothing here", shown(tag)))
                        .at(mark, "remove the tag"),
                );
            }
        }
        if style != ScalarStyle::Plain || is_text {
            return Node::new(Tree::Text(text.to_owned()), mark);
        }
        let tree = match plain(text) {
            Scalar::Null => Tree::Null,
            Scalar::Bool(flag) => Tree::Bool(flag),
            Scalar::Number(number) => Tree::Number(number),
            Scalar::Text => Tree::Text(text.to_owned()),
            Scalar::NotFinite => {
                let wrong = Diagnostic::error(format!("`{text}` is not a number that can be computed with"));
                sink.push(
                    wrong
                        .at(mark, "expected a finite number")
                        .hint("quote it if text is meant"),
                );
                Tree::Unknown
            }
        };
        Node::new(tree, mark)
    }

    fn list(&mut self, parser: &mut Events<'a>, mark: &Mark, depth: usize, sink: &mut Sink) -> Result<Node, Stop> {
        let mut items = Vec::new();
        let mut end = mark.end;
        loop {
            let (event, span) = self.next(parser)?;
            if event == Event::SequenceEnd {
                return Ok(Node::new(Tree::List(items), &self.closed(mark, span, end)));
            }
            let item = self.node(parser, event, span, depth + 1, sink)?;
            end = end.max(item.mark.end);
            items.push(item);
        }
    }

    fn map(&mut self, parser: &mut Events<'a>, mark: &Mark, depth: usize, sink: &mut Sink) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        let mut keys: HashSet<String> = HashSet::new();
        let mut end = mark.end;
        loop {
            let (event, span) = self.next(parser)?;
            if event == Event::MappingEnd {
                break end = self.closed(mark, span, end).end;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.key(parser, event, span, depth, sink)?;
            let (event, span) = self.next(parser)?;
            let value = self.node(parser, event, span, depth + 1, sink)?;
            end = end.max(value.mark.end);
            let Some((key, key_mark)) = key else { continue };
            if is_merge {
                merged.push(value);
            } else if keys.insert(key.clone()) {
                entries.push(Entry {
                    key,
                    mark: key_mark,
                    value,
                });
            } else {
                let mut doubled =
                    Diagnostic::error(format!("the key `{key}` is there twice")).at(&key_mark, "again here");
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    doubled = doubled.also(&first.mark, "first here");
                }
                sink.push(doubled);
            }
        }
        for value in &merged {
            self.merge(value, &mut entries, &mut keys, sink)?;
        }
        Ok(Node::new(Tree::Map(entries), &Mark { end, ..mark.clone() }))
    }

    /// `<<: *base` or `<<: [*a, *b]`: keys that are there already win, earlier maps win over later ones.
    fn merge(
        &mut self,
        value: &Node,
        entries: &mut Vec<Entry>,
        keys: &mut HashSet<String>,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        let maps: Vec<&Node> = match &value.tree {
            Tree::List(items) => items.iter().collect(),
            _ => vec![value],
        };
        for map in maps {
            let Tree::Map(added) = &map.tree else {
                let wrong = Diagnostic::error(format!("`<<` merges maps, found {}", map.found()));
                sink.push(wrong.at(&map.mark, "expected an alias of a map"));
                continue;
            };
            self.count(added.len(), &map.mark)?;
            entries.extend(added.iter().filter(|entry| keys.insert(entry.key.clone())).cloned());
        }
        Ok(())
    }

    fn key(
        &mut self,
        parser: &mut Events<'a>,
        event: Event<'a>,
        span: Span,
        depth: usize,
        sink: &mut Sink,
    ) -> Result<Option<(String, Mark)>, Stop> {
        if let Event::Scalar(text, style, anchor, _) = &event {
            let mark = self.mark(span);
            self.count(1, &mark)?;
            let (text, style, anchor) = (text.to_string(), *style, *anchor);
            if anchor > 0 {
                self.anchors
                    .insert(anchor, (Node::new(Tree::Text(text.clone()), &mark), 1));
            }
            if text.is_empty() && style == ScalarStyle::Plain {
                sink.push(Diagnostic::error("a key without a name").at(&mark, "expected a name before the colon"));
                return Ok(None);
            }
            return Ok(Some((text, mark)));
        }
        let key = self.node(parser, event, span, depth + 1, sink)?;
        if let Tree::Text(text) = &key.tree {
            return Ok(Some((text.clone(), key.mark.clone())));
        }
        let wrong = Diagnostic::error(format!("a key must be a text, found {}", key.found()));
        sink.push(
            wrong
                .at(&key.mark, "this is no key")
                .hint("`${…}` wants quotes inside `{ }` and `[ ]`: \"${vars.x}\""),
        );
        Ok(None)
    }

    /// The mark of a collection that ends at `span`; block collections end with their last value.
    fn closed(&self, mark: &Mark, span: Span, end: usize) -> Mark {
        let close = self.byte(span.end.index());
        let is_flow = matches!(self.source.text.as_bytes().get(mark.start), Some(b'{' | b'['));
        Mark {
            end: if is_flow { close.max(end) } else { end },
            ..mark.clone()
        }
    }
}

/// A tag as it is usually written.
fn shown(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        tag.to_string()
    }
}

fn refuse(refusal: Diagnostic) -> Stop {
    Stop::Refused(Box::new(refusal))
}

fn too_deep(mark: &Mark) -> Diagnostic {
    Diagnostic::error(format!("values are nested more than {MAX_DEPTH} levels deep")).at(mark, "here")
}

/// A syntax error in our words, with the usual cause of each.
fn syntax(source: &Arc<Source>, loader: &Loader<'_>, error: &ScanError) -> Diagnostic {
    let at = loader.byte(error.marker().index());
    if let Some(reference) = unquoted_reference(&source.text, at) {
        let written = &source.text[reference.clone()];
        return Diagnostic::error(format!("`{written}` wants quotes inside `{{ }}` and `[ ]`"))
            .at(
                &Mark::new(source, reference.start, reference.end),
                format!("write \"{written}\""),
            )
            .hint("YAML reads the brace after `$` as the beginning of a map there");
    }
    if error.info().contains("recursion limit") {
        return too_deep(&Mark::new(source, at, (at + 1).min(source.text.len())));
    }
    let line_start = source.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = source.text[line_start..]
        .bytes()
        .take_while(|byte| matches!(byte, b' ' | b'\t'));
    let found = Diagnostic::error(format!("this is not YAML: {}", error.info()));
    let end = source.text[at..]
        .chars()
        .next()
        .map_or(at, |letter| at + letter.len_utf8());
    let found = found.at(&Mark::new(source, at, end), "the parser stopped here");
    if indent.clone().any(|byte| byte == b'\t') {
        return found.hint("indent with spaces, YAML knows no tabs");
    }
    found
}

/// An unquoted `${…}` inside a flow collection, on the line of the error or the two before it.
fn unquoted_reference(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let line_before = |begin: usize, _: i32| text[..begin].rfind('\n').unwrap_or(0);
    let begin = (0..3).fold(at, line_before);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let (mut depth, mut quote, mut previous) = (0_usize, None, ' ');
    for (offset, letter) in text[begin..end].char_indices() {
        let place = begin + offset;
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if !previous.is_alphanumeric() => quote = Some(letter),
            (None, '$') if depth > 0 && text[place..].starts_with("${") => {
                let close = text[place..end].find('}')?;
                return Some(place..place + close + 1);
            }
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, '#') if previous.is_whitespace() => return None,
            _ => {}
        }
        previous = letter;
    }
    None
}
