//! The headers of a request that the filter asks about, found in one pass.

use policy::evaluate::Arrival;
use policy::facts::Needs;
use policy::source::Source;

use crate::caller::Caller;
use crate::host::{Headers, Host};
use crate::pairs;
use crate::tags::{ROUTE, SOURCE_CLUSTER, SOURCE_NETWORK};
use crate::token;

/// What a request shows. A header that is there twice counts with its first value.
#[derive(Debug, Default)]
pub struct Seen<'h> {
    map: &'h [u8],
    /// `:authority`.
    pub authority: Option<&'h [u8]>,
    /// `:method`.
    pub method: Option<&'h [u8]>,
    /// `:path`.
    pub path: Option<&'h [u8]>,
    /// `x-forwarded-client-cert`.
    pub xfcc: Option<&'h [u8]>,
    /// The tag with the source cluster.
    pub cluster: Value<'h>,
    /// The tag with the source network.
    pub network: Value<'h>,
    /// The route header.
    pub route: Value<'h>,
    /// The token.
    pub token: Value<'h>,
}

/// A header of the filter's own, as it came.
#[derive(Debug, Default, Clone, Copy)]
pub struct Value<'h> {
    first: Option<&'h [u8]>,
    again: bool,
}

impl<'h> Seen<'h> {
    /// Reads the headers of the request.
    pub fn of(host: &'h impl Host) -> Self {
        let mut seen = Self { map: host.headers(Headers::Request), ..Self::default() };
        for (name, value) in pairs::of(seen.map) {
            match name {
                b":authority" => seen.authority = seen.authority.or(Some(value)),
                b":method" => seen.method = seen.method.or(Some(value)),
                b"x-forwarded-client-cert" => seen.xfcc = seen.xfcc.or(Some(value)),
                b":path" => seen.path = seen.path.or(Some(value)),
                _ if name == SOURCE_CLUSTER.as_bytes() => seen.cluster.add(value),
                _ if name == SOURCE_NETWORK.as_bytes() => seen.network.add(value),
                _ if name == token::HEADER.as_bytes() => seen.token.add(value),
                _ if name == ROUTE.as_bytes() => seen.route.add(value),
                _ => {}
            }
        }
        seen
    }

    /// The request of a caller that comes from `source`, with as much of it as rules ask for.
    pub fn arrival<'a>(&self, caller: &'a Caller, source: Source<'a>, needs: Needs) -> Arrival<'a>
    where
        'h: 'a,
    {
        Arrival {
            source,
            identity: caller.peer.as_ref().and_then(|peer| peer.identity.as_ref()),
            port: caller.port,
            method: self.method.filter(|_| needs.method).and_then(text).unwrap_or_default(),
            path: self.path.filter(|_| needs.path).and_then(text).unwrap_or_default(),
            host: self.authority.filter(|_| needs.host).and_then(text),
        }
    }

    /// The first value of any header, if it is text.
    pub fn text(&self, name: &str) -> Option<&'h str> {
        let found = pairs::of(self.map).find(|(found, _)| *found == name.as_bytes());
        found.and_then(|(_, value)| text(value))
    }
}

/// What is text and not empty; a peer may have sent any bytes.
pub fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
}

impl<'h> Value<'h> {
    fn add(&mut self, value: &'h [u8]) {
        self.again = self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    /// The first value.
    pub fn first(self) -> Option<&'h [u8]> {
        self.first
    }

    /// The first value, if it is text.
    pub fn text(self) -> Option<&'h str> {
        self.first.and_then(text)
    }

    /// Makes `wanted` the one value of the header `name`, or takes the header away; nothing is done that is so.
    pub fn replace(self, host: &impl Host, name: &str, wanted: Option<&str>) {
        match (wanted, self.first) {
            (None, None) => {}
            (None, Some(_)) => host.remove_header(Headers::Request, name),
            (Some(wanted), None) => host.add_header(Headers::Request, name, wanted),
            (Some(wanted), Some(first)) if first == wanted.as_bytes() && !self.again => {}
            (Some(wanted), Some(_)) => host.set_header(Headers::Request, name, wanted),
        }
    }
}
