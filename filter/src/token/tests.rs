//! Tokens against RFC 8037, against OpenSSL, and against whoever tampers with them.

use std::path::Path;
use std::process::Command;

use pem_rfc7468::LineEnding;
use policy::key::PublicKey;
use proptest::prelude::*;

use std::rc::Rc;

use super::*;

/// The key of RFC 8037, appendix A.1, and its public half, A.2.
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const NOW: u64 = 1_795_000_000;
const LIFE: u32 = 300;

fn key(id: &str) -> SigningKey {
    format!("{id}:{SEED}").parse().unwrap()
}

fn keys_with(public: PublicKey) -> TokenKeys {
    let both = [("k1".parse().unwrap(), public), ("k2".parse().unwrap(), PublicKey::from_bytes([7; 32]))];
    TokenKeys {
        life: LIFE,
        keys: [("eu-1".parse().unwrap(), both.into_iter().collect())].into_iter().collect(),
    }
}

fn keys() -> TokenKeys {
    keys_with(PUBLIC.parse().unwrap())
}

/// The names that a token speaks of.
struct Names {
    cluster: ClusterName,
    peer: Identity,
    namespace: Namespace,
}

impl Names {
    fn new() -> Self {
        Self {
            cluster: "eu-1".parse().unwrap(),
            peer: "spiffe://cluster.local/ns/checkout/sa/till".parse().unwrap(),
            namespace: "payments".parse().unwrap(),
        }
    }

    fn claims(&self) -> Claims<'_> {
        let Self { cluster, peer, namespace } = self;
        Claims { cluster, subject: peer, audience: namespace, issued: NOW, ends: NOW + u64::from(LIFE) }
    }

    fn expected(&self) -> Expected<'_> {
        Expected { peer: &self.peer, audience: &self.namespace, now: NOW }
    }

    fn verify(&self, token: impl AsRef<[u8]>) -> Result<Verified, TokenError> {
        verify(token.as_ref(), &keys(), &self.expected())
    }
}

/// A token of these two texts, signed whatever they are.
fn forged(header: &str, claims: &str) -> String {
    let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key("k1").secret.sign(signed.as_bytes());
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.to_bytes()))
}

const HEADER_JSON: &str = r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#;

fn claims_json() -> String {
    form::claims(&Names::new().claims())
}

#[test]
fn the_key_and_signature_of_rfc_8037_come_out() {
    assert_eq!(key("k1").public().to_string(), PUBLIC);
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = key("k1").secret.sign(signed.as_bytes());
    assert_eq!(
        Base64UrlUnpadded::encode_string(&signature.to_bytes()),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn a_token_is_a_jwt_and_proves_its_cluster() {
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims());
    assert_eq!(token, forged(HEADER_JSON, &claims_json()));
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(Base64UrlUnpadded::decode_vec(parts[0]).unwrap(), HEADER_JSON.as_bytes());
    let json: serde_json::Value =
        serde_json::from_slice(&Base64UrlUnpadded::decode_vec(parts[1]).unwrap()).unwrap();
    let wanted = serde_json::json!({
        "iss": "eu-1",
        "sub": "spiffe://cluster.local/ns/checkout/sa/till",
        "aud": "isthmus:payments",
        "iat": NOW,
        "exp": NOW + 300,
    });
    assert_eq!(json, wanted);
    let verified = names.verify(&token).unwrap();
    let Names { cluster, peer, .. } = names;
    assert_eq!(verified, Verified { cluster, peer, issued: NOW, ends: NOW + 300 });
}

#[test]
fn the_longest_names_there_are_fit_into_a_token() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    let names = Names {
        cluster: label.parse().unwrap(),
        peer: format!("spiffe://{name}/ns/{label}/sa/{name}").parse().unwrap(),
        namespace: label.parse().unwrap(),
    };
    let token = sign(&key(&label), &names.claims());
    assert!(token.len() < LONGEST / 2, "{}", token.len());
    let of = [(label.parse().unwrap(), PUBLIC.parse().unwrap())].into_iter().collect();
    let keys = TokenKeys { life: LIFE, keys: [(names.cluster.clone(), of)].into_iter().collect() };
    assert!(verify(token.as_bytes(), &keys, &names.expected()).is_ok());
}

