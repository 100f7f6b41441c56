//! Why certificates cannot be made, read, written or changed. No error holds a key's text.

use std::io;
use std::path::PathBuf;

use super::distrust::Distrust;

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
    /// A certificate that nothing can be signed by.
    #[error("{path} holds no certificate of a CA that can sign")]
    NotASigner {
        /// Which file.
        path: PathBuf,
        /// What the certificate library said.
        source: rcgen::Error,
    },
    /// A file does not hold a private key in PEM.
    #[error("{path} holds no private key in PEM that can be used")]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// What the certificate library said.
        source: rcgen::Error,
    },
    /// A private key that only a password opens.
    #[error(
        "{path} is encrypted, and nobody is asked for its password here: `openssl pkey -in FILE -out PLAIN` decrypts it; name PLAIN, in a \
         directory that only you can read, and remove it when all is signed"
    )]
    Encrypted {
        /// Which file.
        path: PathBuf,
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
    /// A file is not what istiod would use.
    #[error("{path} cannot be used")]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Flaw,
    },
    /// The directory has another root than the one that is given.
    #[error(
        "{path} is another root: `isthmus mesh rotate root --root-cert FILE` changes it without breaking trust"
    )]
    OtherRoot {
        /// The root that is there.
        path: PathBuf,
    },
    /// A change of a cluster's files was cut short.
    #[error(
        "{path} was left half done: `isthmus mesh rotate intermediate {cluster}` or `rotate root` ends it"
    )]
    HalfDone {
        /// What was left.
        path: PathBuf,
        /// Whose it is.
        cluster: String,
    },
    /// What was replaced before is still kept.
    #[error("{path} is still kept from the change before: remove it with --drop, once nobody needs it")]
    Kept {
        /// What is kept.
        path: PathBuf,
    },
    /// A new intermediate would have to be made in the middle of a rotation.
    #[error(
        "{cluster} has no intermediate, and a rotation of the root is under way: end it first, \
         `isthmus mesh rotate root --status` says how far it is"
    )]
    InRotation {
        /// Which cluster.
        cluster: String,
    },
    /// What is signed by the root needs its key.
    #[error("{path} is not there, and it has to sign: name the root's key with --root-key")]
    NoRootKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The files of a cluster fit no step of a rotation.
    #[error(
        "{path} fits no step of the rotation: its root-cert.pem must hold the old root, the new one or both, and one of them must have signed it"
    )]
    OffTrack {
        /// The cluster's directory.
        path: PathBuf,
    },
    /// A change would have one cluster refuse another.
    #[error("{to} would not accept the workloads of {from}, so nothing was changed")]
    BreaksTrust {
        /// Whose workloads.
        from: String,
        /// Who refuses.
        to: String,
        /// Why.
        source: Distrust,
    },
}

/// What is wrong with a certificate, a key or a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A root's file with several certificates.
    #[error("it holds {0} certificates: a root's file has one")]
    Several(usize),
    /// A certificate that is signed by another.
    #[error("it is no root: it is signed by another CA")]
    NotRoot,
    /// Not a CA.
    #[error("it is no CA (basicConstraints)")]
    NotAuthority,
    /// A CA that may not sign certificates.
    #[error("its key usage lets it sign no certificates (keyCertSign)")]
    NoCertSign,
    /// A root below which no CA may stand.
    #[error("its path length is 0: no intermediate may stand below it")]
    PathLength,
    /// A new root with the key of the old one.
    #[error("it has the key of the root that it is to replace")]
    SameKey,
    /// A key that istiod does not read.
    #[error(
        "its first block is no key: istiod reads that alone, as PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY"
    )]
    KeyForm,
    /// A chain that begins with something else.
    #[error("it does not begin with the certificate of ca-cert.pem")]
    ChainBegins,
    /// A chain that does not hold, or not now.
    #[error("{0}")]
    Distrust(Distrust),
}
