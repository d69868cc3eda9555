//! Language models that a server runs, over the OpenAI protocol.
//!
//! [`model`] reads what a pipeline says of such a model, [`client`] asks it, and [`executor`] is the client as the
//! scheduler drives it. Below the client's requests lies [`transport`]: limits, retries, bounds on time and size, and
//! the key, which is read from the environment when a model is opened and goes into one header and nowhere else.
//!
//! What a server gives is not reproducible: a row is remembered with what the server said of itself ([`identity`]), and
//! nobody promises that it would come out again.

pub mod address;
pub mod answer;
pub mod budget;
pub mod call;
pub mod client;
pub mod executor;
pub mod failure;
pub mod identity;
pub mod limits;
pub mod model;
pub mod row;
pub mod secret;
pub mod transport;

pub use address::Address;
pub use answer::{Answer, Finish, TokenScore};
pub use call::{Call, Protocol};
pub use client::Client;
pub use executor::{Job, JobFuture, ServedExecutor, Work};
pub use failure::{Failure, Sort};
pub use model::{Model, SCHEME};
pub use row::ServedRow;
