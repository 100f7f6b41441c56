use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::unpack;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).expect("memory");
    }
    archive.into_inner().expect("memory")
}

#[test]
fn a_module_is_found_however_it_is_packed() {
    for packed in [
        MODULE.to_vec(),
        gzip(MODULE),
        gzip(&gzip(MODULE)),
        tar(&[("any.name", MODULE), ("other", b"x")]),
        gzip(&tar(&[("plugin.wasm", MODULE)])),
    ] {
        assert_eq!(unpack(packed).expect("a module"), MODULE);
    }
    for (none, wanted) in [
        (b"<html>".to_vec(), "does not begin"),
        (MODULE[..5].to_vec(), "does not begin"),
        (gzip(b"x"), "does not begin"),
        (tar(&[("first", b"x"), ("second", MODULE)]), "does not begin"),
        (gzip(MODULE)[..9].to_vec(), ""),
        (Vec::new(), "does not begin"),
    ] {
        let said = unpack(none).expect_err("no module");
        assert!(said.contains(wanted), "{said}");
    }
}
