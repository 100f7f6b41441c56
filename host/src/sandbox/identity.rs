//! TLS sessions as certificates make them.

use super::connection::{PeerCertificate, Tls};
use crate::digest::sha256;

/// Why a certificate cannot be shown to a guest.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate in PEM")]
pub struct CertificateError {
    /// What the reader says.
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What Envoy's attributes show of a certificate.
struct Shown {
    subject: String,
    uri_san: Option<String>,
    dns_san: Option<String>,
    sha256: String,
}

impl PeerCertificate {
    /// The certificate that a client presents: the first of `pem`, which may go on with its chain. `valid` says whether
    /// the proxy could verify it.
    pub fn from_pem(pem: &str, valid: bool) -> Result<Self, CertificateError> {
        const END: &str = "-----END CERTIFICATE-----\n";
        let Shown { subject, uri_san, dns_san, sha256 } = show(pem)?;
        let leaf = pem.split_inclusive(END).next().unwrap_or_default().to_owned();
        Ok(Self { pem: leaf, sha256, uri_san, dns_san, subject, valid })
    }
}

impl Tls {
    /// A session of TLS 1.3 in which both sides have shown a certificate and the proxy has verified the client's.
    pub fn mutual(local: &str, peer: &str) -> Result<Self, CertificateError> {
        let Shown { subject, uri_san, dns_san, sha256: _ } = show(local)?;
        Ok(Self {
            version: "TLSv1.3".to_owned(),
            uri_san_local_certificate: uri_san,
            dns_san_local_certificate: dns_san,
            subject_local_certificate: subject,
            peer: Some(PeerCertificate::from_pem(peer, true)?),
        })
    }
}

fn show(pem: &str) -> Result<Shown, CertificateError> {
    use x509_parser::extensions::GeneralName;

    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|error| CertificateError { source: error.into() })?;
    let certificate = pem.parse_x509().map_err(|error| CertificateError { source: error.into() })?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let first = |of: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(of);
    Ok(Shown {
        subject: rfc2253(certificate.subject()),
        uri_san: first(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }),
        dns_san: first(
            |name| if let GeneralName::DNSName(dns) = name { Some((*dns).to_owned()) } else { None },
        ),
        sha256: sha256(&pem.contents),
    })
}

/// A name as Envoy writes it, by RFC 2253: the last part first.
fn rfc2253(name: &x509_parser::x509::X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| {
            let attributes: Vec<String> = part
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type();
                    let registry = x509_parser::objects::oid_registry();
                    let label = x509_parser::objects::oid2abbrev(oid, registry)
                        .map_or_else(|_unknown| oid.to_id_string(), str::to_owned);
                    format!("{label}={}", escaped(attribute.as_str().unwrap_or_default()))
                })
                .collect();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    value.chars().enumerate().fold(String::new(), |mut text, (nth, letter)| {
        let edge = (letter == ' ' && (nth == 0 || nth == last)) || (letter == '#' && nth == 0);
        if edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        text.push(letter);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::{KeyKind, Root, Validity};

    #[test]
    fn a_certificate_is_shown_as_envoy_shows_it() {
        let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let validity = Validity::from(now, time::Duration::days(1));
        let root = Root::generate(KeyKind::P256, validity).unwrap();
        let issuer = root.intermediate("east", KeyKind::P256, validity).unwrap();
        let [server, client] = ["spiffe://d/ns/a/sa/b", "spiffe://d/ns/c/sa/d"]
            .map(|identity| issuer.leaf(identity, validity).unwrap().chain);
        let tls = Tls::mutual(&server, &client).unwrap();
        assert_eq!(tls.uri_san_local_certificate.as_deref(), Some("spiffe://d/ns/a/sa/b"));
        let peer = tls.peer.unwrap();
        assert_eq!(peer.uri_san.as_deref(), Some("spiffe://d/ns/c/sa/d"));
        assert_eq!((peer.sha256.len(), peer.valid, peer.dns_san), (64, true, None));
        assert!(client.starts_with(&peer.pem) && client.len() > peer.pem.len(), "the leaf of its chain");
        assert!(PeerCertificate::from_pem("no", true).is_err());
    }

    #[test]
    fn the_parts_of_a_name_are_written_last_first_and_escaped() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "A, B");
        params.distinguished_name.push(rcgen::DnType::CommonName, "#c ");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert_eq!(PeerCertificate::from_pem(&pem, false).unwrap().subject, "CN=\\#c\\ ,O=A\\, B");
    }
}
