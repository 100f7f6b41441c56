//! Certificates: one root, an intermediate per cluster, workload leaves; the shape of Istio's own CA tool.
//!
//! The intermediate is what makes a source provable: only the root can sign a name `L=<cluster>`, and path
//! length 0 keeps a cluster from signing another CA, so the issuer of a leaf *is* the cluster it comes from.

mod authority;
mod bundle;
mod certificate;
mod distrust;
mod error;
mod expiry;
mod hierarchy;
mod key;
mod layout;
mod rotate;
mod rotation;
mod secret;
mod store;
mod token;
mod trust;

pub use authority::{Intermediate, KeyKind, Leaf, Root, Validity};
pub use bundle::Bundle;
pub use certificate::{Certificate, Constraints};
pub use distrust::Distrust;
pub use error::{CertError, Flaw};
pub use expiry::{Expiry, Life, expiries};
pub use hierarchy::{Hierarchy, Options, Report, RootFiles};
pub use key::CaKey;
pub use rotate::{LEAF_LIFETIME, Rotation, Signing};
pub use rotation::{Ask, Level, Refusal, Standing, step};
pub use secret::{Form, from_secret, missing_in, secret, write_secret};
pub use token::TokenKey;
pub use trust::{Cell, Side, judge, matrix};
