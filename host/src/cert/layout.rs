//! What the files of a hierarchy are called: as Istio's own tool calls them, and beside them what no cluster can be called.

/// The certificate of a cluster's intermediate.
pub(super) const CERTIFICATE: &str = "ca-cert.pem";
/// Its key.
pub(super) const KEY: &str = "ca-key.pem";
/// A root, or in a cluster's directory the roots that it trusts.
pub(super) const ROOT: &str = "root-cert.pem";
/// The key of a root.
pub(super) const ROOT_KEY: &str = "root-key.pem";
/// What a workload shows beside its own certificate.
pub(super) const CHAIN: &str = "cert-chain.pem";

/// What lies beside a root or a cluster's files while they change, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// What is being made: nothing has trusted or used it.
    Half,
    /// What comes.
    New,
    /// What went.
    Old,
}

impl Aside {
    /// The name of a directory beside what is called `name`.
    pub(super) fn of(self, name: &str) -> String {
        let which = match self {
            Self::Half => "half",
            Self::New => "new",
            Self::Old => "old",
        };
        format!("{name}.{which}")
    }
}
