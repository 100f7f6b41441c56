//! The key that a cluster's sidecars sign with.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use policy::key::PublicKey;
use policy::name::KeyId;

/// A private key with its name, read from `ID:SEED`, the seed being 32 bytes in base64url.
pub struct SigningKey {
    pub(super) id: KeyId,
    pub(super) secret: ed25519_dalek::SigningKey,
}

/// A text is not a signing key. What it says is not repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "ISTHMUS_TOKEN_KEY is not a key: it is ID:SEED, the seed being 32 bytes in base64url, as `isthmus mesh token-key` prints it"
)]
pub struct SigningKeyError;

impl SigningKey {
    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What its tokens are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.secret.verifying_key().to_bytes())
    }
}

impl FromStr for SigningKey {
    type Err = SigningKeyError;

    fn from_str(text: &str) -> Result<Self, SigningKeyError> {
        let (id, seed) = text.trim_ascii().split_once(':').ok_or(SigningKeyError)?;
        let mut bytes = [0; 32];
        let decoded = Base64UrlUnpadded::decode(seed, &mut bytes).map_err(|_digits| SigningKeyError)?;
        let seed = decoded.try_into().map_err(|_length| SigningKeyError)?;
        let id = id.parse().map_err(|_name| SigningKeyError)?;
        Ok(Self { id, secret: ed25519_dalek::SigningKey::from_bytes(seed) })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}
