//! Certificates: one root, an intermediate per cluster, workload leaves; the shape of Istio's own CA tool.
//!
//! The intermediate is what makes a source provable: only the root can sign a name `L=<cluster>`, and path
//! length 0 keeps a cluster from signing another CA, so the issuer of a leaf *is* the cluster it comes from.

mod authority;
mod hierarchy;
mod token;

pub use authority::{Intermediate, KeyKind, Leaf, Root, Validity};
pub use hierarchy::{Hierarchy, Options, Report};
pub use token::TokenKey;

use std::io;
use std::path::PathBuf;

/// Why a certificate could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A key or certificate could not be made.
    #[error("cannot make {what}")]
    Make {
        /// What was being made, for example `intermediate of cluster1`.
        what: String,
        /// What the certificate library said.
        source: rcgen::Error,
    },
    /// The system gave no random bytes for a serial number.
    #[error("no random bytes from the system")]
    Random {
        /// What the system said.
        source: getrandom::Error,
    },
    /// A cluster name cannot be a directory and a certificate name.
    #[error("cluster name {name:?} is not a DNS label")]
    ClusterName {
        /// The name as given.
        name: String,
    },
    /// A file or directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One file of a pair is there and the other is not; making either anew could lose a key.
    #[error("{present} is there but {missing} is not")]
    Incomplete {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A file does not hold a certificate in PEM.
    #[error("{path} holds no certificate in PEM")]
    NotACertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A file does not hold a private key in PEM.
    #[error("{path} holds no private key in PEM that can be used")]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// What the certificate library said.
        source: rcgen::Error,
    },
    /// A private key of another kind.
    #[error(
        "{path} holds no Ed25519 key alone, as `openssl genpkey -algorithm ed25519` writes it: name another with --kid"
    )]
    NotATokenKey {
        /// Which file.
        path: PathBuf,
    },
    /// A certificate is for another key than the one beside it.
    #[error("the key {key} does not belong to the certificate {certificate}")]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key that is not its own.
        key: PathBuf,
    },
    /// An intermediate that exists was not signed by the root that exists.
    #[error("{certificate} is not signed by {root}")]
    ForeignIssuer {
        /// The intermediate.
        certificate: PathBuf,
        /// The root of this hierarchy.
        root: PathBuf,
    },
}
