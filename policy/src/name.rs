//! Checked names: once a value has one of these types, its text needs no second look.
//!
//! All of them print as they are written, and parse back to themselves.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The suffix of every Kubernetes service host in a mesh.
const SERVICE_SUFFIX: &str = ".svc.cluster.local";

/// Why a text is not the name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label (RFC 1123): what Kubernetes and Istio demand of most names.
    #[error(
        "{0:?} is not a DNS label: 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit"
    )]
    NotALabel(String),
    /// Not a DNS name made of labels.
    #[error("{0:?} is not a DNS name: labels of a-z, 0-9 and - with dots between, 253 characters at most")]
    NotADnsName(String),
    /// Not `NAME.NAMESPACE`.
    #[error("{0:?} is not a service: write NAME.NAMESPACE, such as ledger.payments")]
    NotAService(String),
    /// Not the number of a port.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    NotAPort(String),
    /// Not the name of a header that a policy may ask for.
    #[error("{0:?} is not the name of a header: write it in lower case, such as x-cell")]
    NotAHeader(String),
    /// Not the name of a cookie (RFC 6265).
    #[error("{0:?} is not the name of a cookie: letters, digits and !#$%&'*+-.^_`|~")]
    NotACookie(String),
    /// Not the name of a key.
    #[error("{0:?} is not the name of a key: 1 to 63 letters, digits, and - _ . between them")]
    NotAKeyId(String),
    /// Not a SPIFFE id of a Kubernetes workload.
    #[error("{0:?} is not the identity of a workload: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    NotAnIdentity(String),
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(crate) fn is_dns_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

/// A token of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(sign)
}

/// What neither JSON nor `ID:SEED` needs to quote.
fn is_key_id(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && outer(bytes.first())
        && outer(bytes.last())
}

fn is_header(text: &str) -> bool {
    is_token(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What stands in a plan in the place of a value until that is read; nobody else ever sees it.
pub(crate) trait Blank: Sized {
    const BLANK: Self;
}

#[inline(never)]
fn checked(text: &str, holds: fn(&str) -> bool, error: fn(String) -> NameError) -> Result<String, NameError> {
    let name = text.to_owned();
    if holds(text) { Ok(name) } else { Err(error(name)) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $check:ident else $error:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Blank for $name {
            const BLANK: Self = Self(String::new());
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text, $check, NameError::$error).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A cluster, as `multiCluster.clusterName` and the key of its remote secret say it.
    ClusterName: is_label else NotALabel;
    /// A mesh, as `meshConfig.defaultConfig.meshId` says it.
    MeshName: is_label else NotALabel;
    /// A root CA, by whatever name tells it from others.
    RootName: is_label else NotALabel;
    /// A network, as the label `topology.istio.io/network` says it.
    NetworkName: is_label else NotALabel;
    /// A region, as the label `topology.kubernetes.io/region` says it.
    RegionName: is_label else NotALabel;
    /// A Kubernetes namespace.
    Namespace: is_label else NotALabel;
    /// A Kubernetes service, without its namespace.
    ServiceName: is_label else NotALabel;
    /// A Kubernetes service account.
    ServiceAccount: is_dns_name else NotADnsName;
    /// A policy; the first half of a reason.
    PolicyName: is_label else NotALabel;
    /// A rule of a policy; the second half of a reason.
    RuleName: is_label else NotALabel;
    /// An HTTP header, in lower case as HTTP/2 has it.
    HeaderName: is_header else NotAHeader;
    /// A cookie.
    CookieName: is_token else NotACookie;
    /// A key that tokens are signed with, the `kid` of a JWT.
    KeyId: is_key_id else NotAKeyId;
    /// A SPIFFE trust domain.
    TrustDomain: is_dns_name else NotADnsName;
}

impl Namespace {
    /// Istio's own namespace, the root unless a mesh says another.
    pub fn istio_system() -> Self {
        Self("istio-system".to_owned())
    }
}

impl ServiceAccount {
    /// That of the ingress gateway, as Istio installs it.
    pub fn ingress_gateway() -> Self {
        Self("istio-ingressgateway-service-account".to_owned())
    }

    /// That of the egress gateway, as Istio installs it.
    pub fn egress_gateway() -> Self {
        Self("istio-egressgateway-service-account".to_owned())
    }
}

impl MeshName {
    /// What a mesh is called that no one has named.
    pub(crate) fn unnamed() -> Self {
        Self("mesh1".to_owned())
    }

    /// The name of a root CA that signs for this mesh alone.
    pub(crate) fn own_root(&self) -> RootName {
        RootName(self.0.clone())
    }
}

impl TrustDomain {
    /// Istio's trust domain unless a mesh says another.
    pub fn cluster_local() -> Self {
        Self("cluster.local".to_owned())
    }
}

/// The number of a TCP port, which is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port(NonZeroU16);

impl Port {
    /// The highest.
    pub(crate) const MAX: Self = Self(NonZeroU16::MAX);

    /// The port of this number; 0 is none.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The port as a number.
    pub fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for Port {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self).map_err(|_error| NameError::NotAPort(text.to_owned()))
    }
}

/// The host of an authority as rules are written for it: in lower case, without port and trailing dot. `None` when
/// nothing is left.
///
/// ```
/// assert_eq!(policy::name::host_of("Ledger.payments.:8080").as_deref(), Some("ledger.payments"));
/// assert_eq!(policy::name::host_of("[::1]:80").as_deref(), Some("[::1]"));
/// ```
pub fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let host = match (authority.strip_prefix('['), authority.rsplit_once(':')) {
        (Some(_), _) => authority.find(']').and_then(|end| authority.get(..=end))?,
        (None, Some((host, _port))) => host,
        (None, None) => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        None
    } else if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some(Cow::Owned(host.to_ascii_lowercase()))
    } else {
        Some(Cow::Borrowed(host))
    }
}

