//! What Envoy shows of a peer, every byte of it taken as hostile.

use std::cell::RefCell;
use std::rc::Rc;

use base64ct::{Base64UrlUnpadded, Encoding};
use policy::certificate;
use policy::map::Map;
use policy::plan::InboundPlan;
use policy::source::Source;

use crate::caller::{Caller, Peer, evidence};
use crate::host::Host;
use crate::marks::{Marks, hash};

/// More connections, or certificates, than this are not remembered at once; then all are forgotten and read again.
const REMEMBERED: usize = 1024;

/// The connections and certificates that were read: what is fixed for a connection is asked for once.
///
/// What a certificate says, and that its chain holds, is a fact about the certificate and not about a
/// connection: a later connection that shows it has proven by its handshake that it owns the key.
#[derive(Debug)]
pub struct Peers {
    marks: Marks,
    /// By the number that Envoy gives each, never to two.
    connections: RefCell<Map<u64, Rc<Caller>>>,
    /// By SHA-256.
    certificates: RefCell<Map<Digest, Rc<Peer>>>,
}

/// The SHA-256 of a certificate in hex, as Envoy gives it.
type Digest = Box<[u8]>;

impl Peers {
    /// None yet.
    pub fn new(host: &impl Host) -> Self {
        Self { marks: Marks::new(host), connections: RefCell::default(), certificates: RefCell::default() }
    }

    /// Has the proxy keep what a plugin says of connections for as long as those; while the plugin is configured.
    pub fn declare(&self, host: &impl Host) {
        self.marks.declare(host);
    }

    /// Who is at the other end of this connection. `xfcc`: what `x-forwarded-client-cert` says, if anything; `port`:
    /// whether the workload's port is asked for.
    pub fn caller(
        &self,
        plan: &InboundPlan,
        xfcc: Option<&[u8]>,
        port: bool,
        host: &impl Host,
    ) -> Rc<Caller> {
        if let Some(known) = xfcc.and_then(hash).and_then(|digest| self.marks.find(digest, host)) {
            return known;
        }
        let number = host.property("connection_id").and_then(|number| number.try_into().ok());
        let number: Option<u64> = number.map(u64::from_le_bytes);
        let known = self.connections.try_borrow().ok();
        if let Some(known) = number.and_then(|number| known.as_ref()?.get(&number).cloned()) {
            return known;
        }
        drop(known);
        let digest = host.property("connection\0sha256_peer_certificate_digest");
        let peer = digest.and_then(|digest| self.peer(digest, host));
        let source = Source::of(plan, evidence(peer.as_deref()));
        let accepted = digest.filter(|_| peer.is_some());
        let caller = Rc::new(Caller::new(peer, source, if port { self::port(host) } else { None }));
        self.marks.tell(source, host);
        if let Some(digest) = accepted {
            self.marks.set(digest, &caller, host);
        }
        if let (Some(number), Ok(mut known)) = (number, self.connections.try_borrow_mut()) {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(number, Rc::clone(&caller));
        }
        caller
    }

    /// Says in the filter state of the connection what only a request has shown.
    pub fn tell(&self, source: Source<'_>, host: &impl Host) {
        self.marks.tell(source, host);
    }

    fn peer(&self, digest: &[u8], host: &impl Host) -> Option<Rc<Peer>> {
        // Not asked: `connection.peer_certificate_valid`. Envoy says no to it on every TLS session that is resumed. That
        // the chain holds, the listener has checked, as each of Istio's does: it ends the handshake otherwise.
        if let Some(known) = self.certificates.try_borrow().ok()?.get(digest) {
            return Some(Rc::clone(known));
        }
        let peer = Rc::new(Peer {
            issuer: host.property("connection\0peer_certificate").and_then(issuer),
            identity: host
                .property("connection\0uri_san_peer_certificate")
                .and_then(|uri| std::str::from_utf8(uri).ok()?.parse().ok()),
        });
        let mut known = self.certificates.try_borrow_mut().ok()?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.into(), Rc::clone(&peer));
        Some(peer)
    }
}

/// The workload's port, from the name of the inbound cluster that Istio gives it: `inbound|PORT||`. It is fixed for a
/// connection: Istio has a filter chain for each port, with one route.
fn port(host: &impl Host) -> Option<u16> {
    let cluster = ["xds\0cluster_name", "cluster_name"].into_iter().find_map(|path| host.property(path));
    cluster.and_then(|name| std::str::from_utf8(name).ok()?.split('|').nth(1)?.parse().ok())
}

/// The issuer of a certificate in PEM, plain as Envoy gives it or URL-encoded as its documentation says.
fn issuer(pem: &[u8]) -> Option<String> {
    let decoded;
    let pem = if pem.contains(&b'%') {
        decoded = percent_decoded(pem)?;
        &decoded
    } else {
        pem
    };
    certificate::issuer(&der(pem)?).ok()
}

/// What is inside a certificate's PEM. Envoy wrote it, so there is one form to read; and one alphabet of base64 is in the
/// module already, that of tokens.
fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let pem = pem.trim_ascii().strip_prefix(b"-----BEGIN CERTIFICATE-----")?;
    let pem = pem.strip_suffix(b"-----END CERTIFICATE-----")?.trim_ascii_end();
    let pem = pem.strip_suffix(b"==").or_else(|| pem.strip_suffix(b"=")).unwrap_or(pem);
    let mut digits = String::with_capacity(pem.len());
    for byte in pem.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        digits.push(match byte {
            b'+' => '-',
            b'/' => '_',
            b'-' | b'_' => return None,
            other => char::from(*other),
        });
    }
    Base64UrlUnpadded::decode_vec(&digits).ok()
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_issuer() {
        for bad in [
            &b""[..],
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
            b"%",
            b"%zz",
            b"%2",
            b"\xff\xfe",
        ] {
            assert_eq!(issuer(bad), None);
        }
    }

    #[test]
    fn pem_is_undone_with_and_without_padding_and_in_its_own_alphabet_only() {
        let pem = |body: &str| {
            der(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").as_bytes())
        };
        for (body, bytes) in
            [("+/+/", &[0xfb, 0xff, 0xbf][..]), ("+/8=", &[0xfb, 0xff]), ("+\n\nw==\r", &[0xfb])]
        {
            assert_eq!(pem(body).unwrap(), bytes, "{body}");
        }
        for bad in ["-_-_", "+/9=", "+/8===", "+=8=", "+/+", "+/+/+", "+*+/", "é"] {
            assert_eq!(pem(bad), None, "{bad}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_bytewise() {
        assert_eq!(percent_decoded(b"a%20b%0A").unwrap(), b"a b\n");
    }
}
