//! What the header of an ONNX file says: opsets, inputs, external data files, the size of the vocabulary.
//!
//! The file is walked as protobuf and the weights are skipped by seeking, so a model of several gigabytes costs a few
//! milliseconds. Lengths are bounded by the file, texts by [`TEXT_LIMIT`], nesting by [`DEPTH_LIMIT`]: a damaged or hostile
//! file gives an error, never a large allocation. Field numbers: `onnx.proto` of the ONNX project.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use fracture_stage::Error;

/// The longest name that is read, bytes.
const TEXT_LIMIT: u64 = 1 << 16;
/// How deep graphs may hold graphs.
const DEPTH_LIMIT: u32 = 16;
/// How many dimensions an input or output may have.
const MOST_DIMENSIONS: usize = 64;
/// Operators whose result for one row depends on the other rows of the batch: they take one scale from the whole tensor.
const BATCH_DEPENDENT: [&str; 3] = ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"];

/// What is known of a graph without its weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphHeader {
    /// `(domain, version)` of every operator set, as written; the domain `""` is ONNX itself.
    pub opsets: Vec<(String, u64)>,
    /// The version of the file format.
    pub ir_version: u64,
    /// Names of the inputs that are no weights.
    pub inputs: Vec<String>,
    /// How many tokens the graph is exported for, where it fixes that.
    pub length: Option<u64>,
    /// How many logits it gives for a text, where it fixes that: the columns of `logits`, or of its only output.
    pub labels: Option<u64>,
    /// The locations of external data, relative to the folder of the model file, sorted.
    pub external: Vec<String>,
    /// Rows of the embedding that `input_ids` indexes, where the graph shows it plainly.
    pub vocabulary: Option<u64>,
    /// Whether an operator mixes the rows of a batch (dynamic quantization): such a graph is fed one row at a time.
    pub batch_dependent: bool,
}

impl GraphHeader {
    /// Reads the header of the ONNX file at `path`.
    ///
    /// # Errors
    /// When the file can not be read, is truncated or is no ONNX model.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let file = File::open(path).map_err(|e| Error::input(format!("cannot open the model {shown}")).cause(e))?;
        let length = file
            .metadata()
            .map_err(|e| Error::input(format!("cannot read {shown}")).cause(e))?
            .len();
        let mut walker = Walker::new(BufReader::with_capacity(1 << 16, file), length);
        let damaged = |e: io::Error| {
            Error::input(format!("{shown} is no readable ONNX model"))
                .cause(e)
                .hint("copy the file again; a Git LFS pointer or a cut-off download looks like this")
        };
        walker.model().map_err(damaged)?;
        walker.finish().map_err(damaged)
    }

    /// The version of ONNX's own operator set.
    pub fn opset(&self) -> Option<u64> {
        self.opsets
            .iter()
            .find(|(domain, _)| domain.is_empty() || domain == "ai.onnx")
            .map(|(_, version)| *version)
    }
}

/// The value of a protobuf field; the bytes of `Bytes(length)` follow in the stream.
#[derive(Clone, Copy)]
enum Value {
    Number(u64),
    Bytes(u64),
    Skipped,
}

/// An input or output: its name and its dimensions, `None` where one is not fixed.
#[derive(Default)]
struct ValueInfo {
    name: String,
    dimensions: Vec<Option<u64>>,
}

struct Walker<R> {
    reader: R,
    position: u64,
    length: u64,
    header: GraphHeader,
    saw_graph: bool,
    declared: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    embeddings: BTreeSet<String>,
    rows: HashMap<String, u64>,
    external: BTreeSet<String>,
}

impl<R: BufRead + Seek> Walker<R> {
    fn new(reader: R, length: u64) -> Self {
        Self {
            reader,
            position: 0,
            length,
            header: GraphHeader::default(),
            saw_graph: false,
            declared: Vec::new(),
            outputs: Vec::new(),
            embeddings: BTreeSet::new(),
            rows: HashMap::new(),
            external: BTreeSet::new(),
        }
    }

