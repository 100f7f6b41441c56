use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isthmus::digest::sha256;
use isthmus::plugin::ModuleUrl;
use isthmus::push::credentials::Keychain;
use isthmus::push::layout;
use isthmus::push::registry::Reach;
use isthmus::push::resolve::resolve;
use isthmus::reference::Reference;
use isthmus_tests::registry::{Fault, Proxy, Registry, fetcher};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::access::{guarded, password, pushed_as};
use super::{image, module, nobody, pushed, reach, text};

/// Istio's own fetcher, as `tests/fetcher` builds it.
struct Judge(PathBuf);

impl Judge {
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let nobody = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&self.0);
        command.args(arguments).env("DOCKER_CONFIG", nobody.path()).env("HOME", nobody.path());
        let output = command.output().expect("it runs");
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() { Ok(printed.trim().to_owned()) } else { Err(said) }
    }

    /// What a proxy gets that is told of this plugin: the SHA-256 of the module.
    fn get(&self, spec: &serde_json::Value, secret: Option<&Path>) -> Result<String, String> {
        let field = |name: &str| spec[name].as_str().unwrap_or_default();
        let secret = secret.map(|path| path.to_str().expect("a path"));
        self.run(&[&["get", field("url"), field("sha256")], secret.as_slice()].concat())
    }
}

/// The fields that a plugin of this URL has for whoever fetches.
fn spec(url: &ModuleUrl) -> serde_json::Value {
    let mesh = isthmus_tests::repository().join("examples/two-clusters");
    let project = isthmus::read::Project::read(Some(&mesh), Path::new(".")).expect("readable files");
    let (mesh, plans) = (project.mesh.expect("a mesh"), project.plans.expect("plans"));
    let out = tempfile::tempdir().expect("a directory");
    let directories =
        mesh.clusters().map(|cluster| (cluster.name.clone(), out.path().join(cluster.name.as_str())));
    let options = isthmus::rollout::Options { url, upstream_check: false, dry_run: false };
    isthmus::rollout::to_directories(&mesh, &plans, &directories.collect(), options).expect("directories");
    let file = out.path().join("cluster1/isthmus-inbound.yaml");
    let object: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(file).expect("a file")).expect("YAML");
    object["spec"].clone()
}

fn url(text: &str) -> ModuleUrl {
    text.parse().expect("a URL")
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_gets_the_very_module_and_finds_nothing_wrong_with_the_image() {
    let Some(judge) = fetcher().map(Judge) else { return };
    let Some(registry) = Registry::start(isthmus_tests::registry::Setup::default()).await else { return };
    let to = format!("{}/team/isthmus:v1", registry.address());
    let done = pushed(&image(), &to, &reach()).await.expect("pushed");
    assert_eq!(judge.run(&["image", &to]), Ok(image().digest().to_string()));
    let plugin = spec(&url(&format!("oci://{}", done.image)));
    assert_eq!(judge.get(&plugin, None), Ok(sha256(module())));
    // As it is by its tag, and with a digest that is another.
    let tagged = url(&format!("oci://{to}"));
    assert_eq!(judge.get(&spec(&tagged), None), Ok(sha256(module())));
    let mut other = plugin.clone();
    other["sha256"] = sha256("another").into();
    assert!(judge.get(&other, None).expect_err("another").contains("does not match"));

    // What a rollout makes of the tag is what was pushed; and it stays, when the tag moves.
    let resolved = resolve(tagged, &reach(), &nobody()).await.expect("resolved");
    assert_eq!(spec(&resolved), plugin);
    let notes = [("a".to_owned(), "b".to_owned())].into();
    let moved = isthmus::push::image::Image::of(b"\0asm\x01\0\0\0", &notes).expect("an image");
    let directory = tempfile::tempdir().expect("a directory");
    layout::write(&moved, directory.path(), None).expect("written");
    let arguments = [
        "push",
        &format!("oci://{to}"),
        "--overwrite",
        "--from-layout",
        directory.path().to_str().expect("a path"),
    ];
    let output = super::isthmus(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(judge.get(&plugin, None), Ok(sha256(module())));
    let mut by_tag = plugin.clone();
    by_tag["url"] = format!("oci://{to}").into();
    assert!(
        judge.get(&by_tag, None).expect_err("it moved").contains("does not match"),
        "why the digest is in the URL"
    );
}

/// Texts much like references, and many that are some.
fn like_references() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        3 => "[a-z]{1,3}\\.[a-z]{2,3}(:[0-9]{1,4})?",
        1 => "(localhost|127\\.0\\.0\\.1|docker\\.io|index\\.docker\\.io|r|R\\.example|\\[::1\\])(:[0-9]{0,6})?",
        1 => "[a-z.:-]{0,6}",
    ];
    let path = prop_oneof![
        3 => "/[a-z0-9]{1,4}(([._]|__|-{1,2})[a-z0-9]{1,3})?(/[a-z0-9]{1,4})?",
        1 => "[/a-zA-Z0-9._-]{0,8}",
    ];
    let tag = prop_oneof!["", ":[a-zA-Z0-9_][a-zA-Z0-9._-]{0,4}", "[:a-z.-]{0,4}"];
    let digest = prop_oneof![
        4 => Just(String::new()),
        1 => "[0-9a-f]{64}".prop_map(|hex| format!("@sha256:{hex}")),
        1 => "@?sha256:[0-9a-fA-F]{60,68}",
    ];
    (host, path, tag, digest).prop_map(|(host, path, tag, digest)| host + &path + &tag + &digest)
}

