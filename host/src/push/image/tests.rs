use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::{Image, ImageError, LAYER, MODULE, named};
use crate::digest::sha256;

const SMALLEST: &[u8] = b"\0asm\x01\0\0\0";

fn image(annotations: &[(&str, &str)]) -> Image {
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Image::of(SMALLEST, &annotations.collect::<BTreeMap<_, _>>()).expect("an image")
}

#[test]
fn the_same_module_gives_the_same_digest_and_another_note_another() {
    assert_eq!(image(&[("a", "b"), ("c", "d")]), image(&[("c", "d"), ("a", "b")]));
    assert_ne!(image(&[]).digest(), image(&[("a", "b")]).digest());
    // Written down, as another release must not give another: clusters would be told of a change where there is none.
    assert_eq!(
        image(&[]).digest().to_string(),
        "sha256:4bf227db06dc19dedbdf43a3fe4b49249614b83591e458f2a9de99f5d4ccb87e"
    );
}

#[test]
fn the_manifest_names_one_layer_that_holds_the_module_and_nothing_of_this_machine() {
    let image = image(&[]);
    let manifest: Value = serde_json::from_slice(image.manifest().bytes()).expect("JSON");
    assert_eq!(manifest["annotations"], json!({MODULE: sha256(SMALLEST)}));
    let [config, layer] = image.blobs() else { panic!("two blobs") };
    let describe = |media_type: &str, blob: &super::Blob| json!({"mediaType": media_type, "digest": format!("sha256:{}", blob.digest()), "size": blob.bytes().len()});
    assert_eq!(manifest["layers"], json!([describe(LAYER, layer)]));
    assert_eq!(manifest["config"], describe(super::CONFIG, config));

    // The gzip header: no name, no time, no system.
    assert_eq!(layer.bytes()[..4], [0x1f, 0x8b, 8, 0]);
    assert_eq!((&layer.bytes()[4..8], layer.bytes()[9]), ([0; 4].as_slice(), 255));
    let mut archive = Vec::new();
    GzDecoder::new(layer.bytes()).read_to_end(&mut archive).expect("gzip");
    let config: Value = serde_json::from_slice(config.bytes()).expect("JSON");
    assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&archive))]));
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = archive.entries().expect("a tar");
    let mut entry = entries.next().expect("a file").expect("whole");
    let header = entry.header().clone();
    assert_eq!(entry.path().expect("a name").to_str(), Some("plugin.wasm"));
    assert_eq!((header.mtime().ok(), header.uid().ok(), header.gid().ok()), (Some(0), Some(0), Some(0)));
    let mut module = Vec::new();
    entry.read_to_end(&mut module).expect("a file");
    assert_eq!(module, SMALLEST);
    assert!(entries.next().is_none());
}

#[test]
fn what_istio_would_not_take_is_told_why() {
    let good: Value = serde_json::from_slice(image(&[]).manifest().bytes()).expect("JSON");
    let changed = |pointer: &str, value: Value| {
        let mut manifest = good.clone();
        *manifest.pointer_mut(pointer).expect("a place") = value;
        named(manifest.to_string().as_bytes()).map_err(|error| error.to_string())
    };
    assert_eq!(changed("/schemaVersion", 2.into()).map(|names| names.len()), Ok(2));
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    for (pointer, value, wanted) in [
        ("/layers/0/mediaType", json!(zstd), "its last layer is application/vnd.oci.image.layer.v1.tar+zstd"),
        ("/layers", json!([]), "its last layer is missing"),
        ("/layers/0/digest", json!("sha512:00"), "a layer has no digest"),
        ("/config", json!({}), "names no config"),
        ("/mediaType", json!("application/vnd.docker.distribution.manifest.v2+json"), "rootfs.diff.tar.gzip"),
    ] {
        let said = changed(pointer, value).expect_err(pointer);
        assert!(said.contains(wanted), "{said}");
    }
    let index = json!({"schemaVersion": 2, "manifests": []});
    assert!(
        named(index.to_string().as_bytes())
            .expect_err("an index")
            .to_string()
            .contains("an index of several")
    );
    assert!(matches!(Image::of(b"no module", &BTreeMap::new()), Err(ImageError::NotWasm)));
}
