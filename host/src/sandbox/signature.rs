//! What signs and what verifies signatures: Envoy's foreign functions `sign` and `verify_signature`.
//!
//! A message is signed as OpenSSL's `EVP_DigestSign` does: RSA by PKCS #1 v1.5, ECDSA in DER. The messages of guest and host
//! are those of envoy/source/extensions/common/wasm/ext/sign.proto and verify_signature.proto, the words are Envoy's.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, ParsedPublicKey, RsaEncoding,
    RsaKeyPair, VerificationAlgorithm,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::proto;
use super::status::Status;

/// What comes of a request, before it is a message: a signature, or nothing after a verification; or what Envoy says.
type Outcome = Result<Vec<u8>, String>;

/// The hash functions that Envoy knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(name: &str) -> Result<Self, String> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return Err(format!("{name} is not supported.")),
        })
    }
}

/// Signs: hash function (1), key in DER (2), text (3), key in PEM (4).
pub(crate) fn sign(message: &[u8]) -> Result<Vec<u8>, Status> {
    let fields = proto::fields(message).ok_or(Status::BadArgument)?;
    let key = Key::of(&fields, (2, 4))?;
    let text = proto::bytes(&fields, 3).unwrap_or_default();
    let signed = Hash::of(text_of(&fields, 1)?).and_then(|hash| match key.private() {
        Some(key) => key.sign(hash, text),
        None => Err("Invalid key type: private key required for signing operation.".to_owned()),
    });
    Ok(answer(signed, 3))
}

/// Verifies: hash function (1), key in DER (2), signature (3), text (4), and where that is known a key in PEM (5).
pub(crate) fn verify(message: &[u8], knows_pem: bool) -> Result<Vec<u8>, Status> {
    let fields = proto::fields(message).ok_or(Status::BadArgument)?;
    let key = match knows_pem {
        true => Key::of(&fields, (2, 5))?,
        false => Key::Der(proto::bytes(&fields, 2).unwrap_or_default()),
    };
    let [signature, text] = [3, 4].map(|number| proto::bytes(&fields, number).unwrap_or_default());
    let verified = Hash::of(text_of(&fields, 1)?).and_then(|hash| match key.public() {
        Some(key) => verified(&key, hash, (signature, text)),
        None => Err(NO_VERIFIER.to_owned()),
    });
    Ok(answer(verified, 2))
}

/// The result: whether it came to something (1), the signature (2) if there is one, and what is wrong.
fn answer(outcome: Outcome, error: u64) -> Vec<u8> {
    let mut message = Vec::new();
    match outcome {
        Ok(signature) => {
            proto::put_number(&mut message, 1, 1);
            if !signature.is_empty() {
                proto::put(&mut message, 2, &signature);
            }
        }
        Err(why) => proto::put_text(&mut message, error, &why),
    }
    message
}

/// A text of the message, which has to be one.
fn text_of<'a>(fields: &[(u64, proto::Value<'a>)], number: u64) -> Result<&'a str, Status> {
    str::from_utf8(proto::bytes(fields, number).unwrap_or_default()).ok().ok_or(Status::BadArgument)
}

