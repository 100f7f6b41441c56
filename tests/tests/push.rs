//! The push tier: images, at a real registry.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "push/access.rs"]
mod access;
#[path = "push/faults.rs"]
mod faults;
#[path = "push/istio.rs"]
mod istio;
#[path = "push/real.rs"]
mod real;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use isthmus::push::credentials::Keychain;
use isthmus::push::image::Image;
use isthmus::push::registry::{Access, Reach, Registry};
use isthmus::push::{PushError, Pushed, push};
use isthmus::reference::Reference;

/// How long a call may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A module that is none to run, and that no compression makes small.
fn module() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    b"\0asm\x01\0\0\0".iter().copied().chain(noise.take(300_000)).collect()
}

fn image() -> Image {
    Image::of(&module(), &BTreeMap::new()).expect("an image")
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

fn reach() -> Reach {
    Reach { plain_http: false, ca_file: None, timeout: PATIENCE }
}

fn nobody() -> Keychain {
    Keychain::read(None, None).expect("nothing")
}

/// Connects as nobody and pushes; what goes wrong as text.
async fn pushed(image: &Image, to: &str, reach: &Reach) -> Result<Pushed, String> {
    let to = reference(to);
    let found = nobody().find(to.host()).expect("nothing");
    let registry =
        Registry::connect(&to, reach, Access::Push, found).await.map_err(|error| error.to_string())?;
    push(image, &to, &registry, false).await.map_err(|error: PushError| error.to_string())
}

/// The binary that was built beside this test, with no credentials but those in a directory, and the helpers there.
fn isthmus(docker: &Path, arguments: &[&str]) -> Output {
    isthmus_in(docker, &[], arguments)
}

/// The same, told this by its environment.
fn isthmus_in(docker: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test binary");
    let binary = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("isthmus");
    assert!(binary.is_file(), "no {}: run `cargo build -p isthmus`", binary.display());
    let mut command = Command::new(binary);
    command.current_dir(isthmus_tests::repository()).stdin(Stdio::null()).env("DOCKER_CONFIG", docker);
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{}:{path}", docker.display()));
    command.envs(environment.iter().copied());
    command.args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
