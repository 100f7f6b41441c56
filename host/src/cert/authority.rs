//! The two kinds of authority, and what they sign.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::{CaKey, CertError};

/// The name istiod answers to; Istio's tool puts it into every intermediate.
const ISTIOD: &str = "istiod.istio-system.svc";

/// The kind of key an authority gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 4096 bits, what Istio's own tool makes; takes seconds.
    Rsa4096,
    /// ECDSA on P-256; takes no time, and its signatures are quick to check.
    P256,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        }
    }
}

/// The time in which a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// How long before `now` a certificate begins: the other side's clock may be slow.
    pub(super) const CLOCK_SKEW: Duration = Duration::minutes(5);

    /// From a little before `now` until `lifetime` after it.
    #[must_use]
    pub fn from(now: OffsetDateTime, lifetime: Duration) -> Self {
        Self { not_before: now - Self::CLOCK_SKEW, not_after: now + lifetime }
    }
}

/// The root of a mesh: signs intermediates and nothing else.
#[derive(Debug)]
pub struct Root(Authority);

impl Root {
    /// The common name of the first root of a mesh, as Istio's tool gives it.
    pub const NAME: &'static str = "Root CA";

    /// Makes a root with a new key.
    pub fn generate(key: KeyKind, validity: Validity) -> Result<Self, CertError> {
        Self::generate_named(Self::NAME, key, validity)
    }

    /// Makes a root with a common name of its own: proxies look for the issuer of an intermediate by its name.
    pub fn generate_named(common_name: &str, key: KeyKind, validity: Validity) -> Result<Self, CertError> {
        let serial = serial()?;
        let make = || -> Result<Authority, rcgen::Error> {
            let key = key.generate()?;
            let mut params = authority_params(validity, BasicConstraints::Unconstrained);
            params.distinguished_name = name(&[(DnType::CommonName, common_name)]);
            params.serial_number = Some(serial);
            let certificate = params.self_signed(&key)?.pem();
            Ok(Authority { certificate, issuer: Issuer::new(params, key) })
        };
        make().map(Self).map_err(|source| CertError::Make { what: "the root".to_owned(), source })
    }

    pub(super) fn load(certificate: String, key: KeyPair) -> Result<Self, rcgen::Error> {
        Authority::load(certificate, key).map(Self)
    }

    /// Signs the intermediate of one cluster; its subject is `L=<cluster>,CN=Intermediate CA,O=Istio`.
    pub fn intermediate(
        &self,
        cluster: &str,
        key: KeyKind,
        validity: Validity,
    ) -> Result<Intermediate, CertError> {
        let serial = serial()?;
        let make = || -> Result<Authority, rcgen::Error> {
            let key = key.generate()?;
            let mut params = authority_params(validity, BasicConstraints::Constrained(0));
            params.distinguished_name =
                name(&[(DnType::CommonName, "Intermediate CA"), (DnType::LocalityName, cluster)]);
            params.subject_alt_names = vec![SanType::DnsName(ISTIOD.try_into()?)];
            params.use_authority_key_identifier_extension = true;
            params.serial_number = Some(serial);
            let certificate = params.signed_by(&key, &self.0.issuer)?.pem();
            Ok(Authority { certificate, issuer: Issuer::new(params, key) })
        };
        let authority = make()
            .map_err(|source| CertError::Make { what: format!("the intermediate of {cluster}"), source })?;
        Ok(Intermediate { authority, root: self.0.certificate.clone() })
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// The private key in PEM (PKCS #8).
    #[must_use]
    pub fn key(&self) -> CaKey {
        CaKey::new(self.0.issuer.key().serialize_pem())
    }
}

/// The authority of one cluster: signs the leaves of its workloads.
#[derive(Debug)]
pub struct Intermediate {
    authority: Authority,
    root: String,
}

impl Intermediate {
    pub(super) fn load(certificate: String, key: KeyPair, root: String) -> Result<Self, rcgen::Error> {
        Ok(Self { authority: Authority::load(certificate, key)?, root })
    }

    /// Signs a workload's certificate: no subject, the SPIFFE id as its only and critical name, a new P-256 key.
    pub fn leaf(&self, spiffe_id: &str, validity: Validity) -> Result<Leaf, CertError> {
        let what = || format!("a certificate for {spiffe_id}");
        let name = spiffe_id
            .try_into()
            .map(SanType::URI)
            .map_err(|source| CertError::Make { what: what(), source })?;
        let (certificate, key) = self
            .sign(vec![name], serial()?, validity)
            .map_err(|source| CertError::Make { what: what(), source })?;
        Ok(Leaf { chain: certificate + &self.chain(), key: key.serialize_pem() })
    }

    /// The certificate of a leaf without any name, in PEM, whose key is forgotten: to see whether it would be accepted.
    pub(super) fn nameless_leaf(&self, validity: Validity) -> Result<String, CertError> {
        let made = self.sign(Vec::new(), serial()?, validity);
        let (certificate, _key) =
            made.map_err(|source| CertError::Make { what: "a certificate".to_owned(), source })?;
        Ok(certificate)
    }

    fn sign(
        &self,
        names: Vec<SanType>,
        serial: SerialNumber,
        validity: Validity,
    ) -> Result<(String, KeyPair), rcgen::Error> {
        let key = KeyKind::P256.generate()?;
        let mut params = CertificateParams::default();
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial);
        let certificate = params.signed_by(&key, &self.authority.issuer)?.pem();
        Ok((certificate, key))
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.authority.certificate
    }

    /// The private key in PEM (PKCS #8).
    #[must_use]
    pub fn key(&self) -> CaKey {
        CaKey::new(self.authority.issuer.key().serialize_pem())
    }

    /// The chain as Istio wants it: this certificate first, the root last.
    #[must_use]
    pub fn chain(&self) -> String {
        format!("{}{}", self.authority.certificate, self.root)
    }
}

/// A workload's certificate and key.
#[derive(Clone)]
pub struct Leaf {
    /// The leaf, its intermediate and the root, in PEM.
    pub chain: String,
    /// The private key in PEM (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for Leaf {
    // Leaves the key out: what is printed ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("chain", &self.chain).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn load(certificate: String, key: KeyPair) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }
}

/// What Istio's tool gives every authority; it asks for no cRLSign.
fn authority_params(validity: Validity, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params
}

/// `O=Istio` and then the rest: RFC 4514 prints it backwards.
fn name(rest: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Istio");
    for (kind, value) in rest {
        name.push(kind.clone(), *value);
    }
    name
}

/// A random serial number: the library's own is made from the key, so a second certificate for it would repeat it.
fn serial() -> Result<SerialNumber, CertError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| CertError::Random { source })?;
    Ok(SerialNumber::from_slice(&bytes))
}
