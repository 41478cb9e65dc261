//! Tests of `api`.

use crate::Case;
pub(crate) fn trials() -> Vec<Case> {
    Vec::new()
}
