//! The keys of tokens, and who lacks one.

use std::collections::BTreeMap;

use super::Draft;
use crate::document::{Fields, Located};
use crate::finding::{Code, Finding, Place};
use crate::key::PublicKey;
use crate::mesh::Life;
use crate::name::KeyId;

/// A key with the places that findings about it point at.
struct TokenKey {
    id: Located<KeyId>,
    public: Located<PublicKey>,
}

/// What a cluster says of its keys.
pub(super) struct TokenKeys {
    at: Place,
    /// How many it lists; those that could not be read are findings, and not missing.
    listed: usize,
    read: Vec<TokenKey>,
}

/// For how long tokens hold; they are wanted even where that cannot be read.
pub(super) fn life(mut fields: Fields<'_>) -> Option<Life> {
    let life = fields.optional_value::<Life>("life");
    fields.close();
    Some(life.map_or_else(Life::default, |life| life.value))
}

/// The keys of a cluster; `None` where nothing is said of any.
pub(super) fn keys(fields: &mut Fields<'_>) -> Option<TokenKeys> {
    let list = fields.optional_list("tokenKeys")?;
    let (listed, mut read) = (list.value.len(), Vec::new());
    for node in list.value {
        let Some(mut key) = Fields::open(node, "tokenKey", fields.findings()) else { continue };
        let id = key.required_value::<KeyId>("kid");
        let public = key.required_value::<PublicKey>("publicKey");
        key.close();
        read.extend(id.zip(public).map(|(id, public)| TokenKey { id, public }));
    }
    Some(TokenKeys { at: list.at, listed, read })
}

pub(super) fn by_name(keys: Option<&TokenKeys>) -> BTreeMap<KeyId, PublicKey> {
    let keys = keys.into_iter().flat_map(|keys| &keys.read);
    keys.map(|key| (key.id.value.clone(), key.public.value)).collect()
}

/// Checks the keys of all clusters against each other; `wanted`: tokens are to be signed.
pub(super) fn check(wanted: bool, drafts: &[Draft], findings: &mut Vec<Finding>) {
    let mut ids: BTreeMap<&KeyId, &Place> = BTreeMap::new();
    let mut owners: BTreeMap<PublicKey, &Draft> = BTreeMap::new();
    for draft in drafts {
        for TokenKey { id, public } in draft.token_keys.iter().flat_map(|keys| &keys.read) {
            let first = *ids.entry(&id.value).or_insert(&id.at);
            if first != &id.at {
                findings.push(Finding {
                    at: id.at.clone(),
                    code: Code::Duplicate,
                    message: format!("key {:?} stands twice", id.value.as_str()),
                    hint: format!(
                        "the first is in line {}; a name is one key's in the whole mesh",
                        first.line
                    ),
                });
            }
            let owner = *owners.entry(public.value).or_insert(draft);
            if owner.name.at != draft.name.at {
                findings.push(Finding {
                    at: public.at.clone(),
                    code: Code::SharedKey,
                    message: format!(
                        "{} and {} sign with one key, {:?}",
                        owner.name.value,
                        draft.name.value,
                        id.value.as_str()
                    ),
                    hint: "whoever signs with it could be either: make a key for each with `isthmus mesh token-key`"
                        .to_owned(),
                });
            }
        }
        findings.extend(lacking(wanted, draft));
    }
}

/// A cluster whose keys, or the lack of them, mean something else than was said for the mesh.
fn lacking(wanted: bool, draft: &Draft) -> Option<Finding> {
    let name = &draft.name.value;
    match &draft.token_keys {
        Some(keys) if !wanted => Some(Finding {
            at: keys.at.clone(),
            code: Code::NoEffect,
            message: format!("{name} has keys for tokens, and this mesh has no tokens"),
            hint: "say tokens: {life: 5m} in the spec of the mesh, or leave tokenKeys out".to_owned(),
        }),
        keys if wanted && keys.as_ref().is_none_or(|keys| keys.listed == 0) => Some(Finding {
            at: draft.name.at.clone(),
            code: Code::NoTokenKey,
            message: format!("{name} has no key, so no token can prove that a request comes from it"),
            hint: format!(
                "make one with `isthmus mesh token-key --cluster {name}`, and list it under tokenKeys"
            ),
        }),
        Some(_) | None => None,
    }
}
