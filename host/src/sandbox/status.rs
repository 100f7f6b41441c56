//! What a hostcall answers.

/// The status codes of the ABI that this host uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    /// Only ever seen as the status of a callout.
    BrokenConnection = 11,
    Unimplemented = 12,
}

/// Why a hostcall did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The guest is told, and runs on.
    Status(Status),
    /// The guest stops here.
    Trap(wasmtime::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}
