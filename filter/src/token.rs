//! Tokens that say which cluster a request comes from, for proxies that do not show the peer's certificate: compact
//! JWS (RFC 7515) with claims (RFC 7519), signed with Ed25519 (RFC 8037).
//!
//! The source's sidecar signs with its cluster's key ([`sign`]); the destination's checks that against the peer's
//! certificate ([`verify`]). Neither asks Envoy anything: the time and the peer are given.

mod error;
mod form;
mod key;
mod signer;
mod verifier;

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use policy::name::{ClusterName, Identity, Namespace};
use policy::plan::TokenKeys;

pub use error::{Claim, Part, TokenError};
pub use key::{SigningKey, SigningKeyError};
pub use signer::Signer;
pub use verifier::Verifier;

/// The header that carries a token.
pub const HEADER: &str = "x-isthmus-token";

/// Longer tokens are not read: one that a sidecar signs has some 350 bytes.
pub const LONGEST: usize = 4096;

/// By how many seconds the clocks of two proxies may differ.
pub const LEEWAY: u64 = 60;

/// What a token says. Times are seconds since 1970.
///
/// All names are checked ones, so that nothing in them could be mistaken for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims<'c> {
    /// `iss`: the source cluster.
    pub cluster: &'c ClusterName,
    /// `sub`: the source's workload.
    pub subject: &'c Identity,
    /// `aud`: the namespace of the workloads that it is for.
    pub audience: &'c Namespace,
    /// `iat`: when it is issued.
    pub issued: u64,
    /// `exp`: from when on it no longer holds.
    pub ends: u64,
}

/// What a token must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The identity in the certificate of the peer that sent it.
    pub peer: &'a Identity,
    /// This proxy's own namespace.
    pub audience: &'a Namespace,
    /// The time, in seconds since 1970.
    pub now: u64,
}

/// What a token has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The cluster whose key signed it.
    pub cluster: ClusterName,
    /// The peer that it is bound to.
    pub peer: Identity,
    /// When it was issued.
    pub issued: u64,
    /// From when on it no longer holds, by its own word or the plan's.
    pub ends: u64,
}

/// Signs claims. The same claims give the same token: Ed25519 draws no numbers.
pub fn sign(key: &SigningKey, claims: &Claims<'_>) -> String {
    let part = |json: String| Base64UrlUnpadded::encode_string(json.as_bytes());
    let mut token = part(form::header(&key.id)) + "." + &part(form::claims(claims));
    let signature = key.secret.sign(token.as_bytes());
    token.push('.');
    token += &Base64UrlUnpadded::encode_string(&signature.to_bytes());
    token
}

/// Checks a token; the work for a hostile one is bounded, and what costs most comes last.
pub fn verify(token: &[u8], keys: &TokenKeys, expected: &Expected<'_>) -> Result<Verified, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::TooLong { bytes: token.len() });
    }
    let token = std::str::from_utf8(token).map_err(|_bytes| TokenError::Shape)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Shape)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Shape)?;
    let header = text(header, Part::Header)?;
    let id = form::read_header(&header).ok_or(TokenError::Form { part: Part::Header })?;
    let claims = text(claims, Part::Claims)?;
    let claims = form::read_claims(&claims).ok_or(TokenError::Form { part: Part::Claims })?;
    let unknown = || TokenError::UnknownKey { cluster: claims.cluster.to_owned(), key: id.to_owned() };
    let (cluster, key) = keys.of(claims.cluster, id).ok_or_else(unknown)?;
    bound(&claims, expected)?;
    let verified = Verified {
        cluster: cluster.clone(),
        peer: expected.peer.clone(),
        issued: claims.issued,
        ends: claims.ends.min(claims.issued.saturating_add(u64::from(keys.life))),
    };
    verified.holds(expected.now)?;
    let signature = decoded(signature, Part::Signature)?;
    let signature = Signature::from_slice(&signature).map_err(|_length| TokenError::Signature)?;
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_point| TokenError::Signature)?;
    // Strict: neither a key or commitment of small order, nor a second form of the same signature.
    key.verify_strict(signed.as_bytes(), &signature).map_err(|_mismatch| TokenError::Signature)?;
    Ok(verified)
}

/// That a token is of this peer and for this proxy.
fn bound(claims: &form::Read<'_>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let differs = |claim, token: &str, wanted| TokenError::Differs { claim, token: token.to_owned(), wanted };
    if claims.audience != expected.audience.as_str() {
        let wanted = expected.audience.to_string();
        return Err(differs(Claim::Audience, claims.audience, wanted));
    }
    let peer = expected.peer.to_string();
    if claims.subject == peer { Ok(()) } else { Err(differs(Claim::Subject, claims.subject, peer)) }
}

impl Verified {
    /// Whether it holds now, by a clock that may go [`LEEWAY`] wrong.
    pub fn holds(&self, now: u64) -> Result<(), TokenError> {
        let &Self { issued, ends, .. } = self;
        if ends <= issued {
            Err(TokenError::NoLife { issued, ends })
        } else if issued > now.saturating_add(LEEWAY) {
            Err(TokenError::Early { issued, now })
        } else if now >= ends.saturating_add(LEEWAY) {
            Err(TokenError::Late { ends, now })
        } else {
            Ok(())
        }
    }
}

/// The bytes of a part: no padding, no other digits, nothing in the bits that say nothing.
fn decoded(text: &str, part: Part) -> Result<Vec<u8>, TokenError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_digits| TokenError::Encoding { part })
}

fn text(part: &str, which: Part) -> Result<String, TokenError> {
    String::from_utf8(decoded(part, which)?).map_err(|_bytes| TokenError::Form { part: which })
}

#[cfg(test)]
mod tests;
