//! The issuer that isthmus reads is the one that OpenSSL and x509-parser read.

use std::fs;
use std::path::Path;
use std::process::Command;

use policy::certificate::issuer;
use policy::mesh::IssuerName;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const T61: u8 = 0x14;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

/// The attribute types of RFC 4519, RFC 5280 and of Microsoft's and the CA/Browser Forum's CAs, and one of nobody.
const TYPES: [&[u64]; 36] = [
    &[2, 5, 4, 3],
    &[2, 5, 4, 4],
    &[2, 5, 4, 5],
    &[2, 5, 4, 6],
    &[2, 5, 4, 7],
    &[2, 5, 4, 8],
    &[2, 5, 4, 9],
    &[2, 5, 4, 10],
    &[2, 5, 4, 11],
    &[2, 5, 4, 12],
    &[2, 5, 4, 13],
    &[2, 5, 4, 15],
    &[2, 5, 4, 16],
    &[2, 5, 4, 17],
    &[2, 5, 4, 18],
    &[2, 5, 4, 20],
    &[2, 5, 4, 41],
    &[2, 5, 4, 42],
    &[2, 5, 4, 43],
    &[2, 5, 4, 44],
    &[2, 5, 4, 45],
    &[2, 5, 4, 46],
    &[2, 5, 4, 65],
    &[2, 5, 4, 72],
    &[2, 5, 4, 97],
    &[0, 9, 2342, 19200300, 100, 1, 1],
    &[0, 9, 2342, 19200300, 100, 1, 3],
    &[0, 9, 2342, 19200300, 100, 1, 25],
    &[1, 2, 840, 113549, 1, 9, 1],
    &[1, 2, 840, 113549, 1, 9, 2],
    &[1, 2, 840, 113549, 1, 9, 8],
    &[1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 1],
    &[1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 2],
    &[1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3],
    &[1, 3, 6, 1, 4, 1, 99999, 7],
    &[2, 999, 1],
];

/// One attribute of a name: its type, the tag of its string type, its bytes.
#[derive(Debug, Clone)]
struct Attribute {
    oid: &'static [u64],
    tag: u8,
    value: Vec<u8>,
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let prefix = if length < 0x80 {
        vec![u8::try_from(length).expect("a short length")]
    } else {
        [vec![0x80 | u8::try_from(bytes.len()).expect("few bytes")], bytes].concat()
    };
    [vec![tag], prefix, content.to_vec()].concat()
}

fn oid(arcs: &[u64]) -> Vec<u8> {
    let first = arcs[0] * 40 + arcs[1];
    let arc = |arc: u64| {
        let mut bytes = vec![u8::try_from(arc & 0x7f).expect("seven bits")];
        let mut rest = arc >> 7;
        while rest > 0 {
            bytes.insert(0, 0x80 | u8::try_from(rest & 0x7f).expect("seven bits"));
            rest >>= 7;
        }
        bytes
    };
    der(0x06, &[first].iter().chain(&arcs[2..]).flat_map(|number| arc(*number)).collect::<Vec<u8>>())
}

/// A certificate with this issuer: well formed, signed by no one.
fn certificate(name: &[Vec<Attribute>]) -> Vec<u8> {
    let attribute = |attribute: &Attribute| {
        der(0x30, &[oid(attribute.oid), der(attribute.tag, &attribute.value)].concat())
    };
    let part = |part: &Vec<Attribute>| der(0x31, &part.iter().flat_map(attribute).collect::<Vec<u8>>());
    let name = der(0x30, &name.iter().flat_map(part).collect::<Vec<u8>>());
    let ecdsa = der(0x30, &oid(&[1, 2, 840, 10045, 4, 3, 2]));
    let validity = der(0x30, &[der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z")].concat());
    let curve = der(0x30, &[oid(&[1, 2, 840, 10045, 2, 1]), oid(&[1, 2, 840, 10045, 3, 1, 7])].concat());
    // The generator of P-256, SEC 2, 2.4.2: a point that is on the curve.
    let point = [
        0x00, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
        0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b,
        0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
    ];
    let key = der(0x30, &[curve, der(0x03, &point)].concat());
    let version = der(0xa0, &der(0x02, &[2]));
    let subject = der(0x30, &[]);
    let body = der(0x30, &[version, der(0x02, &[1]), ecdsa.clone(), name, validity, subject, key].concat());
    der(0x30, &[body, ecdsa, der(0x03, &[0, 0x30, 0])].concat())
}

/// What OpenSSL prints of the issuer; `None` if it does not take the certificate.
fn openssl(dir: &Path, der: &[u8]) -> Option<String> {
    let file = dir.join("certificate.der");
    fs::write(&file, der).expect("a certificate is written");
    let output = Command::new("openssl")
        .args(["x509", "-inform", "DER", "-noout", "-issuer", "-nameopt", "RFC2253", "-in"])
        .arg(&file)
        .output()
        .expect("openssl runs");
    let printed = String::from_utf8(output.stdout).expect("RFC 2253 leaves ASCII");
    let name = printed.strip_prefix("issuer=").and_then(|rest| rest.strip_suffix('\n'));
    name.filter(|_| output.status.success()).map(str::to_owned)
}

/// The values of a written name, part by part, as bytes: what a reader of RFC 2253 gets back.
fn values(written: &str) -> Vec<Vec<Vec<u8>>> {
    let mut parts = vec![vec![Vec::new()]];
    let mut bytes = written.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => parts.push(vec![Vec::new()]),
            b'+' => parts.last_mut().expect("a part").push(Vec::new()),
            other => {
                let byte = if other == b'\\' { unescaped(&mut bytes) } else { other };
                parts.last_mut().and_then(|part| part.last_mut()).expect("an attribute").push(byte);
            }
        }
    }
    let value = |attribute: Vec<u8>| {
        let equals = attribute.iter().position(|byte| *byte == b'=').expect("KEY=VALUE");
        attribute[equals + 1..].to_vec()
    };
    parts.into_iter().map(|part| part.into_iter().map(value).collect()).collect()
}

