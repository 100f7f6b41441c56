//! Why a token is not believed.

use std::fmt;

use super::LEEWAY;

/// A part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// How it is signed.
    Header,
    /// What it says.
    Claims,
    /// The proof.
    Signature,
}

/// A claim that binds a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// `sub`: who sends it.
    Subject,
    /// `aud`: whom it is for.
    Audience,
}

impl Part {
    /// What it holds.
    fn form(self) -> &'static str {
        match self {
            Self::Header => r#"{"alg":"EdDSA","kid":"...","typ":"JWT"}"#,
            Self::Claims => r#"{"iss":"...","sub":"...","aud":"isthmus:...","iat":...,"exp":...}"#,
            Self::Signature => "64 bytes",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Subject => "sub",
            Self::Audience => "aud",
        })
    }
}

/// Why a token is not believed, in words for the log of the proxy that refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too long to be read.
    #[error("the token has {bytes} bytes, more than the {} that are read", super::LONGEST)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not three parts with dots between.
    #[error("this is not a token: HEADER.CLAIMS.SIGNATURE")]
    Shape,
    /// A part that is not base64url.
    #[error("the token's {part} is not base64url without padding")]
    Encoding {
        /// Which.
        part: Part,
    },
    /// A part that is not what sidecars of isthmus write.
    #[error("the token's {part} is not {}", part.form())]
    Form {
        /// Which.
        part: Part,
    },
    /// Signed by a key that this proxy's plan does not have.
    #[error(
        "the token names key {key:?} of cluster {cluster:?}, which the plan here does not have: list it in tokenKeys, and roll that out before it signs"
    )]
    UnknownKey {
        /// The cluster that it claims.
        cluster: String,
        /// The key that it claims.
        key: String,
    },
    /// Another's token.
    #[error("the token's {claim} is {token:?}, and here only {wanted:?} will do")]
    Differs {
        /// Which claim.
        claim: Claim,
        /// What it says.
        token: String,
        /// What it must say.
        wanted: String,
    },
    /// It ends before it begins.
    #[error("the token ends at {ends} and is issued at {issued}: it never holds")]
    NoLife {
        /// When it was issued.
        issued: u64,
        /// When it ends.
        ends: u64,
    },
    /// Not issued yet.
    #[error(
        "the token is issued {} s in the future by this proxy's clock: at {issued}, and it is {now} here; {LEEWAY} s are allowed: set the clocks",
        issued.saturating_sub(*now)
    )]
    Early {
        /// When it was issued.
        issued: u64,
        /// The time here.
        now: u64,
    },
    /// No longer good.
    #[error(
        "the token ended {} s ago by this proxy's clock: at {ends}, and it is {now} here; {LEEWAY} s are allowed: set the clocks",
        now.saturating_sub(*ends)
    )]
    Late {
        /// When it ended.
        ends: u64,
        /// The time here.
        now: u64,
    },
    /// Not signed by that key.
    #[error("the token's signature is not of the key that it names")]
    Signature,
}
