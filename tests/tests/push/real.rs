use std::collections::BTreeMap;

use isthmus::push::image::Image;
use isthmus::push::layout;
use isthmus_tests::registry::{Proxy, Registry, Setup};
use serde_json::Value;

use super::{image, isthmus, module, pushed, reach, reference, text};

/// What curl would get: past the code under test.
async fn get(address: &str, path: &str) -> (u16, Vec<u8>) {
    use http_body_util::{BodyExt as _, Empty};
    use hyper::body::Bytes;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = hyper::Request::get(format!("http://{address}/v2/{path}"))
        .header("accept", "application/vnd.oci.image.manifest.v1+json")
        .body(Empty::new())
        .expect("a request");
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.expect("a body").to_bytes().to_vec())
}

#[tokio::test]
async fn what_is_pushed_is_at_the_registry_by_tag_and_digest_and_is_pushed_once() {
    let Some(registry) = Registry::start(Setup::default()).await else { return };
    let proxy = Proxy::before(registry.address()).await;
    let to = format!("{}/team/isthmus:v1", proxy.address());
    let image = image();
    let first = pushed(&image, &to, &reach()).await.expect("pushed");
    assert!(!first.was_there);
    assert_eq!(first.image.to_string(), format!("{to}@{}", image.digest()));
    for version in ["v1".to_owned(), image.digest().to_string()] {
        let path = format!("team/isthmus/manifests/{version}");
        assert_eq!(get(registry.address(), &path).await, (200, image.manifest().bytes().to_vec()));
    }
    for blob in image.blobs() {
        let path = format!("team/isthmus/blobs/sha256:{}", blob.digest());
        assert_eq!(get(registry.address(), &path).await, (200, blob.bytes().to_vec()));
    }
    proxy.seen();
    let second = pushed(&image, &to, &reach()).await.expect("there");
    assert!(second.was_there);
    let wrote: Vec<_> = proxy.seen().into_iter().filter(|(_, line)| line.starts_with('P')).collect();
    assert!(wrote.is_empty(), "{wrote:?}");
    // What is pushed elsewhere in the repository brings no more than its manifest.
    pushed(&image, &to.replace(":v1", ":v2"), &reach()).await.expect("pushed");
    let wrote: Vec<_> = proxy.seen().into_iter().filter(|(_, line)| line.starts_with('P')).collect();
    assert_eq!(wrote.len(), 1, "{wrote:?}");
}

