use std::path::Path;

use super::{Envoy, EnvoyError};

#[test]
fn none_anywhere_says_where_one_would_be_put() {
    let error = Envoy::among(None, None, Path::new("/no/such/envoy")).unwrap_err();
    assert!(matches!(&error, EnvoyError::Missing { path } if path == Path::new("/no/such/envoy")));
    assert!(error.to_string().contains("run `isthmus setup`"), "{error}");
}

#[test]
fn an_envoy_that_is_named_but_not_there_is_not_passed_over() {
    let error = Envoy::among(Some("/no/such/envoy".into()), None, Path::new("/other")).unwrap_err();
    assert!(matches!(&error, EnvoyError::Run { path, .. } if path == Path::new("/no/such/envoy")), "{error}");
}

#[test]
fn an_envoy_that_cannot_show_the_peer_certificate_is_too_old() {
    let said = |version: &str| format!("envoy  version: f00d/{version}/Clean/RELEASE/BoringSSL");
    let error = Envoy::that_said(Path::new("/usr/bin/envoy"), &said("1.37.9")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/usr/bin/envoy is Envoy 1.37.9; the peer's certificate can be read from 1.38.0 on"
    );
    let envoy = Envoy::that_said(Path::new("/usr/bin/envoy"), &said("1.38.0")).unwrap();
    assert_eq!((envoy.path(), envoy.version()), (Path::new("/usr/bin/envoy"), super::OLDEST));
}

#[test]
fn another_program_is_not_taken_for_an_envoy() {
    let error = Envoy::among(None, Some("/bin/echo".into()), Path::new("/no/such/envoy")).unwrap_err();
    assert!(matches!(error, EnvoyError::NotEnvoy { path, .. } if path == Path::new("/bin/echo")));
}