#[test]
fn what_is_taken_for_a_reference_means_the_same_to_istio() {
    let Some(judge) = fetcher() else { return };
    let mut runner = TestRunner::deterministic();
    let mut text = || like_references().new_tree(&mut runner).expect("a text").current();
    let texts: Vec<String> = std::iter::repeat_with(&mut text).take(5000).collect();
    let mut child = Command::new(judge)
        .arg("names")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines = texts.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("all was read");
    let answers = super::text(&output.stdout);
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), texts.len());
    let (mut taken, mut refused) = (0, 0);
    for (text, answer) in texts.iter().zip(answers) {
        let Ok(reference) = text.parse::<Reference>() else {
            refused += 1;
            continue;
        };
        // Docker Hub has two names, and Istio uses the longer one.
        let host = if reference.host() == "docker.io" { "index.docker.io" } else { reference.host() };
        assert_eq!(format!("{host} {} {}", reference.repository(), reference.version()), answer, "{text}");
        taken += 1;
    }
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_one_for_others_too() {
    let Some(judge) = fetcher().map(Judge) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("a path");
    layout::write(&image(), directory.path(), Some("v1")).expect("written");
    assert_eq!(judge.run(&["layout", path]), Ok(image().digest().to_string()));
    let layer = directory.path().join("blobs/sha256").join(image().blobs()[1].digest());
    std::fs::write(layer, b"another").expect("a file");
    judge.run(&["layout", path]).expect_err("damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_gets_the_module_with_the_pull_secret_and_not_without() {
    let Some(judge) = fetcher().map(Judge) else { return };
    let Some(registry) = Registry::start(guarded("https://registry.example")).await else { return };
    let docker = password(registry.address(), "correct horse");
    let to = format!("{}/isthmus:v1", registry.address());
    let done = pushed_as(docker.path(), &to, &reach()).await.expect("pushed");
    let plugin = spec(&url(&format!("oci://{}", done.image)));
    // What a Secret of type kubernetes.io/dockerconfigjson holds is what `docker login` leaves.
    assert_eq!(judge.get(&plugin, Some(&docker.path().join("config.json"))), Ok(sha256(module())));
    assert!(judge.get(&plugin, None).expect_err("nobody").contains("UNAUTHORIZED"));
    // What Istio's fetcher takes for a URL that it should go to, and refuses, is warned of.
    let Some(other) = Registry::start(guarded("Registry")).await else { return };
    let docker_of_other = password(other.address(), "correct horse");
    let to_other = format!("{}/isthmus:v1", other.address());
    let done = pushed_as(docker_of_other.path(), &to_other, &reach()).await.expect("pushed");
    let refused = spec(&url(&format!("oci://{}", done.image)));
    let refused = judge.get(&refused, Some(&docker_of_other.path().join("config.json"))).expect_err("no URL");
    assert!(refused.contains("bearer realm: realm scheme"), "{refused}");
    let url_of_other = format!("oci://{to_other}");
    let push = |docker: &Path, to: &str| {
        super::isthmus(docker, &["push", to, "--module", "wasm/isthmus.wasm", "--overwrite"])
    };
    let output = push(docker_of_other.path(), &url_of_other);
    let said = text(&output.stderr);
    assert!(said.contains("warning: ") && said.contains("\"Registry\""), "{said}");
    let output = push(docker.path(), &format!("oci://{to}2"));
    assert!(!text(&output.stderr).contains("warning: "), "{}", text(&output.stderr));
    let keychain = Keychain::read(Some(docker.path().as_os_str()), None).expect("a configuration");
    let resolved = resolve(url(&format!("oci://{to}")), &reach(), &keychain).await.expect("resolved");
    assert_eq!(spec(&resolved), plugin);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_of_what_a_web_server_has_is_that_which_istio_compares() {
    let Some(judge) = fetcher().map(Judge) else { return };
    let server = Proxy::before("127.0.0.1:1").await;
    let at = |path: &str| format!("http://{}{path}", server.address());
    // A module that is text, as a fault's answer is.
    let wasm = "\0asm\u{1}\0\0\0";
    let mut header = tar::Header::new_ustar();
    header.set_size(wasm.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "any.wasm", wasm.as_bytes()).expect("memory");
    let archive = text(&archive.into_inner().expect("memory"));
    server.always("GET /plain.wasm", Fault::Answer(200, Vec::new(), wasm.to_owned()));
    server.always("GET /packed.tar", Fault::Answer(200, Vec::new(), archive));
    server.always(
        "GET /moved",
        Fault::Answer(302, vec![("location", "/plain.wasm".to_owned())], String::new()),
    );
    for path in ["/plain.wasm", "/packed.tar", "/moved"] {
        let resolved = resolve(url(&at(path)), &reach(), &nobody()).await.expect("resolved");
        assert_eq!(resolved.to_string(), format!("{}@sha256:{}", at(path), sha256(wasm)));
        assert_eq!(judge.get(&spec(&resolved), None), Ok(sha256(wasm)), "{path}");
    }
    server.always("GET /page", Fault::Answer(200, Vec::new(), "<html>".to_owned()));
    server.always("GET /round", Fault::Answer(302, vec![("location", "/round".to_owned())], String::new()));
    for (path, wanted) in [("/page", "is no module"), ("/none", "502"), ("/round", "in circles")] {
        let hasty = Reach { timeout: std::time::Duration::from_secs(1), ..reach() };
        let error = resolve(url(&at(path)), &hasty, &nobody()).await.expect_err(path);
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_for_istio_is_not_rolled_out() {
    let server = Proxy::before("127.0.0.1:1").await;
    let at = url(&format!("oci://{}/isthmus:v1", server.address()));
    server.always("GET /v2/ ", Fault::Answer(200, Vec::new(), String::new()));
    let image = json!({"schemaVersion": 2, "config": {}, "layers": []});
    let index = json!({"schemaVersion": 2, "manifests": []});
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    for (code, manifest, wanted) in [
        (200, image.to_string(), "Istio would not take the image"),
        (200, index.to_string(), "an index of several"),
        (404, unknown.to_owned(), "is not there: `isthmus push`"),
    ] {
        server.heal();
        server.always("GET /v2/isthmus", Fault::Answer(code, Vec::new(), manifest));
        server.always("GET /v2/", Fault::Answer(200, Vec::new(), String::new()));
        let error = resolve(at.clone(), &reach(), &nobody()).await.expect_err("no image");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
