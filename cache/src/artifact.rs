//! Artifacts: what a task leaves behind. A table, a blob or a tree of blobs, named by content.

use serde::{Deserialize, Serialize};

use crate::digest::{Bytes, Digest, Framed, Values};

/// The type of a column. Only types that every reader of Arrow files survives are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// UTF-8 text (`LargeUtf8`).
    Text,
    /// A flag (`Boolean`).
    Bool,
    /// A signed integer (`Int64`).
    I64,
    /// A count (`UInt32`).
    U32,
    /// An unsigned integer (`UInt64`).
    U64,
    /// Single precision (`Float32`).
    F32,
    /// A probability or a statistic (`Float64`).
    F64,
    /// Microseconds in UTC (`Timestamp`).
    Time,
    /// A list of token ids (`LargeList<UInt32>`).
    ListU32,
    /// A list of numbers (`LargeList<Float32>`).
    ListF32,
    /// A vector of the given length (`FixedSizeList<Float32>`).
    Vector(u32),
}

/// A column of a table: `content` goes into keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// The canonical digest of type, values and validity.
    pub content: Digest<Values>,
}

/// A table in the store: an Arrow IPC file. `blob` is for integrity only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The digest of the file.
    pub blob: Digest<Bytes>,
    /// The size of the file in bytes.
    pub size: u64,
    /// The number of rows.
    pub rows: u64,
    /// The columns in order.
    pub columns: Vec<Column>,
}

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// The path inside the tree, with `/` between its parts, never absolute and without `..`.
    pub path: String,
    /// The digest of its bytes.
    pub blob: Digest<Bytes>,
    /// Its size in bytes.
    pub size: u64,
}

/// What a task leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artifact {
    /// Rows and columns.
    Table(Table),
    /// One file: its digest and its size.
    Blob(Digest<Bytes>, u64),
    /// A folder of files, sorted by path.
    Tree(Vec<TreeFile>),
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Artifact {
    /// The objects that it is made of: digest and size in bytes.
    pub fn objects(&self) -> impl Iterator<Item = (&Digest<Bytes>, u64)> {
        let (one, files): (_, &[TreeFile]) = match self {
            Self::Table(table) => (Some((&table.blob, table.size)), &[]),
            Self::Blob(blob, size) => (Some((blob, *size)), &[]),
            Self::Tree(files) => (None, files),
        };
        one.into_iter().chain(files.iter().map(|file| (&file.blob, file.size)))
    }

    /// The digest of its content: of a table the digests of its columns, so that another version of the file format moves
    /// nothing.
    pub fn content(&self) -> Digest<Values> {
        let mut framed = Framed::new("artifact");
        match self {
            Self::Table(table) => {
                framed
                    .text("table")
                    .number(table.rows)
                    .number(table.columns.len() as u64);
                for column in &table.columns {
                    framed.text(&column.name).digest(&column.content);
                }
            }
            Self::Blob(digest, size) => {
                framed.text("blob").digest(digest).number(*size);
            }
            Self::Tree(files) => {
                framed.text("tree").number(files.len() as u64);
                for file in files {
                    framed.text(&file.path).digest(&file.blob);
                }
            }
        }
        framed.finish()
    }

    /// Whether two artifacts say the same. Tables are compared by the content of their columns: the bytes of their files
    /// may differ with the version of arrow or zstd that wrote them.
    pub fn same_content(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Table(one), Self::Table(two)) => one.rows == two.rows && one.columns == two.columns,
            _ => self == other,
        }
    }
}