/// What stands before the first `_.` and behind it. The standard library's search for a text would take the filter
/// four kilobytes.
fn cut(sni: &str) -> Option<(&str, &str)> {
    let at = sni.as_bytes().windows(2).position(|two| two == b"_.")?;
    Some((sni.get(..at)?, sni.get(at + 2..)?))
}

/// A service of a namespace, written `ledger.payments`.
///
/// ```
/// let ledger: policy::name::Service = "ledger.payments".parse()?;
/// assert_eq!(ledger.host(), "ledger.payments.svc.cluster.local");
/// # Ok::<(), policy::name::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The service's own name.
    pub name: ServiceName,
    /// The namespace that it lives in.
    pub namespace: Namespace,
}

impl Service {
    /// The host that Istio knows the service by.
    pub fn host(&self) -> String {
        format!("{self}{SERVICE_SUFFIX}")
    }

    /// Reads a host of the form that [`Service::host`] writes.
    pub fn from_host(host: &str) -> Result<Self, NameError> {
        host.strip_suffix(SERVICE_SUFFIX).ok_or_else(|| NameError::NotAService(host.to_owned()))?.parse()
    }

    /// Reads the `Host` or `:authority` that a client in `namespace` wrote: any of the forms that
    /// Kubernetes DNS completes, in any case, with a port or without.
    pub fn from_authority(authority: &str, namespace: &Namespace) -> Result<Self, NameError> {
        let not_a_service = || NameError::NotAService(authority.to_owned());
        let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let short = host.strip_suffix(SERVICE_SUFFIX).or_else(|| host.strip_suffix(".svc")).unwrap_or(host);
        match short.split_once('.') {
            Some(_) => short.parse().map_err(|_error: NameError| not_a_service()),
            None => Ok(Self {
                name: short.parse().map_err(|_error: NameError| not_a_service())?,
                namespace: namespace.clone(),
            }),
        }
    }

    /// Reads the SNI that Istio's sidecars send, `outbound_.PORT_.SUBSET_.HOST`: the service and its port.
    pub fn from_sni(sni: &str) -> Result<(Self, Port), NameError> {
        let not_a_service = || NameError::NotAService(sni.to_owned());
        let rest = sni.strip_prefix("outbound_.").ok_or_else(not_a_service)?;
        let (port, rest) = cut(rest).ok_or_else(not_a_service)?;
        let (_subset, host) = cut(rest).ok_or_else(not_a_service)?;
        Ok((Self::from_host(&host.to_ascii_lowercase())?, port.parse()?))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.name, self.namespace)
    }
}

impl FromStr for Service {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let not_a_service = || NameError::NotAService(text.to_owned());
        let (name, namespace) = text.split_once('.').ok_or_else(not_a_service)?;
        Ok(Self {
            name: name.parse().map_err(|_error: NameError| not_a_service())?,
            namespace: namespace.parse().map_err(|_error: NameError| not_a_service())?,
        })
    }
}

/// What a certificate of the mesh says of its workload: the SPIFFE id that Istio gives it.
///
/// ```
/// let web: policy::name::Identity = "spiffe://cluster.local/ns/checkout/sa/web".parse()?;
/// assert_eq!(web.namespace.as_str(), "checkout");
/// assert_eq!(web.principal(), "cluster.local/ns/checkout/sa/web");
/// # Ok::<(), policy::name::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The namespace of the workload.
    pub namespace: Namespace,
    /// The service account that the workload runs as.
    pub service_account: ServiceAccount,
}

impl Identity {
    /// The identity as Istio's policies write a principal: without the scheme.
    pub fn principal(&self) -> String {
        let Self { trust_domain, namespace, service_account } = self;
        format!("{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "spiffe://{}", self.principal())
    }
}

impl FromStr for Identity {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let &["spiffe:", "", trust_domain, "ns", namespace, "sa", service_account] = parts.as_slice() else {
            return Err(NameError::NotAnIdentity(text.to_owned()));
        };
        Ok(Self {
            trust_domain: trust_domain.parse()?,
            namespace: namespace.parse()?,
            service_account: service_account.parse()?,
        })
    }
}

#[cfg(test)]
mod tests;
