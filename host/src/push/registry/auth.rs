//! How a registry is convinced: by a password, or by a token that the service it names gives for one.

use std::net::IpAddr;

use base64ct::{Base64, Encoding as _};
use hyper::Uri;
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use crate::push::credentials::Credentials;

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic {
        /// What they are for.
        realm: String,
    },
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
        let basic = |header: &&str| {
            let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
            let realm = || parameter(rest, "realm").unwrap_or_default();
            scheme.eq_ignore_ascii_case("basic").then(|| Self::Basic { realm: realm() })
        };
        headers.iter().find_map(|header| bearer(header)).or_else(|| headers.iter().find_map(basic))
    }

    /// Why Istio's fetcher would not go on from here, as it takes every realm for a URL that it should go to and refuses
    /// those that lead inside: the proxies would get nothing.
    pub(super) fn doubt(&self) -> Option<String> {
        let (Self::Basic { realm } | Self::Bearer { realm, .. }) = self;
        let url = realm.parse::<Uri>().ok().filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
        let host = url.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']));
        let why = match host {
            _ if realm.is_empty() => return None,
            None => "is no URL of http",
            Some(host) if is_inside(host) => "leads to a private address",
            Some(_) => return None,
        };
        Some(format!(
            "the realm {realm:?} {why}: Istio's fetcher refuses such a registry when it asks who comes"
        ))
    }
}

fn bearer(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer { realm: parameter(rest, "realm")?, service: parameter(rest, "service") })
}

fn is_inside(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(host)) => host.is_private() || host.is_loopback() || host.is_link_local(),
        Ok(IpAddr::V6(host)) => host.is_unique_local() || host.is_loopback() || host.is_unicast_link_local(),
        Err(_) => matches!(host, "localhost" | "metadata.google.internal"),
    }
}

fn parameter(text: &str, wanted: &str) -> Option<String> {
    parameters(text).into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
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
