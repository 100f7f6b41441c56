use super::{Reference, ReferenceError};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parsed(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> ReferenceError {
    text.parse::<Reference>().expect_err(text)
}

#[test]
fn a_reference_has_a_registry_a_repository_and_a_tag_or_a_digest() {
    let full = format!("registry.example:5000/team/isthmus_filter:v1.2@sha256:{HEX}");
    let reference = parsed(&full);
    assert_eq!(reference.host(), "registry.example:5000");
    assert_eq!(reference.repository(), "team/isthmus_filter");
    assert_eq!(reference.tag(), Some("v1.2"));
    assert_eq!(reference.digest().map(super::ManifestDigest::hex), Some(HEX));
    assert_eq!(reference.to_string(), full);
    assert_eq!(
        reference.version(),
        format!("sha256:{HEX}"),
        "what it is counts for more than what it is called"
    );
    assert_eq!(parsed("localhost:5000/isthmus").version(), "latest");
    assert_eq!(parsed("r.example/a--b/c__d/e.f:_x").repository(), "a--b/c__d/e.f");
}

#[test]
fn what_istio_would_look_for_on_docker_hub_is_not_taken_for_a_registry() {
    assert!(matches!(refused("registry/isthmus:v1"), ReferenceError::Host(_)));
    assert!(matches!(refused("isthmus:v1"), ReferenceError::Host(_)));
    assert!(matches!(refused("localhost/isthmus:v1"), ReferenceError::Host(_)), "it has no port");
    assert_eq!(parsed("docker.io/isthmus:v1").repository(), "library/isthmus");
    assert_eq!(parsed("docker.io/team/isthmus:v1").repository(), "team/isthmus");
    assert_eq!(parsed("quay.io/isthmus:v1").repository(), "isthmus");
}

#[test]
fn what_is_wrong_with_a_reference_is_said() {
    for (text, wanted) in [
        ("r.example/Team/isthmus", "\"Team/isthmus\" is not a repository"),
        ("r.example//isthmus", "\"/isthmus\" is not a repository"),
        ("r.example/a..b", "is not a repository"),
        ("r.example/a___b", "is not a repository"),
        ("r.example/a-", "is not a repository"),
        ("r.example/", "is not a repository"),
        ("r.example/isthmus:", "\"\" is not a tag"),
        ("r.example/isthmus:-v1", "is not a tag"),
        ("r.example/isthmus:v1/x", "is not a tag"),
        ("r.example/isthmus@sha512:00", "is not a digest"),
        ("r.example/isthmus@sha256:00", "is not a digest"),
        ("user:secret@r.example/isthmus", "is not a digest"),
        ("r.example:port/isthmus", "is not the host of a registry"),
        ("r.example:/isthmus", "is not the host of a registry"),
        ("r.exa mple/isthmus", "is not the host of a registry"),
    ] {
        let said = refused(text).to_string();
        assert!(said.contains(wanted), "{text}: {said}");
    }
    let upper = format!("r.example/isthmus@sha256:{}", HEX.to_uppercase());
    assert!(matches!(refused(&upper), ReferenceError::Digest(_)), "Istio takes lower case only");
    assert!(matches!(refused(&format!("r.example/{}", "a".repeat(256))), ReferenceError::Repository(_)));
    assert!(matches!(refused(&format!("r.example/ab:{}", "a".repeat(129))), ReferenceError::Tag(_)));
}

#[test]
fn only_this_machine_is_loopback() {
    for host in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
        assert!(parsed(&format!("{host}/isthmus")).is_loopback(), "{host}");
    }
    for host in ["localhost.example", "10.0.0.1:5000", "[::2]:5000", "127.0.0.1.example", "r.example"] {
        assert!(!parsed(&format!("{host}/isthmus")).is_loopback(), "{host}");
    }
}
