//! What every decoder at the edge needs: bounded inflating, JSON as others write it, values within their limits, words for
//! a status, and when a rate limit ends.
//!
//! Owns shapes and limits that the rooms of decoders share. Refuses to know what a field means.

pub mod inflate;
pub mod lenient;
pub mod limits;
pub mod read;
pub mod retry;
pub mod words;