    fn finish(mut self) -> io::Result<GraphHeader> {
        if !self.saw_graph {
            return Err(bad("it holds no graph"));
        }
        let fixed = |value: Option<&ValueInfo>| match value?.dimensions[..] {
            [_, last] => last.filter(|last| *last > 0),
            _ => None,
        };
        self.header.length = fixed(self.declared.iter().find(|input| input.name == "input_ids"));
        self.header.labels = fixed(match &self.outputs[..] {
            [only] => Some(only),
            several => several.iter().find(|output| output.name == "logits"),
        });
        self.header.inputs = self
            .declared
            .into_iter()
            .map(|input| input.name)
            .filter(|name| !self.rows.contains_key(name))
            .collect();
        self.header.external = self.external.into_iter().collect();
        self.header.vocabulary = self
            .embeddings
            .iter()
            .filter_map(|name| self.rows.get(name))
            .copied()
            .max();
        Ok(self.header)
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.position += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(bad("a number is too long"))
    }

    /// The next field of the message that ends at `end`.
    fn field(&mut self, end: u64) -> io::Result<Option<(u64, Value)>> {
        if self.position == end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.skip(8).map(|()| Value::Skipped)?,
            2 => Value::Bytes(self.varint()?),
            5 => self.skip(4).map(|()| Value::Skipped)?,
            _ => return Err(bad("an unknown kind of field")),
        };
        let stop = match value {
            Value::Bytes(n) => self.position.checked_add(n),
            _ => Some(self.position),
        };
        match stop {
            Some(stop) if stop <= end && stop <= self.length => Ok(Some((tag >> 3, value))),
            _ => Err(bad(format!(
                "a field ends beyond the end of the file at byte {}",
                self.length
            ))),
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        if self.position.checked_add(count).is_none_or(|stop| stop > self.length) {
            return Err(bad(format!("it is cut off at byte {}", self.length)));
        }
        let offset = i64::try_from(count).map_err(|_| bad("a field is too long"))?;
        self.reader.seek_relative(offset)?;
        self.position += count;
        Ok(())
    }

    fn pass(&mut self, value: Value) -> io::Result<()> {
        match value {
            Value::Bytes(n) => self.skip(n),
            _ => Ok(()),
        }
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > TEXT_LIMIT {
            return Err(bad("a name is too long"));
        }
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += length;
        String::from_utf8(bytes).map_err(|_| bad("a name is not UTF-8"))
    }

    /// `ModelProto`: 1 ir_version, 7 graph, 8 opset_import { 1 domain, 2 version }.
    fn model(&mut self) -> io::Result<()> {
        while let Some((number, value)) = self.field(self.length)? {
            match (number, value) {
                (1, Value::Number(n)) => self.header.ir_version = n,
                (7, Value::Bytes(n)) => {
                    self.saw_graph = true;
                    self.graph(self.position + n, 0)?;
                }
                (8, Value::Bytes(n)) => self.opset(self.position + n)?,
                (_, value) => self.pass(value)?,
            }
        }
        Ok(())
    }

