//! What a document says it is: `apiVersion` and `kind`.

use crate::document::Fields;
use crate::finding::{Code, Finding};

/// The version of every document of ours.
pub const API_VERSION: &str = "isthmus.dev/v1alpha1";

/// Takes `apiVersion` and `kind`; anything but ours and `kind` is a finding and `None`.
pub fn expect(fields: &mut Fields<'_>, kind: &'static str) -> Option<()> {
    let version = said(fields, "apiVersion", API_VERSION);
    let kind = said(fields, "kind", kind);
    version.and(kind)
}

fn said(fields: &mut Fields<'_>, key: &'static str, wanted: &'static str) -> Option<()> {
    let found = fields.required_value::<String>(key)?;
    if found.value == wanted {
        return Some(());
    }
    fields.findings().push(Finding {
        at: found.at,
        code: Code::WrongKind,
        message: format!("{key} must be {wanted}, and this is {:?}", found.value),
        hint: format!("write {key}: {wanted}"),
    });
    None
}
