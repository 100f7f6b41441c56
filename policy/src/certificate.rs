//! The issuer of a certificate: the one thing in it that names its cluster.
//!
//! Envoy has checked the peer's chain before the filter sees the leaf, so nothing here judges a certificate. It
//! reads the issuer's name out of the DER (RFC 5280, 4.1) and writes it as RFC 2253 does, as OpenSSL's
//! `-nameopt RFC2253` and Envoy's `%DOWNSTREAM_PEER_ISSUER%` do, escaped so that two names never give one text.

use std::fmt::Write as _;

/// Why bytes are not a certificate. A hostile peer may send any bytes; it gets one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A length leads past the end.
    #[error("the certificate ends too early")]
    Truncated,
    /// A length that DER does not allow, or more than four bytes of it.
    #[error("the certificate has a length that DER does not allow")]
    Length,
    /// Another type than the structure has here.
    #[error("the certificate holds tag {found:#04x} where {wanted:#04x} belongs")]
    Tag {
        /// The tag found.
        found: u8,
        /// The tag that belongs there.
        wanted: u8,
    },
    /// An object identifier that is none.
    #[error("the certificate holds a broken object identifier")]
    ObjectIdentifier,
    /// A text that is not of the kind that its tag says.
    #[error("the certificate's issuer holds a broken text")]
    Text,
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Reads the issuer's name out of a certificate in DER.
pub fn issuer(der: &[u8]) -> Result<String, CertificateError> {
    let mut outer = Der(der);
    let mut certificate = Der(outer.read(SEQUENCE)?);
    let mut to_be_signed = Der(certificate.read(SEQUENCE)?);
    if to_be_signed.0.first() == Some(&VERSION) {
        to_be_signed.next()?;
    }
    to_be_signed.read(INTEGER)?; // serial number
    to_be_signed.read(SEQUENCE)?; // signature algorithm
    name(to_be_signed.read(SEQUENCE)?)
}

/// A run of DER values.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// Takes the next value: its tag, its content, and both with the length between.
    fn next(&mut self) -> Result<(u8, &'d [u8], &'d [u8]), CertificateError> {
        let whole = self.0;
        let (&tag, rest) = whole.split_first().ok_or(CertificateError::Truncated)?;
        let (&first, rest) = rest.split_first().ok_or(CertificateError::Truncated)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) =
                    rest.split_at_checked(usize::from(first & 0x7f)).ok_or(CertificateError::Truncated)?;
                let length = bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
                let shortest = length > 0x7f && bytes.first() != Some(&0);
                if shortest { (length, rest) } else { return Err(CertificateError::Length) }
            }
            _ => return Err(CertificateError::Length),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(CertificateError::Truncated)?;
        self.0 = rest;
        let taken = whole.get(..whole.len() - rest.len()).ok_or(CertificateError::Truncated)?;
        Ok((tag, content, taken))
    }

    fn read(&mut self, wanted: u8) -> Result<&'d [u8], CertificateError> {
        match self.next()? {
            (found, content, _) if found == wanted => Ok(content),
            (found, ..) => Err(CertificateError::Tag { found, wanted }),
        }
    }
}

/// A distinguished name, last part first.
fn name(content: &[u8]) -> Result<String, CertificateError> {
    let mut parts = Vec::new();
    let mut sequence = Der(content);
    while !sequence.0.is_empty() {
        let mut attributes = Vec::new();
        let mut set = Der(sequence.read(SET)?);
        while !set.0.is_empty() {
            attributes.push(attribute(set.read(SEQUENCE)?)?);
        }
        attributes.reverse();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Ok(parts.join(","))
}

fn attribute(content: &[u8]) -> Result<String, CertificateError> {
    let mut sequence = Der(content);
    let oid = sequence.read(OBJECT_IDENTIFIER)?;
    let (tag, value, whole) = sequence.next()?;
    Ok(match (short_name(oid), text(tag, value)?) {
        (Some(key), Some(text)) => format!("{key}={}", escaped(&text)),
        (Some(key), None) => format!("{key}=#{}", hex(whole)),
        (None, _) => format!("{}=#{}", dotted(oid)?, hex(whole)),
    })
}

/// The names that OpenSSL prints, so that what a person copies from it into `mesh.yaml` is what is read here.
fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x04] => "SN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "street",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x55, 0x04, 0x0c] => "title",
        [0x55, 0x04, 0x0d] => "description",
        [0x55, 0x04, 0x0f] => "businessCategory",
        [0x55, 0x04, 0x10] => "postalAddress",
        [0x55, 0x04, 0x11] => "postalCode",
        [0x55, 0x04, 0x12] => "postOfficeBox",
        [0x55, 0x04, 0x14] => "telephoneNumber",
        [0x55, 0x04, 0x29] => "name",
        [0x55, 0x04, 0x2a] => "GN",
        [0x55, 0x04, 0x2b] => "initials",
        [0x55, 0x04, 0x2c] => "generationQualifier",
        [0x55, 0x04, 0x2d] => "x500UniqueIdentifier",
        [0x55, 0x04, 0x2e] => "dnQualifier",
        [0x55, 0x04, 0x41] => "pseudonym",
        [0x55, 0x04, 0x48] => "role",
        [0x55, 0x04, 0x61] => "organizationIdentifier",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x03] => "mail",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x02] => "unstructuredName",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x08] => "unstructuredAddress",
        [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x01] => "jurisdictionL",
        [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x02] => "jurisdictionST",
        [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x03] => "jurisdictionC",
        _ => return None,
    })
}