#[tokio::test]
async fn a_tag_of_another_image_is_taken_only_when_that_is_said() {
    let Some(registry) = Registry::start(Setup::default()).await else { return };
    let nowhere = tempfile::tempdir().expect("a directory");
    let file = nowhere.path().join("module.wasm");
    std::fs::write(&file, module()).expect("a file");
    let to = format!("oci://{}/isthmus:v1", registry.address());
    let push = |more: &[&str]| {
        let arguments = [&["push", &to, "--module", file.to_str().expect("a path")], more].concat();
        isthmus(nowhere.path(), &arguments)
    };
    let first = push(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let first = text(&first.stdout);
    let other = push(&["--annotation", "org.opencontainers.image.version=v1"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stderr));
    let said = text(&other.stderr);
    let (_, digest) = first.trim().split_once('@').expect("a digest");
    assert!(said.contains(digest) && said.contains("--overwrite"), "{said}");
    let (_, manifest) = get(registry.address(), "isthmus/manifests/v1").await;
    assert!(!text(&manifest).contains("image.version"), "it stays as it was");

    let other = push(&["--annotation", "org.opencontainers.image.version=v1", "--overwrite", "-o", "json"]);
    assert_eq!(other.status.code(), Some(0), "{}", text(&other.stderr));
    let other: Value = serde_json::from_slice(&other.stdout).expect("JSON");
    assert_eq!(other["kind"], "Image");
    assert_eq!(other["wasThere"], false);
    assert_eq!(other["url"], format!("{to}@{}", other["digest"].as_str().expect("a digest")));
    let (status, manifest) = get(registry.address(), "isthmus/manifests/v1").await;
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!((status, &manifest["annotations"]["org.opencontainers.image.version"]), (200, &"v1".into()));
    // The one before is there still, by its digest: who runs it keeps it.
    let (status, _) = get(registry.address(), &format!("isthmus/manifests/{digest}")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_image_is_carried_in_a_directory_and_is_the_same() {
    let Some(registry) = Registry::start(Setup::default()).await else { return };
    let room = tempfile::tempdir().expect("a directory");
    let directory = room.path().join("layout");
    let image = image();
    let other = Image::of(&module(), &BTreeMap::from([("a".to_owned(), "b".to_owned())])).expect("an image");
    layout::write(&image, &directory, Some("v1")).expect("written");
    layout::write(&other, &directory, Some("v2")).expect("written");
    let name = directory.to_str().expect("a path");
    for (tag, wanted) in [("v1", &image), ("v2", &other)] {
        let to = format!("oci://{}/carried:{tag}", registry.address());
        let output = isthmus(room.path(), &["push", &to, "--from-layout", name]);
        assert_eq!(
            text(&output.stdout).trim(),
            format!("{to}@{}", wanted.digest()),
            "{}",
            text(&output.stderr)
        );
    }
    let to = format!("oci://{}/carried:v3", registry.address());
    let output = isthmus(room.path(), &["push", &to, "--from-layout", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("v1, v2"), "{}", text(&output.stderr));
    let blob = directory.join("blobs/sha256").join(image.blobs()[1].digest());
    std::fs::write(&blob, b"another").expect("a file");
    let output = isthmus(room.path(), &["push", &to.replace("v3", "v1"), "--from-layout", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(blob.to_str().expect("a path")), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_rollout_writes_what_a_tag_stands_for_and_nothing_when_nobody_can_tell() {
    let Some(mut registry) = Registry::start(Setup::default()).await else { return };
    let room = tempfile::tempdir().expect("a directory");
    let to = format!("{}/isthmus:v1", registry.address());
    let out = room.path().join("gitops");
    let rollout = |more: &[&str]| {
        let url = format!("oci://{to}");
        let arguments = ["rollout", "-f", "examples/two-clusters", "--url", &url, "--registry-timeout", "5"];
        isthmus(
            room.path(),
            &[&arguments, ["--output-dir", out.to_str().expect("a path")].as_slice(), more].concat(),
        )
    };
    let none = rollout(&[]);
    assert_eq!(none.status.code(), Some(3), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("`isthmus push` puts a module there"), "{}", text(&none.stderr));
    let done = pushed(&image(), &to, &reach()).await.expect("pushed");
    let output = rollout(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains(&format!("oci://{to} is oci://{}", done.image)),
        "{}",
        text(&output.stderr)
    );
    let spec = || {
        let file = out.join("cluster2/isthmus-inbound.yaml");
        let object: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(file).expect("a file")).expect("YAML");
        ["url", "sha256", "imagePullPolicy"]
            .map(|field| object["spec"][field].as_str().unwrap_or_default().to_owned())
    };
    let url = format!("oci://{}", done.image);
    assert_eq!(spec(), [url, image().digest().hex().to_owned(), "IfNotPresent".to_owned()]);

    registry.stop();
    let before = spec();
    let gone = rollout(&[]);
    let said = text(&gone.stderr);
    assert_eq!(gone.status.code(), Some(3), "{said}");
    assert!(said.contains("--no-resolve") && said.contains("Connection refused"), "{said}");
    assert_eq!(spec(), before, "nothing is written");
    assert_eq!(rollout(&["--no-resolve"]).status.code(), Some(0));
    assert_eq!(spec(), [format!("oci://{to}"), String::new(), "Always".to_owned()]);
}

#[tokio::test]
async fn what_cannot_be_pushed_is_said_before_a_registry_is_asked() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let file = nowhere.path().join("module.wasm");
    std::fs::write(&file, b"no module").expect("a file");
    let name = file.to_str().expect("a path");
    let digest = format!("oci://localhost:1/isthmus@{}", image().digest());
    for (arguments, wanted) in [
        (vec!["push", "oci://localhost:1/isthmus:v1", "--module", name], "does not begin as WebAssembly"),
        (vec!["push", "oci://localhost:1/isthmus", "--module", "wasm/isthmus.wasm"], "has no tag"),
        (vec!["push", &digest, "--module", "wasm/isthmus.wasm"], "leave the digest out"),
        (vec!["push", "https://localhost:1/isthmus.wasm"], "is no image of a registry"),
        (vec!["push", "oci://isthmus:v1"], "names no registry"),
        (vec!["push"], "required"),
    ] {
        let output = isthmus(nowhere.path(), &arguments);
        let said = text(&output.stderr);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(reference("localhost:1/isthmus:v1").is_loopback());
}