    fn opset(&mut self, end: u64) -> io::Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(n)) => domain = self.text(n)?,
                (2, Value::Number(n)) => version = n,
                (_, value) => self.pass(value)?,
            }
        }
        self.header.opsets.push((domain, version));
        Ok(())
    }

    /// `GraphProto`: 1 node, 5 initializer, 11 input, 12 output.
    fn graph(&mut self, end: u64, depth: u32) -> io::Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(bad("graphs are nested too deeply"));
        }
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(n)) => self.node(self.position + n, depth)?,
                (5, Value::Bytes(n)) => self.tensor(self.position + n)?,
                (11, Value::Bytes(n)) if depth == 0 => {
                    let input = self.value_info(self.position + n)?;
                    self.declared.push(input);
                }
                (12, Value::Bytes(n)) if depth == 0 => {
                    let output = self.value_info(self.position + n)?;
                    self.outputs.push(output);
                }
                (_, value) => self.pass(value)?,
            }
        }
        Ok(())
    }

    /// `ValueInfoProto`: 1 name, 2 type { 1 tensor_type { 2 shape { 1 dim { 1 dim_value } } } }.
    fn value_info(&mut self, end: u64) -> io::Result<ValueInfo> {
        let mut info = ValueInfo::default();
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(n)) => info.name = self.text(n)?,
                (2, Value::Bytes(n)) => self.shape(self.position + n, &[1, 2, 1], &mut info.dimensions)?,
                (_, value) => self.pass(value)?,
            }
        }
        Ok(info)
    }

    /// Follows the fields of `path` down to the dimensions, each of which may hold its number (1).
    fn shape(&mut self, end: u64, path: &[u64], dimensions: &mut Vec<Option<u64>>) -> io::Result<()> {
        while let Some((number, value)) = self.field(end)? {
            match (number, value, path) {
                (1, Value::Number(n), []) => *dimensions.last_mut().ok_or_else(|| bad("a shape is damaged"))? = Some(n),
                (number, Value::Bytes(n), [next, rest @ ..]) if number == *next => {
                    if rest.is_empty() {
                        dimensions.push(None);
                    }
                    if dimensions.len() > MOST_DIMENSIONS {
                        return Err(bad("a shape has too many dimensions"));
                    }
                    self.shape(self.position + n, rest, dimensions)?;
                }
                (_, value, _) => self.pass(value)?,
            }
        }
        Ok(())
    }

    /// `NodeProto`: 1 input, 4 op_type, 5 attribute.
    fn node(&mut self, end: u64, depth: u32) -> io::Result<()> {
        let (mut inputs, mut operator) = (Vec::new(), String::new());
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(n)) => inputs.push(self.text(n)?),
                (4, Value::Bytes(n)) => operator = self.text(n)?,
                (5, Value::Bytes(n)) => self.attribute(self.position + n, depth)?,
                (_, value) => self.pass(value)?,
            }
        }
        self.header.batch_dependent |= BATCH_DEPENDENT.contains(&operator.as_str());
        if operator == "Gather"
            && let [table, indices] = &inputs[..]
            && indices == "input_ids"
        {
            self.embeddings.insert(table.clone());
        }
        Ok(())
    }

    /// `AttributeProto`: 5 t (a tensor), 6 g (a graph), 10 tensors, 11 graphs.
    fn attribute(&mut self, end: u64, depth: u32) -> io::Result<()> {
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (5 | 10, Value::Bytes(n)) => self.tensor(self.position + n)?,
                (6 | 11, Value::Bytes(n)) => self.graph(self.position + n, depth + 1)?,
                (_, value) => self.pass(value)?,
            }
        }
        Ok(())
    }

    /// `TensorProto`: 1 dims, 8 name, 13 external_data { 1 key, 2 value }, 14 data_location (1 = external).
    fn tensor(&mut self, end: u64) -> io::Result<()> {
        let (mut rows, mut name, mut location, mut external) = (None, String::new(), None, false);
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Number(n)) => rows = rows.or(Some(n)),
                (1, Value::Bytes(n)) if n > 0 => {
                    let stop = self.position + n;
                    rows = rows.or(Some(self.varint()?));
                    let rest = stop
                        .checked_sub(self.position)
                        .ok_or_else(|| bad("a shape is damaged"))?;
                    self.skip(rest)?;
                }
                (8, Value::Bytes(n)) => name = self.text(n)?,
                (13, Value::Bytes(n)) => location = self.entry(self.position + n)?.or(location),
                (14, Value::Number(n)) => external = n == 1,
                (_, value) => self.pass(value)?,
            }
        }
        if external && let Some(location) = location {
            self.external.insert(location);
        }
        self.rows.insert(name, rows.unwrap_or(0));
        Ok(())
    }

    /// The value of a `StringStringEntryProto` whose key is `location`.
    fn entry(&mut self, end: u64) -> io::Result<Option<String>> {
        let (mut key, mut text) = (String::new(), String::new());
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(n)) => key = self.text(n)?,
                (2, Value::Bytes(n)) => text = self.text(n)?,
                (_, value) => self.pass(value)?,
            }
        }
        Ok((key == "location").then_some(text))
    }
}

fn bad(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

#[cfg(test)]
mod tests;