#[test]
fn each_claim_counts() {
    let names = Names::new();
    let other_peer: Identity = "spiffe://cluster.local/ns/checkout/sa/thief".parse().unwrap();
    let other_namespace: Namespace = "shop".parse().unwrap();
    let other_cluster: ClusterName = "us-1".parse().unwrap();
    let refused = |claims| names.verify(sign(&key("k1"), &claims)).unwrap_err();
    assert_eq!(
        refused(Claims { cluster: &other_cluster, ..names.claims() }),
        TokenError::UnknownKey { cluster: "us-1".to_owned(), key: "k1".to_owned() }
    );
    assert_eq!(
        refused(Claims { subject: &other_peer, ..names.claims() }),
        TokenError::Differs {
            claim: Claim::Subject,
            token: other_peer.to_string(),
            wanted: names.peer.to_string()
        }
    );
    assert_eq!(
        refused(Claims { audience: &other_namespace, ..names.claims() }).to_string(),
        r#"the token's aud is "shop", and here only "payments" will do"#
    );
    assert_eq!(
        refused(Claims { ends: NOW, ..names.claims() }),
        TokenError::NoLife { issued: NOW, ends: NOW }
    );
    assert_eq!(
        refused(Claims { issued: NOW + 95, ends: NOW + 200, ..names.claims() }).to_string(),
        "the token is issued 95 s in the future by this proxy's clock: at 1795000095, and it is 1795000000 here; \
         60 s are allowed: set the clocks"
    );
    assert_eq!(
        refused(Claims { issued: NOW - 200, ends: NOW - 90, ..names.claims() }).to_string(),
        "the token ended 90 s ago by this proxy's clock: at 1794999910, and it is 1795000000 here; \
         60 s are allowed: set the clocks"
    );
}

#[test]
fn a_key_is_asked_for_by_its_name_and_cluster() {
    let names = Names::new();
    let unknown = names.verify(sign(&key("k3"), &names.claims())).unwrap_err();
    assert_eq!(unknown, TokenError::UnknownKey { cluster: "eu-1".to_owned(), key: "k3".to_owned() });
    assert!(unknown.to_string().contains("list it in tokenKeys"), "{unknown}");
    // A key that the plan has, and that is not the one that signed.
    assert_eq!(names.verify(sign(&key("k2"), &names.claims())), Err(TokenError::Signature));
}

#[test]
fn time_is_counted_with_the_leeway_and_ends_with_the_plans_life() {
    let names = Names::new();
    let long = Claims { ends: u64::MAX, ..names.claims() };
    let token = sign(&key("k1"), &long);
    let at = |now| verify(token.as_bytes(), &keys(), &Expected { now, ..names.expected() });
    assert_eq!(at(NOW).unwrap().ends, NOW + 300, "the plan ends what would hold for ever");
    for (now, holds) in [
        (0, false),
        (NOW - 61, false),
        (NOW - 60, true),
        (NOW + 359, true),
        (NOW + 360, false),
        (u64::MAX, false),
    ] {
        assert_eq!(at(now).is_ok(), holds, "{now}");
    }
}

