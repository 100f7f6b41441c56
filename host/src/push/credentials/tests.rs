use std::path::Path;

use super::{Credentials, CredentialsError, Found, Keychain};

fn keychain(config: &str) -> (tempfile::TempDir, Keychain) {
    let room = tempfile::tempdir().expect("a directory");
    std::fs::write(room.path().join("config.json"), config).expect("a file");
    let keychain = Keychain::read(Some(room.path().as_os_str()), None).expect("a configuration");
    (room, keychain)
}

fn user(found: &Found) -> Option<(&str, &str)> {
    match found.credentials.as_ref()? {
        Credentials::Password { user, password } => Some((user, password)),
        Credentials::Identity(token) => Some(("identity", token)),
        Credentials::Bearer(token) => Some(("bearer", token)),
    }
}

#[test]
fn each_form_that_docker_writes_is_read() {
    let config = r#"{"auths": {
        "r.example": {"auth": "bWU6c2VjcmV0OndpdGg6Y29sb25z"},
        "https://old.example/v1/": {"username": "me", "password": "ancient"},
        "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
        "r.example:5000": {"auth": "", "identitytoken": "id"},
        "bearer.example": {"registrytoken": "token"},
        "empty.example": {}
    }, "HttpHeaders": {"x": "y"}}"#;
    let (_room, keychain) = keychain(config);
    for (host, wanted) in [
        ("r.example", Some(("me", "secret:with:colons"))),
        ("r.example:5000", Some(("identity", "id"))),
        ("old.example", Some(("me", "ancient"))),
        ("docker.io", Some(("hub", "secret"))),
        ("index.docker.io", Some(("hub", "secret"))),
        ("bearer.example", Some(("bearer", "token"))),
        ("empty.example", None),
        ("other.example", None),
    ] {
        let found = keychain.find(host).expect("readable");
        assert_eq!(user(&found), wanted, "{host}");
        assert!(found.place.contains("config.json") && found.place.contains(host), "{}", found.place);
        let shown = format!("{found:?} {keychain:?}");
        assert!(wanted.is_none_or(|(_, secret)| !shown.contains(secret)), "{shown}");
    }
}

#[test]
fn where_nothing_is_configured_nothing_is_found_and_it_is_said_where_it_was_looked_for() {
    let home = tempfile::tempdir().expect("a directory");
    let none = Keychain::read(None, Some(home.path())).expect("nothing").find("r.example").expect("nothing");
    assert_eq!(user(&none), None);
    assert!(
        none.place.contains(home.path().join(".docker/config.json").to_str().expect("a path")),
        "{}",
        none.place
    );
    assert!(none.place.contains("docker login r.example"));
    let nowhere = Keychain::read(None, None).expect("nothing").find("r.example").expect("nothing");
    assert!(nowhere.place.contains("no DOCKER_CONFIG and no home"));
    std::fs::create_dir(home.path().join(".docker")).expect("a directory");
    std::fs::write(home.path().join(".docker/config.json"), r#"{"auths": {"r.example": {"auth": "YTpi"}}}"#)
        .expect("a file");
    let found = Keychain::read(None, Some(home.path())).expect("one").find("r.example").expect("one");
    assert_eq!(user(&found), Some(("a", "b")));
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_without_its_secrets() {
    let room = tempfile::tempdir().expect("a directory");
    let read = |text: &str| {
        std::fs::write(room.path().join("config.json"), text).expect("a file");
        Keychain::read(Some(room.path().as_os_str()), Some(Path::new("/")))
    };
    let error = read(r#"{"auths": {"r.example": {"auth": ["hunter2"]}}}"#).expect_err("no text");
    assert!(matches!(error, CredentialsError::File { .. }));
    assert!(error.to_string().contains("line 1") && !error.to_string().contains("hunter2"), "{error}");
    let odd = read(r#"{"auths": {"r.example": {"auth": "aHVudGVyMg=="}}}"#).expect("JSON");
    let error = odd.find("r.example").expect_err("no colon");
    assert!(
        error.to_string().contains("no user:password") && !error.to_string().contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_helper_that_is_not_there_is_named() {
    let (room, keychain) = keychain(r#"{"credHelpers": {"r.example": "no-such-helper-of-isthmus"}}"#);
    let said = keychain.find("r.example").expect_err("no helper").to_string();
    assert!(said.starts_with("docker-credential-no-such-helper-of-isthmus, which "), "{said}");
    assert!(said.contains(room.path().to_str().expect("a path")) && said.contains("r.example"), "{said}");
    assert_eq!(user(&keychain.find("other.example").expect("none")), None);
}
