//! How a registry is convinced: by a password, or by a token that the service it names gives for one.

use base64ct::{Base64, Encoding as _};
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use crate::push::credentials::Credentials;

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token of this service.
    Bearer {
        /// The URL of the service.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first that we can meet of those in a `WWW-Authenticate`.
    pub(super) fn read<'h>(headers: impl Iterator<Item = &'h HeaderValue>) -> Option<Self> {
        let headers: Vec<&str> = headers.filter_map(|header| header.to_str().ok()).collect();
        headers.iter().find_map(|header| bearer(header)).or_else(|| {
            let basic =
                |header: &&&str| header.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("basic"));
            headers.iter().find(basic).map(|_| Self::Basic)
        })
    }
}

fn bearer(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parameters(rest);
    let get = |wanted: &str| {
        parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone())
    };
    Some(Challenge::Bearer { realm: get("realm")?, service: get("service") })
}

/// `name="value"`, with commas between them that may also be in values.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = after;
    }
    found
}

/// The header that shows a user and a password.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Password { user, password } = credentials else { return None };
    let both = Zeroizing::new(format!("{user}:{}", password.as_str()));
    header("Basic", &Base64::encode_string(both.as_bytes()))
}

/// The header that shows a token.
pub(super) fn token(token: &str) -> Option<HeaderValue> {
    header("Bearer", token)
}

fn header(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// What a service is asked, as the query of a URL or as a form.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

#[cfg(test)]
mod tests;
