use serde_json::json;
use time::Duration;

use super::*;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn token(begin: OffsetDateTime, end: OffsetDateTime) -> Token {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let claims = json!({"iat": begin.unix_timestamp(), "exp": end.unix_timestamp()}).to_string();
    let text = format!("e30.{}.c2ln", Base64UrlUnpadded::encode_string(claims.as_bytes()));
    Token { secret: String::new(), text: text.into(), authority: "a CA".to_owned() }
}

fn kubeconfig(token: Token) -> Kubeconfig {
    let (cluster, server) = ("eu-1".to_owned(), "https://192.0.2.1:6443".to_owned());
    Kubeconfig { cluster, server, authority: token.authority, token: token.text }
}

#[test]
fn what_is_written_into_a_secret_is_read_from_it_again() {
    let written = kubeconfig(token(NOW, NOW + Duration::hours(1)));
    let secret = written.secret().expect("YAML");
    let read = Kubeconfig::of(&secret, "eu-1").expect("a kubeconfig");
    assert_eq!(read.text().expect("YAML"), written.text().expect("YAML"));
    assert!(Kubeconfig::of(&secret, "eu-2").is_none(), "the key is the cluster");
    let shown = format!("{written:?}");
    assert!(shown.contains("192.0.2.1") && !shown.contains("e30."), "{shown}");
}

#[test]
fn a_token_past_half_its_life_is_not_fresh_and_one_without_an_end_always_is() {
    let begin = NOW - Duration::hours(1);
    for (end, fresh) in
        [(Duration::minutes(61), true), (Duration::minutes(60), false), (-Duration::minutes(1), false)]
    {
        assert_eq!(kubeconfig(token(begin, NOW + end)).is_fresh(NOW), fresh, "{end}");
    }
    let opaque = Token { secret: String::new(), text: "opaque".to_owned().into(), authority: String::new() };
    assert!(kubeconfig(opaque).is_fresh(NOW));
}