/// The text of a string type; `None` for a type that is not one of those in use.
fn text(tag: u8, value: &[u8]) -> Result<Option<String>, CertificateError> {
    const UTF8: u8 = 0x0c;
    const NUMERIC: u8 = 0x12;
    const PRINTABLE: u8 = 0x13;
    const IA5: u8 = 0x16;
    const VISIBLE: u8 = 0x1a;
    const T61: u8 = 0x14;
    const UNIVERSAL: u8 = 0x1c;
    const BMP: u8 = 0x1e;
    match tag {
        T61 => Ok(Some(value.iter().copied().map(char::from).collect())), // Latin-1, as all take it
        UNIVERSAL => wide::<4>(value).map(Some),
        BMP => wide::<2>(value).map(Some),
        UTF8 | NUMERIC | PRINTABLE | IA5 | VISIBLE => {
            let text = std::str::from_utf8(value).map_err(|_error| CertificateError::Text)?;
            if tag == UTF8 || text.is_ascii() {
                Ok(Some(text.to_owned()))
            } else {
                Err(CertificateError::Text)
            }
        }
        _ => Ok(None),
    }
}

/// A text of which every character takes `N` bytes, the highest first.
fn wide<const N: usize>(value: &[u8]) -> Result<String, CertificateError> {
    let (characters, []) = value.as_chunks::<N>() else { return Err(CertificateError::Text) };
    let character =
        |bytes: &[u8; N]| char::from_u32(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
    characters.iter().map(character).collect::<Option<_>>().ok_or(CertificateError::Text)
}

/// RFC 2253, 2.4, as OpenSSL does it: special characters by a backslash, others outside printable ASCII in hex.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        let edge = match byte {
            b' ' => index == 0 || index == last,
            b'#' => index == 0 && last > 0, // OpenSSL leaves one that stands alone
            _ => false,
        };
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            _ if edge => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _infallible = write!(out, "{byte:02X}");
        out
    })
}

/// An object identifier as numbers with dots (X.690, 8.19).
fn dotted(oid: &[u8]) -> Result<String, CertificateError> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    let mut open = false;
    for byte in oid {
        arc = arc.checked_mul(128).ok_or(CertificateError::ObjectIdentifier)? | u64::from(byte & 0x7f);
        open = byte & 0x80 != 0;
        if !open {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    let (&first, rest) = arcs.split_first().filter(|_| !open).ok_or(CertificateError::ObjectIdentifier)?;
    let top = (first / 40).min(2);
    let mut out = format!("{top}.{}", first - top * 40);
    for arc in rest {
        let _infallible = write!(out, ".{arc}");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let prefix = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        [prefix, content.to_vec()].concat()
    }

    fn certificate(issuer: &[u8]) -> Vec<u8> {
        let body = [
            value(VERSION, &value(INTEGER, &[2])),
            value(INTEGER, &[1]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, issuer),
        ];
        value(SEQUENCE, &value(SEQUENCE, &body.concat()))
    }

    fn part(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        value(SET, &value(SEQUENCE, &[value(OBJECT_IDENTIFIER, oid), value(tag, text)].concat()))
    }

    #[test]
    fn an_issuer_is_written_last_part_first() {
        let parts = [
            part(&[0x55, 4, 10], 0x0c, b"Istio"),
            part(&[0x55, 4, 3], 0x13, b"Intermediate CA"),
            part(&[0x55, 4, 7], 0x0c, b"eu-1"),
        ];
        assert_eq!(issuer(&certificate(&parts.concat())).unwrap(), "L=eu-1,CN=Intermediate CA,O=Istio");
    }

    #[test]
    fn no_text_can_pass_for_another_name() {
        let forged = part(&[0x55, 4, 3], 0x0c, b"x,L=eu-1\\,CN=Intermediate CA");
        assert_eq!(issuer(&certificate(&forged)).unwrap(), "CN=x\\,L=eu-1\\\\\\,CN=Intermediate CA");
        let spaced = part(&[0x55, 4, 3], 0x0c, "# ü\0 ".as_bytes());
        assert_eq!(issuer(&certificate(&spaced)).unwrap(), "CN=\\# \\C3\\BC\\00\\ ");
    }

    #[test]
    fn what_has_no_short_name_or_no_text_is_written_in_numbers() {
        let unknown = [part(&[0x2a, 0x03, 0x84, 0x00], 0x0c, b"a"), part(&[0x55, 4, 3], 0x04, &[0, 0x41])];
        assert_eq!(issuer(&certificate(&unknown.concat())).unwrap(), "CN=#04020041,1.2.3.512=#0C0161");
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_a_name_and_never_a_panic() {
        let whole = certificate(&part(&[0x55, 4, 3], 0x0c, b"eu-1"));
        for end in 0..whole.len() {
            assert!(issuer(&whole[..end]).is_err(), "{end}");
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut broken = whole.clone();
                broken[index] ^= 1 << bit;
                let _either = issuer(&broken);
            }
        }
    }

    #[test]
    fn lengths_are_not_trusted() {
        for bad in [
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..],
            &[0x30, 0x80],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[],
        ] {
            assert!(issuer(bad).is_err(), "{bad:?}");
        }
    }
}