fn unescaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let first = bytes.next().expect("something escaped");
    match digit(first) {
        Some(high) => high * 16 + bytes.next().and_then(digit).expect("two digits"),
        None => first,
    }
}

/// The values that x509-parser finds in the issuer, last part first.
fn parsed(der: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let part = |part: &x509_parser::x509::RelativeDistinguishedName<'_>| {
        let mut values: Vec<Vec<u8>> = part.iter().map(|attribute| attribute.as_slice().to_vec()).collect();
        values.reverse();
        values
    };
    let mut parts: Vec<_> = certificate.issuer().iter_rdn().map(part).collect();
    parts.reverse();
    parts
}

/// Texts with all that RFC 2253 escapes, at either end and within.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ #,+\"\\\\<>;=a-zA-Z0-9\u{0}\u{1}\u{7f}/.*'-]{0,10}",
        2 => "\\PC{0,6}",
        1 => select(&[" ", "  ", "#", "# ", "\\", "", "=", "é", "\u{1f512}", "L=eu-1,CN=x", "a\nb"][..])
            .prop_map(str::to_owned),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let text = (odd_text(), select(&[UTF8, UTF8, PRINTABLE, IA5, T61, BMP, UNIVERSAL][..]));
    (select(&TYPES[..]), text).prop_map(|(oid, (text, tag))| {
        let ascii = text.is_ascii();
        let narrow: Option<Vec<u8>> = text.chars().map(|sign| u8::try_from(u32::from(sign)).ok()).collect();
        let (tag, value) = match (tag, narrow) {
            (PRINTABLE | IA5, _) if ascii => (tag, text.into_bytes()),
            (T61, Some(latin)) => (tag, latin),
            (BMP, _) if text.chars().all(|sign| sign <= '\u{ffff}') => {
                (tag, text.encode_utf16().flat_map(u16::to_be_bytes).collect())
            }
            (UNIVERSAL, _) => (tag, text.chars().flat_map(|sign| u32::from(sign).to_be_bytes()).collect()),
            _ => (UTF8, text.into_bytes()),
        };
        Attribute { oid, tag, value }
    })
}

fn name() -> impl Strategy<Value = Vec<Vec<Attribute>>> {
    vec(vec(attribute(), 1..3), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn openssl_writes_every_issuer_alike(name in name()) {
        let dir = TempDir::new().expect("a directory");
        let der = certificate(&name);
        let theirs = openssl(dir.path(), &der);
        prop_assert!(theirs.is_some(), "openssl does not take the certificate");
        prop_assert_eq!(issuer(&der).ok(), theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_issuer_can_be_written_in_a_mesh(name in name()) {
        let written = issuer(&certificate(&name)).expect("an issuer");
        prop_assert_eq!(written.parse::<IssuerName>().map(|name| name.to_string()), Ok(written));
    }

    #[test]
    fn x509_parser_finds_the_same_values(name in name()) {
        let plain = |attribute: &Attribute| [UTF8, PRINTABLE, IA5].contains(&attribute.tag) && attribute.oid[0] == 2 && attribute.oid[1] == 5;
        let name: Vec<Vec<Attribute>> =
            name.into_iter().map(|part| part.into_iter().filter(plain).collect()).filter(|part: &Vec<_>| !part.is_empty()).collect();
        prop_assume!(!name.is_empty());
        let der = certificate(&name);
        prop_assert_eq!(values(&issuer(&der).expect("an issuer")), parsed(&der));
    }

    #[test]
    fn no_spoilt_certificate_panics_the_reader(name in name(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut der = certificate(&name);
        for (at, byte) in flips {
            let at = at.index(der.len());
            der[at] = byte;
        }
        let _either = issuer(&der).is_ok();
    }
}

#[test]
fn certificates_that_openssl_makes_name_their_issuers_alike() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("made.der");
    for subject in [
        "/O=Istio/CN=Intermediate CA/L=eu-1",
        "/C=DE/O=Bänk, Söhne + Co/CN= \"a\" ;<b>#",
        "/DC=example/DC=bank/OU=CA+CN=one/emailAddress=ca@bank.example",
        "/serialNumber=1/initials=AB/dnQualifier=x/CN=#hash",
    ] {
        for key in [&["-newkey", "rsa:2048"][..], &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]] {
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-utf8",
                    "-nodes",
                    "-keyout",
                    "/dev/null",
                    "-outform",
                    "DER",
                    "-days",
                    "1",
                ])
                .args(key)
                .args(["-subj", subject, "-out"])
                .arg(&file)
                .output()
                .expect("openssl runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let der = fs::read(&file).expect("a certificate");
            assert_eq!(issuer(&der).ok(), openssl(dir.path(), &der), "{subject}");
        }
    }
}

#[test]
fn certificates_that_rcgen_makes_name_their_issuers_alike() {
    let dir = TempDir::new().expect("a directory");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, " Istio, Ltd. ");
    let country = rcgen::DnValue::PrintableString("DE".try_into().expect("printable"));
    params.distinguished_name.push(rcgen::DnType::CountryName, country);
    params.distinguished_name.push(rcgen::DnType::LocalityName, "eu-1");
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let written = issuer(made.der()).expect("an issuer");
        assert_eq!(written, "L=eu-1,C=DE,O=\\ Istio\\, Ltd.\\ ");
        assert_eq!(Some(written), openssl(dir.path(), made.der()));
    }
}
