//! The key that a cluster's sidecars sign tokens with, as a file that OpenSSL reads.

use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding};
use policy::key::PublicKey;
use policy::name::KeyId;
use rcgen::KeyPair;

use super::CertError;
use super::store::{make_dir, read, write_key};

/// What stands before the seed of an Ed25519 key in PKCS#8 (RFC 8410, 7).
const PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A private key with its name.
pub struct TokenKey {
    id: KeyId,
    seed: [u8; 32],
    public: PublicKey,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, public, seed: _ } = self;
        out.debug_struct("TokenKey").field("id", id).field("public", public).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// The key `DIR/ID.pem`, which is made where there is none; with whether it was.
    pub fn ensure(dir: &Path, id: KeyId) -> Result<(Self, bool), CertError> {
        let path = Self::path(dir, &id);
        let there = path.try_exists().map_err(|source| CertError::Read { path: path.clone(), source })?;
        if there {
            return Ok((Self::read(&path, id)?, false));
        }
        let (_, pair) = Self::generate_pair(&id)?;
        make_dir(dir)?;
        write_key(&path, &pair.serialize_pem())?;
        Ok((Self::read(&path, id)?, true))
    }

    /// A new key, which is kept nowhere.
    pub fn generate(id: KeyId) -> Result<Self, CertError> {
        let (seed, pair) = Self::generate_pair(&id)?;
        let make = |_length| CertError::Make {
            what: format!("token key {id}"),
            source: rcgen::Error::CouldNotParseKeyPair,
        };
        let public = pair.public_key_raw().try_into().map_err(make)?;
        Ok(Self { id, seed, public: PublicKey::from_bytes(public) })
    }

    fn generate_pair(id: &KeyId) -> Result<([u8; 32], KeyPair), CertError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|source| CertError::Random { source })?;
        let make = |source| CertError::Make { what: format!("token key {id}"), source };
        let pair = KeyPair::try_from([PREFIX.as_slice(), &seed].concat()).map_err(make)?;
        Ok((seed, pair))
    }

    /// Where a key of this name lies.
    pub fn path(dir: &Path, id: &KeyId) -> PathBuf {
        dir.join(format!("{id}.pem"))
    }

    fn read(path: &Path, id: KeyId) -> Result<Self, CertError> {
        let pair = KeyPair::from_pem(&read(path)?)
            .map_err(|source| CertError::NotAKey { path: path.to_owned(), source })?;
        let not_ours = || CertError::NotATokenKey { path: path.to_owned() };
        let der = pair.serialize_der();
        let seed = der.strip_prefix(&PREFIX).and_then(|seed| seed.try_into().ok()).ok_or_else(not_ours)?;
        let public = pair.public_key_raw().try_into().map_err(|_length| not_ours())?;
        Ok(Self { id, seed, public: PublicKey::from_bytes(public) })
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What its tokens are checked with.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret, as a sidecar reads it from `ISTHMUS_TOKEN_KEY`: `ID:SEED`.
    pub fn secret(&self) -> String {
        format!("{}:{}", self.id, Base64UrlUnpadded::encode_string(&self.seed))
    }
}