/// A key as the guest gives it.
enum Key<'a> {
    Der(&'a [u8]),
    Pem(&'a str),
}

impl<'a> Key<'a> {
    /// The key from the fields of its two forms; none or both is a bad argument.
    fn of(fields: &[(u64, proto::Value<'a>)], (der, pem): (u64, u64)) -> Result<Self, Status> {
        match (proto::bytes(fields, der).unwrap_or_default(), text_of(fields, pem)?) {
            ([], "") => Err(Status::BadArgument),
            (der, "") => Ok(Self::Der(der)),
            ([], pem) => Ok(Self::Pem(pem)),
            (_, _) => Err(Status::BadArgument),
        }
    }

    /// A public key in DER: `SubjectPublicKeyInfo`.
    fn public(&self) -> Option<Vec<u8>> {
        let key = match self {
            Self::Der(der) => der.to_vec(),
            Self::Pem(pem) => block(pem, &["PUBLIC KEY"])?.contents,
        };
        SubjectPublicKeyInfo::from_der(&key).is_ok().then_some(key)
    }

    fn private(&self) -> Option<Private> {
        match self {
            // Other forms than PKCS #8 are for PEM alone.
            Self::Der(der) => Private::of_pkcs8(der),
            Self::Pem(pem) => {
                let block = block(pem, &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])?;
                match block.label.as_str() {
                    "RSA PRIVATE KEY" => RsaKeyPair::from_der(&block.contents).ok().map(Private::Rsa),
                    "EC PRIVATE KEY" => Private::of_curve(&block.contents),
                    _ => Private::of_pkcs8(&block.contents),
                }
            }
        }
    }
}

/// The first block with one of these labels.
fn block(pem: &str, labels: &[&str]) -> Option<Pem> {
    let blocks = Pem::iter_from_buffer(pem.as_bytes()).map_while(Result::ok);
    blocks.into_iter().find(|block| labels.contains(&block.label.as_str()))
}

/// A private key that has been read.
enum Private {
    Rsa(RsaKeyPair),
    /// The key in DER, which is read again with the algorithm that signs.
    Curve(Vec<u8>),
    Edwards,
}

/// Curves with the hash functions that this host signs with.
const CURVES: [(Hash, &EcdsaSigningAlgorithm); 6] = [
    (Hash::Sha256, &aws::ECDSA_P256_SHA256_ASN1_SIGNING),
    (Hash::Sha384, &aws::ECDSA_P384_SHA384_ASN1_SIGNING),
    (Hash::Sha224, &aws::ECDSA_P521_SHA224_ASN1_SIGNING),
    (Hash::Sha256, &aws::ECDSA_P521_SHA256_ASN1_SIGNING),
    (Hash::Sha384, &aws::ECDSA_P521_SHA384_ASN1_SIGNING),
    (Hash::Sha512, &aws::ECDSA_P521_SHA512_ASN1_SIGNING),
];

impl Private {
    fn of_pkcs8(der: &[u8]) -> Option<Self> {
        if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
            return Some(Self::Rsa(key));
        }
        if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
            return Some(Self::Edwards);
        }
        let is_one = CURVES.iter().any(|(_, curve)| EcdsaKeyPair::from_pkcs8(curve, der).is_ok());
        is_one.then(|| Self::Curve(der.to_vec()))
    }

    fn of_curve(der: &[u8]) -> Option<Self> {
        let is_one = CURVES.iter().any(|(_, curve)| EcdsaKeyPair::from_private_key_der(curve, der).is_ok());
        is_one.then(|| Self::Curve(der.to_vec()))
    }

    fn sign(&self, hash: Hash, text: &[u8]) -> Outcome {
        let failed = |_| "Failed to create signature.".to_owned();
        match self {
            Self::Rsa(key) => {
                let encoding: &dyn RsaEncoding = match hash {
                    Hash::Sha256 => &aws::RSA_PKCS1_SHA256,
                    Hash::Sha384 => &aws::RSA_PKCS1_SHA384,
                    Hash::Sha512 => &aws::RSA_PKCS1_SHA512,
                    Hash::Sha1 | Hash::Sha224 => return Err(beyond(hash)),
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &SystemRandom::new(), text, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::Curve(der) => {
                let fitting = CURVES.iter().filter(|(of, _)| *of == hash);
                let key = fitting
                    .map(|(_, curve)| EcdsaKeyPair::from_private_key_der(curve, der))
                    .find_map(Result::ok)
                    .ok_or_else(|| beyond(hash))?;
                let signature = key.sign(&SystemRandom::new(), text).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            // What hashes by itself takes no hash function.
            Self::Edwards => Err("Invalid private key: key data is corrupted or malformed.".to_owned()),
        }
    }
}

const NO_VERIFIER: &str = "Failed to initialize digest verify.";

/// The algorithms that this host verifies with.
const VERIFIERS: [(Hash, &dyn VerificationAlgorithm); 16] = [
    (Hash::Sha1, &aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY),
    (Hash::Sha1, &aws::ECDSA_P256_SHA1_ASN1),
    (Hash::Sha1, &aws::ECDSA_P521_SHA1_ASN1),
    (Hash::Sha224, &aws::ECDSA_P521_SHA224_ASN1),
    (Hash::Sha256, &aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
    (Hash::Sha256, &aws::ECDSA_P256_SHA256_ASN1),
    (Hash::Sha256, &aws::ECDSA_P384_SHA256_ASN1),
    (Hash::Sha256, &aws::ECDSA_P521_SHA256_ASN1),
    (Hash::Sha384, &aws::RSA_PKCS1_2048_8192_SHA384),
    (Hash::Sha384, &aws::ECDSA_P256_SHA384_ASN1),
    (Hash::Sha384, &aws::ECDSA_P384_SHA384_ASN1),
    (Hash::Sha384, &aws::ECDSA_P521_SHA384_ASN1),
    (Hash::Sha512, &aws::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
    (Hash::Sha512, &aws::ECDSA_P256_SHA512_ASN1),
    (Hash::Sha512, &aws::ECDSA_P384_SHA512_ASN1),
    (Hash::Sha512, &aws::ECDSA_P521_SHA512_ASN1),
];

fn verified(key: &[u8], hash: Hash, (signature, text): (&[u8], &[u8])) -> Outcome {
    if ParsedPublicKey::new(&aws::ED25519, key).is_ok() {
        return Err(NO_VERIFIER.to_owned());
    }
    let fitting = VERIFIERS.iter().filter(|(of, _)| *of == hash);
    let key = fitting.map(|(_, algorithm)| ParsedPublicKey::new(*algorithm, key)).find_map(Result::ok);
    match key.ok_or_else(|| beyond(hash))?.verify_sig(text, signature) {
        Ok(()) => Ok(Vec::new()),
        Err(_refused) => Err("Failed to verify digest. Error code: 0".to_owned()),
    }
}

/// What Envoy's BoringSSL has and this host's library has not.
fn beyond(hash: Hash) -> String {
    format!("isthmus: the sandbox cannot use such a key with {}", format!("{hash:?}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, bytes) in fields {
            proto::put(&mut message, *number, bytes);
        }
        message
    }

    #[test]
    fn what_is_signed_is_verified_and_nothing_else_is() {
        for (hash, algorithm) in [
            ("SHA256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("sha384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("sha512", &rcgen::PKCS_RSA_SHA256),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let (pem, public) = (key.serialize_pem(), key.public_key_pem());
            let signed = sign(&message(&[(1, hash.as_bytes()), (3, b"text"), (4, pem.as_bytes())])).unwrap();
            let fields = proto::fields(&signed).unwrap();
            assert_eq!((proto::number(&fields, 1), proto::bytes(&fields, 3)), (1, None), "{hash}");
            let signature = proto::bytes(&fields, 2).unwrap();
            let check = |text: &[u8]| {
                verify(
                    &message(&[(1, hash.as_bytes()), (5, public.as_bytes()), (3, signature), (4, text)]),
                    true,
                )
                .unwrap()
            };
            assert_eq!(check(b"text"), [8, 1], "{hash}");
            let refused = check(b"another");
            let why = proto::fields(&refused).unwrap();
            assert_eq!(proto::bytes(&why, 2), Some(&b"Failed to verify digest. Error code: 0"[..]));
        }
    }
}
