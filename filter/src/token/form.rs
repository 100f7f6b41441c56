//! The JSON inside a token, which has one form only: these keys, in this order, without spaces or escapes.
//!
//! Tokens are written here alone, so nothing else needs to be read. What is said twice, nests, or can be written in two
//! ways does not come up, and a token has no second form under which it could be remembered again.

use policy::name::KeyId;

use super::Claims;

/// What a token is for whom, before the name of a namespace.
const AUDIENCE: &str = "isthmus:";

/// Claims as they were read: nothing is known of their names yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read<'t> {
    pub(super) cluster: &'t str,
    pub(super) subject: &'t str,
    pub(super) audience: &'t str,
    pub(super) issued: u64,
    pub(super) ends: u64,
}

/// The header of a token that a key signs.
pub(super) fn header(key: &KeyId) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{key}","typ":"JWT"}}"#)
}

/// The name of the key, in what [`header`] wrote.
pub(super) fn read_header(json: &str) -> Option<&str> {
    let id = json.strip_prefix(r#"{"alg":"EdDSA","kid":""#)?.strip_suffix(r#"","typ":"JWT"}"#)?;
    plain(id)
}

/// Claims as JSON.
pub(super) fn claims(claims: &Claims<'_>) -> String {
    let Claims { cluster, subject, audience, issued, ends } = claims;
    format!(
        r#"{{"iss":"{cluster}","sub":"{subject}","aud":"{AUDIENCE}{audience}","iat":{issued},"exp":{ends}}}"#
    )
}

/// What [`claims`] wrote.
pub(super) fn read_claims(json: &str) -> Option<Read<'_>> {
    // No name has a quote in it, so each ends at the first: the search for a sign is in the module anyway, and that for
    // a text would take it four kilobytes.
    let (cluster, rest) = json.strip_prefix(r#"{"iss":""#)?.split_once('"')?;
    let (subject, rest) = rest.strip_prefix(r#","sub":""#)?.split_once('"')?;
    let (audience, rest) = rest.strip_prefix(r#","aud":""#)?.strip_prefix(AUDIENCE)?.split_once('"')?;
    let (issued, rest) = rest.strip_prefix(r#","iat":"#)?.split_once(',')?;
    let ends = rest.strip_prefix(r#""exp":"#)?.strip_suffix('}')?;
    Some(Read {
        cluster: plain(cluster)?,
        subject: plain(subject)?,
        audience: plain(audience)?,
        issued: number(issued)?,
        ends: number(ends)?,
    })
}

/// A text that means in JSON what it is.
fn plain(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')).then_some(text)
}

/// A whole number, written as JSON writes it.
fn number(text: &str) -> Option<u64> {
    let leads = text.starts_with('0') && text.len() > 1;
    (!leads && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
