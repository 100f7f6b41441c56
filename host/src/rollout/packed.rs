//! Objects kept small: a rollout has those of very many clusters at once, and looks at those of a few.
//!
//! Each names every cluster of the mesh, so that what one takes as a tree grows with their number, and what all take with
//! its square. Packed, one of a thousand clusters takes a hundredth of that.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::Value;

/// An object, packed. The same object, the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    bytes: Arc<[u8]>,
    length: usize,
}

impl Packed {
    /// Packs an object.
    pub(super) fn of(object: &Value) -> Self {
        let text = object.to_string();
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        let _memory_takes_it_all = packer.write_all(text.as_bytes()).is_ok();
        Self { bytes: packer.finish().unwrap_or_default().into(), length: text.len() }
    }

    /// How many bytes it takes as JSON.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The object. One that is nested deeper than any server takes says nothing, as a file does that nobody can read.
    pub(super) fn open(&self) -> Value {
        let mut text = Vec::new();
        let _of_our_own_making = ZlibDecoder::new(&*self.bytes).read_to_end(&mut text).is_ok();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_comes_out_as_it_went_in_and_takes_far_less_in_between() {
        let named: Vec<Value> =
            (0..1000).map(|n| json!({"name": format!("c{n}"), "n": n, "f": 0.5})).collect();
        let object =
            json!({"kind": "WasmPlugin", "spec": {"clusters": named, "text": "\u{1b} ä", "none": null}});
        let packed = Packed::of(&object);
        assert_eq!(packed.open(), object);
        assert_eq!(packed, Packed::of(&packed.open()));
        let (text, bytes) = (packed.length(), packed.bytes.len());
        assert_eq!(text, object.to_string().len());
        assert!(bytes * 4 < text, "{bytes} bytes of {text}");
    }
}
