//! Language models that a server runs, over the OpenAI protocol.
