//! A token that says whatever it likes, signed or not.

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::Signer as _;
use isthmus_filter::token::{Claims, Expected, SigningKey, sign, verify};
use policy::plan::TokenKeys;

/// Bytes as a token, and as the header and claims of one that a believed key has signed: what is believed is, byte for
/// byte, what a sidecar signs.
pub fn token(bytes: &[u8]) {
    believed(bytes);
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n').map(Base64UrlUnpadded::encode_string);
    if let (Some(header), Some(claims)) = (parts.next(), parts.next()) {
        let signed = format!("{header}.{claims}");
        let secret = ed25519_dalek::SigningKey::from_bytes(&[0; 32]);
        let signature = Base64UrlUnpadded::encode_string(&secret.sign(signed.as_bytes()).to_bytes());
        believed(format!("{signed}.{signature}").as_bytes());
    }
}

fn believed(token: &[u8]) {
    let key: SigningKey = format!("k1:{}", "A".repeat(43)).parse().expect("a key");
    let peer = "spiffe://cluster.local/ns/checkout/sa/till".parse().expect("an identity");
    let audience = "payments".parse().expect("a namespace");
    let of = [("k1".parse().expect("a name"), key.public())].into_iter().collect();
    let keys =
        TokenKeys { life: u32::MAX, keys: [("us-1".parse().expect("a name"), of)].into_iter().collect() };
    let expected = Expected { peer: &peer, audience: &audience, now: 1_795_000_000 };
    match verify(token, &keys, &expected) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(verified) if verified.ends < verified.issued.saturating_add(u64::from(u32::MAX)) => {
            let (issued, ends) = (verified.issued, verified.ends);
            let claims =
                Claims { cluster: &verified.cluster, subject: &peer, audience: &audience, issued, ends };
            assert_eq!(token, sign(&key, &claims).as_bytes());
        }
        Ok(verified) => assert_eq!(verified.peer, peer),
    }
}
