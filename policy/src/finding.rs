//! What is wrong with a user's files, as data: all of it in one run, each with its place.

use std::fmt;
use std::sync::Arc;

/// Where in a file something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the caller named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters of the line it takes.
    pub width: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Whether a finding stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is compiled while one of these stands.
    Error,
    /// Works, but likely not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// The stable number of a kind of finding. A number is never used again for another kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    /// The file is not YAML, or uses a part of YAML that is not taken.
    Syntax = 1;
    /// A key that means nothing here.
    UnknownKey = 2;
    /// A key that must be there is not.
    MissingKey = 3;
    /// A value of another type than the key takes.
    WrongType = 4;
    /// A value that is not one of those that the key takes.
    BadValue = 5;
    /// A document of another kind or version.
    WrongKind = 6;
    /// A key or name that stands twice.
    Duplicate = 7;
    /// Two clusters of one network whose pods have the same addresses.
    OverlappingPods = 8;
    /// A control plane that is not there: a remote of nothing, or of a remote.
    NoControlPlane = 9;
    /// A network that no other network can enter.
    NoWayIn = 10;
    /// Two clusters whose certificates name the same issuer, so neither can be proven.
    AmbiguousIssuer = 11;
    /// A name that the mesh does not have.
    NotInMesh = 12;
    /// A rule that says neither clusters nor networks.
    NoSource = 13;
    /// A pattern or rule that nothing can match.
    NeverMatches = 14;
    /// A boundary that leaves a service without endpoints.
    EmptyBoundary = 15;
    /// A principal that no certificate of the mesh can carry.
    ForeignPrincipal = 16;
    /// A service that mesh.yaml does not list.
    UnlistedService = 17;
    /// A section that decides nothing.
    NoEffect = 18;
    /// A rule that never decides, since another takes in all that it does.
    Shadowed = 19;
    /// An allow rule all of whose requests are denied.
    Emptied = 20;
    /// A service hidden from those that are sent to it.
    HiddenAndPinned = 21;
    /// The weights of a split that are no shares of a whole.
    Weights = 22;
    /// A cluster that requests are sent to and that does not run the service.
    NotServed = 23;
    /// A part of a plan that no API server would store.
    Oversized = 24;
    /// Two meshes that share a root and not a trust domain, or the reverse.
    MixedTrust = 25;
    /// A gateway between clusters of one network.
    IdleGateway = 26;
    /// An address that other clusters cannot reach.
    UnreachableAddress = 27;
    /// An address that two clusters have.
    SharedAddress = 28;
    /// A region asked for where clusters have none.
    NoRegion = 29;
    /// Two policies of which only one can hold.
    Conflict = 30;
    /// A source that is to be proven where no proxy can.
    NotProvable = 31;
    /// An order of clusters that Istio has no setting for.
    UnkeptOrder = 32;
    /// Routing for services of which nobody says that they are there.
    Unrouted = 33;
    /// A key that two clusters sign tokens with, so that a token proves neither.
    SharedKey = 34;
    /// A cluster whose sidecars sign no tokens while others do.
    NoTokenKey = 35;
    /// A `TrafficExtension` where no Istio is said that reads one.
    UnreadExtension = 36;
}

impl Code {
    /// How grave a finding of this code is.
    pub fn severity(self) -> Severity {
        match self {
            Self::EmptyBoundary
            | Self::UnlistedService
            | Self::NoEffect
            | Self::Shadowed
            | Self::Emptied
            | Self::IdleGateway
            | Self::UnreachableAddress
            | Self::NoRegion
            | Self::NotProvable
            | Self::UnkeptOrder
            | Self::Unrouted
            | Self::NoTokenKey => Severity::Warning,
            Self::Syntax
            | Self::UnknownKey
            | Self::MissingKey
            | Self::WrongType
            | Self::BadValue
            | Self::WrongKind
            | Self::Duplicate
            | Self::OverlappingPods
            | Self::NoControlPlane
            | Self::NoWayIn
            | Self::AmbiguousIssuer
            | Self::NotInMesh
            | Self::NoSource
            | Self::NeverMatches
            | Self::ForeignPrincipal
            | Self::HiddenAndPinned
            | Self::Weights
            | Self::NotServed
            | Self::Oversized
            | Self::MixedTrust
            | Self::SharedAddress
            | Self::SharedKey
            | Self::UnreadExtension
            | Self::Conflict => Severity::Error,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ISM{:03}", *self as u8)
    }
}

/// One mistake of a user: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where it stands.
    pub at: Place,
    /// What kind it is.
    pub code: Code,
    /// What is wrong, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, code, message, hint: _ } = self;
        write!(out, "{at}: {}[{code}]: {message}", code.severity())
    }
}

/// Whether any of the findings stands in the way.
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.code.severity() == Severity::Error)
}