#[test]
fn nothing_but_the_one_form_is_read() {
    let names = Names::new();
    let claims = claims_json();
    assert!(names.verify(forged(HEADER_JSON, &claims)).is_ok());
    for header in [
        "",
        "{}",
        r#"{"alg":"none","kid":"k1","typ":"JWT"}"#,
        r#"{"alg":"HS256","kid":"k1","typ":"JWT"}"#,
        r#"{"alg":"eddsa","kid":"k1","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","kid":"k1"}"#,
        r#"{"alg":"EdDSA","kid":"k1","typ":"JWT","crit":["b64"]}"#,
        r#"{"alg":"EdDSA","kid":"k1","kid":"k1","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","kid":"k\u0031","typ":"JWT"}"#,
        r#"{ "alg":"EdDSA","kid":"k1","typ":"JWT"}"#,
        r#"["EdDSA","k1","JWT"]"#,
    ] {
        let refused = names.verify(forged(header, &claims)).unwrap_err();
        assert_eq!(refused, TokenError::Form { part: Part::Header }, "{header}");
    }
    let deep = |depth: usize| format!(r#"{{"iss":{}"#, "[".repeat(depth));
    for bad in [
        String::new(),
        deep(2_000),
        claims.replace(r#""iss":"eu-1","#, ""),
        claims.replace(r#""iss":"eu-1","#, r#""iss":"eu-1","iss":"eu-1","#),
        claims.replace("isthmus:", ""),
        claims.replace("eu-1", r"eu\u002d1"),
        claims.replace("eu-1", "eu-1\0"),
        claims.replace(",\"iat\"", ", \"iat\""),
        claims.replace("\"iat\":1", "\"iat\":01"),
        claims.replace("\"iat\":1", "\"iat\":+1"),
        claims.replace("\"iat\":1", "\"iat\":-1"),
        claims.replace("\"iat\":1", "\"iat\":\"1"),
        claims.replace("\"iat\":1795000000", "\"iat\":1.795e9"),
        claims.replace("\"iat\":1", "\"iat\":11111111111111111111"),
        claims.replace("300}", "300,\"nbf\":0}"),
        claims.replace("300}", "300} "),
    ] {
        assert_ne!(bad, claims);
        let refused = names.verify(forged(HEADER_JSON, &bad)).unwrap_err();
        assert_eq!(refused, TokenError::Form { part: Part::Claims }, "{bad}");
    }
    let said = TokenError::Form { part: Part::Header }.to_string();
    assert_eq!(said, r#"the token's header is not {"alg":"EdDSA","kid":"...","typ":"JWT"}"#);
}

#[test]
fn a_token_of_another_shape_is_refused() {
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims());
    let (signed, _) = token.rsplit_once('.').unwrap();
    for (bad, why) in [
        (String::new(), TokenError::Shape),
        ("a.b".to_owned(), TokenError::Shape),
        (signed.to_owned(), TokenError::Shape),
        (format!("{signed}."), TokenError::Signature),
        (format!("{token}="), TokenError::Encoding { part: Part::Signature }),
        (format!("{token}A"), TokenError::Signature),
        (format!("{token}AAA"), TokenError::Encoding { part: Part::Signature }),
        (format!(" {token}"), TokenError::Encoding { part: Part::Header }),
        (token.replacen('.', "=.", 1), TokenError::Encoding { part: Part::Header }),
        (token.replacen('.', ".e30.", 1), TokenError::Encoding { part: Part::Claims }),
        ("A".repeat(LONGEST + 1), TokenError::TooLong { bytes: LONGEST + 1 }),
        ("A".repeat(LONGEST), TokenError::Shape),
    ] {
        assert_eq!(names.verify(&bad), Err(why), "{bad}");
    }
    assert_eq!(names.verify(b"\xff.\xfe.\xfd"), Err(TokenError::Shape));
}

#[test]
fn no_changed_byte_and_no_part_of_a_token_is_believed() {
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims()).into_bytes();
    for place in 0..token.len() {
        assert!(names.verify(&token[..place]).is_err(), "cut at {place}");
        assert!(names.verify(&token[place + 1..]).is_err(), "cut after {place}");
        for bit in 0..8 {
            let mut changed = token.clone();
            changed[place] ^= 1 << bit;
            assert!(names.verify(&changed).is_err(), "bit {bit} of byte {place}");
        }
    }
    assert!(names.verify(&token).is_ok());
}

#[test]
fn a_signature_has_no_second_form() {
    /// The order of the base point, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let other = format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature));
    assert_eq!(names.verify(other), Err(TokenError::Signature));
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    // For the neutral point as key and commitment, and 0 as the answer, the equation of RFC 8032 holds of any message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let point = VerifyingKey::from_bytes(&neutral).unwrap();
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims());
    let (signed, _) = token.rsplit_once('.').unwrap();
    let lax = ed25519_dalek::Verifier::verify(&point, signed.as_bytes(), &Signature::from_bytes(&signature));
    assert!(lax.is_ok(), "this is the forgery that a lax check lets pass");
    let forged = format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature));
    let weak = keys_with(PublicKey::from_bytes(neutral));
    assert_eq!(verify(forged.as_bytes(), &weak, &names.expected()), Err(TokenError::Signature));
    // And a key that is no point at all.
    let none = keys_with(PublicKey::from_bytes([2; 32]));
    assert!(VerifyingKey::from_bytes(&[2; 32]).is_err());
    assert_eq!(verify(token.as_bytes(), &none, &names.expected()), Err(TokenError::Signature));
}

fn openssl(dir: &Path, args: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(args).output().expect("openssl runs").status.success()
}

