use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::{Challenge, basic, query};
use crate::push::credentials::Credentials;

fn read(headers: &[&'static str]) -> Option<Challenge> {
    let headers: Vec<_> = headers.iter().map(|header| HeaderValue::from_static(header)).collect();
    Challenge::read(headers.iter())
}

fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
    Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
}

#[test]
fn challenges_are_read_as_registries_write_them() {
    let basic = |realm: &str| Some(Challenge::Basic { realm: realm.to_owned() });
    assert_eq!(read(&["Basic realm=\"Registry Realm\""]), basic("Registry Realm"));
    assert_eq!(read(&["basic"]), basic(""));
    let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"";
    assert_eq!(read(&[hub]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
    assert_eq!(
        read(&["bearer realm=\"https://a/b?c=d,e\", error=\"insufficient_scope\""]),
        bearer("https://a/b?c=d,e", None)
    );
    assert_eq!(read(&["Bearer realm=https://a/t , service=s"]), bearer("https://a/t", Some("s")));
    assert_eq!(read(&["Basic realm=\"x\"", "Bearer realm=\"https://a\""]), bearer("https://a", None));
    for none in ["Negotiate", "Bearer", "Bearer service=\"x\"", "", "Bearer realm"] {
        assert_eq!(read(&[none]), None, "{none}");
    }
    assert_eq!(read(&[]), None);
}

#[test]
fn a_realm_that_istios_fetcher_refuses_is_known() {
    let doubt = |header: &'static str| read(&[header]).expect("a challenge").doubt();
    for fine in [
        "Basic",
        "Basic realm=\"https://r.example\"",
        "Bearer realm=\"https://r.example/token\"",
        "Bearer realm=\"http://8.8.8.8/token\"",
    ] {
        assert_eq!(doubt(fine), None, "{fine}");
    }
    for refused in [
        "Basic realm=\"Registry\"",
        "Bearer realm=\"https://localhost/token\"",
        "Bearer realm=\"https://10.0.0.1/token\"",
        "Bearer realm=\"https://169.254.169.254/token\"",
        "Bearer realm=\"https://[::1]:5000/token\"",
        "Bearer realm=\"https://[fd00::1]/token\"",
        "Bearer realm=\"ftp://r.example/token\"",
    ] {
        assert!(doubt(refused).is_some(), "{refused}");
    }
}

#[test]
fn what_is_shown_is_marked_as_a_secret() {
    let credentials = Credentials::Password {
        user: "Aladdin".to_owned(),
        password: Zeroizing::new("open sesame".to_owned()),
    };
    let header = basic(&credentials).expect("a header");
    assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(header.is_sensitive());
}

#[test]
fn a_query_is_escaped() {
    assert_eq!(
        query(&[("service", "a b&c"), ("scope", "repository:x/y:pull")]),
        "service=a+b%26c&scope=repository%3Ax%2Fy%3Apull"
    );
}
