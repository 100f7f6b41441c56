//! A certificate as it was read, and what it says of itself.

use std::path::Path;

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::x509::X509Name;

use super::CertError;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A certificate: its own bytes, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    text: String,
    der: Vec<u8>,
    name: String,
    /// Its subject and that of who signed it, in DER: names are compared byte by byte, as istiod does.
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) issuer_key_id: Option<Vec<u8>>,
    /// Its serial number and, where it says so, that of who signed it.
    pub(super) serial: Vec<u8>,
    pub(super) issuer_serial: Option<Vec<u8>>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    constraints: Constraints,
    pub(super) uris: Uris,
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraints {
    /// It says that it is a CA.
    pub authority: bool,
    /// How many CAs may stand below it.
    pub path_length: Option<u32>,
    /// Its key may sign certificates; also where it says nothing of that.
    pub signs: bool,
    /// It is for TLS clients and servers; also where it says nothing of that.
    pub tls: bool,
}

/// The hosts of URIs that may and may not stand in certificates below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Uris {
    pub(super) permitted: Vec<String>,
    pub(super) excluded: Vec<String>,
}

impl Certificate {
    /// Reads every certificate of a text in PEM, in its order; what stands between them does not count.
    pub fn read_all(text: &str, path: &Path) -> Result<Vec<Self>, CertError> {
        let not_one = || CertError::NotACertificate { path: path.to_owned() };
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(BEGIN) {
            let from = rest.get(start..).ok_or_else(not_one)?;
            let length = from.find(END).ok_or_else(not_one)? + END.len();
            let (block, after) = from.split_at_checked(length).ok_or_else(not_one)?;
            found.push(Self::of_block(block).ok_or_else(not_one)?);
            rest = after;
        }
        if found.is_empty() { Err(not_one()) } else { Ok(found) }
    }

    /// Reads the first certificate of a text.
    pub fn read(text: &str, path: &Path) -> Result<Self, CertError> {
        let all = Self::read_all(text, path)?;
        all.into_iter().next().ok_or_else(|| CertError::NotACertificate { path: path.to_owned() })
    }

    fn of_block(block: &str) -> Option<Self> {
        let text = format!("{block}\n");
        let (_rest, pem) = parse_x509_pem(text.as_bytes()).ok()?;
        let (trailing, parsed) = x509_parser::parse_x509_certificate(&pem.contents).ok()?;
        if !trailing.is_empty() {
            return None;
        }
        let (key_id, (issuer_key_id, issuer_serial), uris) = identifiers(&parsed);
        let basic = parsed.basic_constraints().ok()?;
        let usage = parsed.key_usage().ok()?;
        let extended = parsed.extended_key_usage().ok()?;
        Some(Self {
            name: named(parsed.subject()),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            spki: parsed.public_key().raw.to_vec(),
            key_id,
            issuer_key_id,
            serial: parsed.raw_serial().to_vec(),
            issuer_serial,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            constraints: Constraints {
                authority: basic.as_ref().is_some_and(|basic| basic.value.ca),
                path_length: basic.and_then(|basic| basic.value.path_len_constraint),
                signs: usage.is_none_or(|usage| usage.value.key_cert_sign()),
                tls: extended.is_none_or(|usage| usage.value.client_auth && usage.value.server_auth),
            },
            uris,
            text,
            der: pem.contents.clone(),
        })
    }

    /// Its block in PEM, with a line end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What it is called, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it begins to hold.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// What it may be used for.
    #[must_use]
    pub fn constraints(&self) -> Constraints {
        self.constraints
    }

    /// Whether it holds at a time.
    #[must_use]
    pub fn holds_at(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether it is a root: it names itself as its issuer.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the key of another certificate has signed it.
    #[must_use]
    pub fn is_signed_by(&self, other: &Self) -> bool {
        let parsed = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, parsed)| parsed);
        let (Some(own), Some(signer)) = (parsed(&self.der), parsed(&other.der)) else { return false };
        own.verify_signature(Some(signer.public_key())).is_ok()
    }

    /// Whether it may be what another means by its issuer: the name, and the identifiers where both give them.
    pub(super) fn may_have_issued(&self, other: &Self) -> bool {
        let agree = |own: Option<&Vec<u8>>, said: Option<&Vec<u8>>| match (own, said) {
            (Some(own), Some(said)) => own == said,
            (None, _) | (_, None) => true,
        };
        self.subject == other.issuer
            && agree(self.key_id.as_ref(), other.issuer_key_id.as_ref())
            && agree(Some(&self.serial), other.issuer_serial.as_ref())
    }
}

type IssuerIdentifiers = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What the extensions say of keys and of names below.
fn identifiers(parsed: &X509Certificate<'_>) -> (Option<Vec<u8>>, IssuerIdentifiers, Uris) {
    let (mut own, mut issuer, mut uris) = (None, (None, None), Uris::default());
    for extension in parsed.iter_extensions() {
        let found = extension.parsed_extension();
        if let ParsedExtension::SubjectKeyIdentifier(id) = found {
            own = Some(id.0.to_vec());
        } else if let ParsedExtension::AuthorityKeyIdentifier(id) = found {
            let key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            issuer = (key, id.authority_cert_serial.map(<[u8]>::to_vec));
        } else if let ParsedExtension::NameConstraints(names) = found {
            let of = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
                let uri = |base: &GeneralName<'_>| {
                    if let GeneralName::URI(host) = base { Some((*host).to_owned()) } else { None }
                };
                subtrees.iter().flatten().filter_map(|subtree| uri(&subtree.base)).collect()
            };
            uris = Uris { permitted: of(&names.permitted_subtrees), excluded: of(&names.excluded_subtrees) };
        }
    }
    (own, issuer, uris)
}

/// A name for people: as OpenSSL prints it in one line.
fn named(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no name)".to_owned() } else { text }
}
