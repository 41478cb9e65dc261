//! Shared by all decoders of input: bounded decompression, lenient JSON, values within limits, names of statuses, and the end
//! of a rate limit.

pub mod inflate;
pub mod lenient;
pub mod limits;
pub mod read;
pub mod retry;
pub mod words;
