//! What Envoy shows of a peer, every byte of it taken as hostile.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use policy::certificate;
use policy::name::Identity;

use crate::host::Host;

/// More certificates than this are not remembered at once; then all are forgotten and read again.
const REMEMBERED: usize = 1024;

/// What the certificate of a peer says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its issuer; `None` where this Envoy does not give the certificate away, or it cannot be read.
    pub issuer: Option<String>,
    /// Its identity.
    pub identity: Option<Identity>,
}

/// The certificates that were read, by their SHA-256.
///
/// What a certificate says, and that its chain holds, is a fact about the certificate and not about a
/// connection: a later connection that shows it has proven by its handshake that it owns the key.
#[derive(Debug, Default)]
pub struct Peers(RefCell<HashMap<Vec<u8>, Rc<Peer>>>);

impl Peers {
    /// The peer of this connection; `None` when it showed no certificate, or one that Envoy did not accept.
    pub fn of_connection(&self, host: &impl Host) -> Option<Rc<Peer>> {
        let digest = host.property("connection\0sha256_peer_certificate_digest")?;
        if let Some(known) = self.0.try_borrow().ok()?.get(&digest) {
            return Some(Rc::clone(known));
        }
        // Absent before Envoy 1.39; there the listener's own check is the only one, as it is in Istio.
        if host.property("connection\0peer_certificate_valid").is_some_and(|valid| valid != [1]) {
            return None;
        }
        let peer = Rc::new(Peer {
            issuer: host.property("connection\0peer_certificate").and_then(|pem| issuer(&pem)),
            identity: host
                .property("connection\0uri_san_peer_certificate")
                .and_then(|uri| std::str::from_utf8(&uri).ok()?.parse().ok()),
        });
        let mut known = self.0.try_borrow_mut().ok()?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest, Rc::clone(&peer));
        Some(peer)
    }
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
    let (label, der) = pem_rfc7468::decode_vec(pem).ok()?;
    if label == "CERTIFICATE" { certificate::issuer(&der).ok() } else { None }
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
            b"%",
            b"%zz",
            b"%2",
            b"\xff\xfe",
        ] {
            assert_eq!(issuer(bad), None);
        }
    }

    #[test]
    fn percent_encoding_is_undone_bytewise() {
        assert_eq!(percent_decoded(b"a%20b%0A").unwrap(), b"a b\n");
    }
}
