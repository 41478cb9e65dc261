//! Replaces invalid UTF-8 in the strings of a protobuf body, since prost rejects the whole body for one of them.

use prost::encoding::encode_varint;

use super::memory::{field, varint};
use super::schema::{FieldKind, SchemaMessage};

/// Nesting that prost rejects.
const MAX_DEPTH: usize = 100;

/// `body` with U+FFFD in place of invalid UTF-8, and the number of strings that are read and were changed. A malformed
/// body stays malformed.
pub(super) fn replace_invalid(message: &'static SchemaMessage, body: &[u8]) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(body.len() + body.len() / 8);
    let mut count = 0;
    copy(message, body, MAX_DEPTH, &mut out, &mut count);
    (out, count)
}

fn copy(message: &'static SchemaMessage, mut body: &[u8], deeper: usize, out: &mut Vec<u8>, count: &mut usize) {
    while let Some((key, rest)) = varint(body) {
        let Some((value, after)) = field(key & 7, rest) else { break };
        let whole = body.get(..body.len() - after.len()).unwrap_or_default();
        let known = message.field(key >> 3).filter(|_| key & 7 == 2);
        match known.map(|field| (field.kind, field.is_read)) {
            Some((FieldKind::Text, is_read)) if std::str::from_utf8(value).is_err() => {
                *count += usize::from(is_read);
                put(key, String::from_utf8_lossy(value).as_bytes(), out);
            }
            Some((FieldKind::Message(id), _)) if deeper > 0 => {
                let mut inner = Vec::with_capacity(value.len());
                copy(id.message(), value, deeper - 1, &mut inner, count);
                put(key, &inner, out);
            }
            _ => out.extend_from_slice(whole),
        }
        body = after;
    }
    out.extend_from_slice(body);
}

fn put(key: u64, value: &[u8], out: &mut Vec<u8>) {
    encode_varint(key, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}
