//! The content-addressed store of fracture: digests, artifacts, records, row memo, file digests.
//!
//! The store knows no stage: it keeps tables, blobs and trees by content, records of what an action gave, raw rows, and
//! the digests of files that were hashed before.

pub mod artifact;
pub mod claim;
pub mod column;
pub mod digest;
pub mod error;
pub mod files;
mod frame;
pub mod gc;
pub mod inventory;
pub mod live;
mod log;
pub mod memo;
mod memo_compact;
mod memo_segment;
mod presence;
pub mod record;
mod record_compact;
mod record_index;
mod record_table;
mod spool;
pub mod store;
pub mod table;

pub use artifact::{Artifact, Column, ColumnType, Table, TreeFile};
pub use claim::{Claim, Claimed, Claims};
pub use column::{ColumnHasher, arrow_type, column_digest, column_type};
pub use digest::{Digest, Framed};
pub use error::{Result, StoreError};
pub use files::{FileDigests, FileState};
pub use memo::Memo;
pub use record::{Found, Output, PartText, Published, Record, Records, Summary, outputs_digest};
pub use record_compact::Compacted;
pub use store::{Store, StoreOptions};
pub use table::{TableReader, TableWriter};
