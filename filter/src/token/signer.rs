//! Tokens for what leaves, each signed once and then kept.

use std::cell::RefCell;
use std::rc::Rc;

use policy::map::Map;
use policy::name::{ClusterName, Identity, Namespace};

use super::{Claims, SigningKey, sign};

/// Tokens for more namespaces than this are not kept at once; then all are forgotten and signed again.
const KEPT: usize = 1024;

/// Signs for one workload.
///
/// The times of issue are the multiples of half a token's life. So all sidecars of a workload that hold one key send
/// the same token at the same time, and who checks it checks it once; and what is sent holds for half its life yet.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    cluster: ClusterName,
    identity: Identity,
    life: u64,
    kept: RefCell<Map<Namespace, Kept>>,
}

#[derive(Debug)]
struct Kept {
    issued: u64,
    token: Rc<str>,
}

impl Signer {
    /// Signs for a workload of a cluster; `life` is in seconds.
    pub fn new(key: SigningKey, cluster: ClusterName, identity: Identity, life: u32) -> Self {
        Self { key, cluster, identity, life: u64::from(life), kept: RefCell::default() }
    }

    /// The token for requests to a namespace; `now` is in seconds since 1970.
    pub fn token(&self, to: &Namespace, now: u64) -> Rc<str> {
        let issued = now - now % (self.life / 2).max(1);
        if let Ok(kept) = self.kept.try_borrow()
            && let Some(kept) = kept.get(to)
            && kept.issued == issued
        {
            return Rc::clone(&kept.token);
        }
        let (cluster, subject) = (&self.cluster, &self.identity);
        let ends = issued.saturating_add(self.life);
        let claims = Claims { cluster, subject, audience: to, issued, ends };
        let token: Rc<str> = sign(&self.key, &claims).into();
        if let Ok(mut kept) = self.kept.try_borrow_mut() {
            if kept.len() >= KEPT && kept.get(to).is_none() {
                kept.clear();
            }
            kept.insert(to.clone(), Kept { issued, token: Rc::clone(&token) });
        }
        token
    }

    /// How many tokens are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.borrow().len()
    }
}
