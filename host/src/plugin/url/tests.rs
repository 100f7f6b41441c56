use serde_json::{Map, Value, json};

use super::{ModuleUrl, ModuleUrlError};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parsed(text: &str) -> ModuleUrl {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn spec(url: &ModuleUrl) -> Value {
    let mut spec = Map::new();
    url.describe(&mut spec);
    Value::Object(spec)
}

#[test]
fn each_scheme_says_its_own_digest() {
    let image = format!("oci://r.example/isthmus:v1@sha256:{HEX}");
    let web = format!("https://w.example/isthmus.wasm@sha256:{HEX}");
    for (text, wanted) in [
        (
            "oci://r.example/isthmus:v1",
            json!({"url": "oci://r.example/isthmus:v1", "imagePullPolicy": "Always"}),
        ),
        (&image, json!({"url": image, "sha256": HEX, "imagePullPolicy": "IfNotPresent"})),
        ("http://w.example/a", json!({"url": "http://w.example/a", "imagePullPolicy": "Always"})),
        (
            &web,
            json!({"url": "https://w.example/isthmus.wasm", "sha256": HEX, "imagePullPolicy": "IfNotPresent"}),
        ),
        ("file:///etc/isthmus.wasm", json!({"url": "file:///etc/isthmus.wasm"})),
    ] {
        let url = parsed(text);
        assert_eq!(spec(&url), wanted);
        let known = |field: &String| super::FIELDS.contains(&field.as_str());
        assert!(spec(&url).as_object().expect("fields").keys().all(known));
        assert_eq!(url.to_string(), text);
    }
    assert_eq!(parsed("file:///etc/isthmus.wasm").file(), Some("/etc/isthmus.wasm"));
    assert_eq!(parsed(&image).file(), None);
}

#[test]
fn a_pull_secret_is_for_images() {
    let url = parsed("oci://r.example/isthmus:v1").with_pull_secret("registry.example").expect("a name");
    assert_eq!(spec(&url)["imagePullSecret"], "registry.example");
    for name in ["", "Upper", "-a", "a.", "a/b", &"a".repeat(254)] {
        let error = parsed("oci://r.example/isthmus:v1").with_pull_secret(name).expect_err(name);
        assert!(matches!(error, ModuleUrlError::Secret(_)), "{error}");
    }
    let error = parsed("https://w.example/a").with_pull_secret("a").expect_err("no image");
    assert!(error.to_string().contains("for images"), "{error}");
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    let file = format!("file:///etc/isthmus.wasm@sha256:{HEX}");
    for (text, wanted) in [
        ("isthmus.wasm", "write oci://, https://, http:// or file://"),
        ("ftp://w.example/a", "write oci://"),
        ("oci://isthmus:v1", "names no registry"),
        ("oci://r.example/isthmus@sha256:00", "is not a digest"),
        ("https://", "is not where a proxy can get a module"),
        ("https:///a", "is not where a proxy can get a module"),
        ("https://me:secret@w.example/a", "would read the password"),
        ("https://w.example/a#b", "after a #"),
        ("https://w.example/a@sha256:00", "64 hexadecimal digits"),
        ("https://w.example/a@sha256", "64 hexadecimal digits"),
        ("https://w.example/a b", "it is no URL"),
        ("file://isthmus.wasm", "its whole path"),
        ("file:///etc/", "its whole path"),
        ("file://", "its whole path"),
        (&file, "no digest of a file"),
    ] {
        let said = text.parse::<ModuleUrl>().expect_err(text).to_string();
        assert!(said.contains(wanted), "{text}: {said}");
    }
}