/// A key as OpenSSL reads it: the bytes behind the few that say what they are (RFC 8410).
fn pem(label: &str, prefix: &[u8], bytes: &[u8]) -> String {
    pem_rfc7468::encode_string(label, LineEnding::LF, &[prefix, bytes].concat()).unwrap()
}

#[test]
fn openssl_verifies_what_is_signed_here_and_signs_what_is_verified_here() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let private = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let public = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    write("key.pem", pem("PRIVATE KEY", &private, &key("k1").secret.to_bytes()).as_bytes());
    write("public.pem", pem("PUBLIC KEY", &public, key("k1").public().as_bytes()).as_bytes());
    let names = Names::new();
    let token = sign(&key("k1"), &names.claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    write("signed", signed.as_bytes());
    write("signature", &Base64UrlUnpadded::decode_vec(signature).unwrap());
    write("other", signed.replace('e', "f").as_bytes());
    let check =
        ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public.pem", "-sigfile", "signature", "-in"];
    assert!(openssl(dir.path(), &[&check[..], &["signed"]].concat()));
    assert!(!openssl(dir.path(), &[&check[..], &["other"]].concat()));

    let later = form::claims(&Claims { issued: NOW + 7, ..names.claims() });
    let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let signed = format!("{}.{}", part(HEADER_JSON), part(&later));
    write("signed", signed.as_bytes());
    let make = ["pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "signed", "-out", "theirs"];
    assert!(openssl(dir.path(), &make));
    let theirs = std::fs::read(dir.path().join("theirs")).unwrap();
    let token = format!("{signed}.{}", Base64UrlUnpadded::encode_string(&theirs));
    assert_eq!(names.verify(token).unwrap().issued, NOW + 7);
}

#[test]
fn a_signing_key_is_read_strictly_and_never_printed() {
    assert_eq!(key("2026-11").id().as_str(), "2026-11");
    assert!(format!(" {}\n", format_args!("k1:{SEED}")).parse::<SigningKey>().is_ok());
    assert_eq!(format!("{:?}", key("k1")), r#"SigningKey { id: KeyId("k1"), .. }"#);
    for bad in [
        String::new(),
        SEED.to_owned(),
        format!(":{SEED}"),
        format!("k1:{SEED}="),
        format!("k1:{SEED}A"),
        format!("k1:{}", SEED.trim_start_matches('n')),
        format!("-:{SEED}"),
        format!("k1:k1:{SEED}"),
    ] {
        let error = bad.parse::<SigningKey>().unwrap_err();
        assert!(!error.to_string().contains(SEED.trim_start_matches('n')), "{error}");
    }
}

#[test]
fn a_signer_signs_once_in_half_a_life_and_all_its_like_sign_alike() {
    let names = Names::new();
    let signer = || Signer::new(key("k1"), names.cluster.clone(), names.peer.clone(), LIFE);
    let (one, other) = (signer(), signer());
    // 1 795 000 000 is 100 s into one of the times of 150 s.
    let first = one.token(&names.namespace, NOW);
    assert_eq!(names.verify(first.as_bytes()).unwrap().issued, NOW - 100);
    assert!(Rc::ptr_eq(&first, &one.token(&names.namespace, NOW + 49)), "it was signed again");
    assert_eq!(first, other.token(&names.namespace, NOW - 100));
    let second = one.token(&names.namespace, NOW + 50);
    assert_ne!(first, second);
    assert_eq!(names.verify(second.as_bytes()).unwrap().issued, NOW + 50);
    assert_ne!(second, one.token(&"shop".parse().unwrap(), NOW + 50));
    // A clock that is set back, or that shows next to nothing, does no harm.
    assert_eq!(first, one.token(&names.namespace, NOW));
    assert!(!one.token(&names.namespace, 0).is_empty());
    assert!(
        !Signer::new(key("k1"), names.cluster, names.peer, 0).token(&names.namespace, u64::MAX).is_empty()
    );
}

#[test]
fn a_signer_keeps_no_more_than_so_many_tokens() {
    let names = Names::new();
    let signer = Signer::new(key("k1"), names.cluster, names.peer, LIFE);
    for number in 0..1030 {
        signer.token(&format!("team-{number}").parse().unwrap(), NOW);
        assert!(signer.kept() <= 1024);
    }
}

#[test]
fn a_verifier_answers_from_memory_as_it_would_without() {
    let names = Names::new();
    let verifier = Verifier::new(keys(), names.namespace.clone());
    let token = sign(&key("k1"), &names.claims()).into_bytes();
    let first = verifier.verify(&token, &names.peer, NOW).unwrap();
    assert!(Rc::ptr_eq(&first, &verifier.verify(&token, &names.peer, NOW + 299).unwrap()), "checked again");
    let thief = "spiffe://cluster.local/ns/checkout/sa/thief".parse().unwrap();
    for (peer, now) in [(&thief, NOW), (&names.peer, NOW + 360), (&names.peer, NOW - 61)] {
        let remembered = verifier.verify(&token, peer, now).unwrap_err();
        let fresh = verify(&token, &keys(), &Expected { peer, audience: &names.namespace, now }).unwrap_err();
        assert_eq!(remembered, fresh);
    }
    assert_eq!(verifier.remembered(), 1, "what is refused is not remembered, nor does it drive out what is");
}

#[test]
fn no_peer_makes_the_tokens_of_others_be_forgotten() {
    let names = Names::new();
    let verifier = Verifier::new(keys(), names.namespace.clone());
    let honest = sign(&key("k1"), &names.claims()).into_bytes();
    let first = verifier.verify(&honest, &names.peer, NOW).unwrap();
    let thief: Identity = "spiffe://cluster.local/ns/checkout/sa/thief".parse().unwrap();
    for second in 0..60 {
        let claims = Claims { subject: &thief, ends: NOW + 100 + second, ..names.claims() };
        let token = sign(&key("k1"), &claims).into_bytes();
        assert!(verifier.verify(&token, &thief, NOW).is_ok());
        assert!(verifier.verify(&token[1..], &thief, NOW).is_err());
    }
    assert_eq!(verifier.remembered(), 1 + 4);
    assert!(Rc::ptr_eq(&first, &verifier.verify(&honest, &names.peer, NOW).unwrap()), "checked again");
}

#[test]
fn a_verifier_remembers_no_more_than_so_many_and_first_forgets_what_is_over() {
    let names = Names::new();
    let verifier = Verifier::new(keys(), names.namespace.clone());
    let token = |number: u64, issued: u64| {
        let peer: Identity = format!("spiffe://cluster.local/ns/n{number}/sa/a").parse().unwrap();
        let claims = Claims { subject: &peer, issued, ends: issued + 100, ..names.claims() };
        (sign(&key("k1"), &claims).into_bytes(), peer)
    };
    let take = |number: u64, issued: u64, now: u64| {
        let (token, peer) = token(number, issued);
        verifier.verify(&token, &peer, now).unwrap()
    };
    for number in 0..2048 {
        take(number, NOW + number % 2, NOW);
    }
    assert_eq!(verifier.remembered(), 2048);
    let last = take(1, NOW + 1, NOW);
    take(3000, NOW + 1, NOW);
    assert_eq!(verifier.remembered(), 2048, "one went");
    assert!(Rc::ptr_eq(&last, &take(1, NOW + 1, NOW)), "not the one that ends later");
    take(3001, NOW + 160, NOW + 160);
    assert_eq!(verifier.remembered(), 1026, "those that ended went, so that 1025 and the new one stay");
}

proptest! {
    #[test]
    fn no_bytes_are_believed_nor_panic(token in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Names::new().verify(token).is_err());
    }

    #[test]
    fn no_signed_parts_but_the_true_ones_are_believed(header in "\\PC{0,60}", claims in "\\PC{0,200}") {
        prop_assert!(Names::new().verify(forged(&header, &claims)).is_err());
        prop_assert!(Names::new().verify(forged(HEADER_JSON, &claims)).is_err());
    }

    #[test]
    fn what_is_signed_is_verified_as_it_was_said(issued in NOW - 200..NOW + 60, life in 100_u64..1000, skew in 0_u64..60) {
        let names = Names::new();
        let token = sign(&key("k1"), &Claims { issued, ends: issued + life, ..names.claims() });
        let now = issued.saturating_sub(skew);
        let verified = verify(token.as_bytes(), &keys(), &Expected { now, ..names.expected() });
        prop_assert_eq!(verified.unwrap().ends, issued + life.min(300));
    }
}
