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
