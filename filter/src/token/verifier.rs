//! Tokens of what arrives, each checked once and then remembered.

use std::cell::RefCell;
use std::rc::Rc;

use policy::name::{Identity, Namespace};
use policy::plan::TokenKeys;

use super::{Expected, TokenError, Verified, verify};

/// More tokens than this are not remembered at once.
const REMEMBERED: usize = 2048;
/// Nor more than this of one peer and cluster: an honest one sends two while the time of issue changes, and some more
/// by clocks that differ. So whoever holds a key cannot make others be forgotten.
const EACH: usize = 4;

/// Checks tokens for one workload.
#[derive(Debug)]
pub struct Verifier {
    keys: TokenKeys,
    audience: Namespace,
    /// By their bytes. What was refused is not here: nothing is gained by remembering what anyone can make.
    known: RefCell<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    token: Box<[u8]>,
    verified: Rc<Verified>,
}

impl Verifier {
    /// Checks what is sent to the workloads of a namespace.
    pub fn new(keys: TokenKeys, audience: Namespace) -> Self {
        Self { keys, audience, known: RefCell::default() }
    }

    /// What a token proves of a peer; `now` is in seconds since 1970.
    pub fn verify(&self, token: &[u8], peer: &Identity, now: u64) -> Result<Rc<Verified>, TokenError> {
        if let Some(known) = self.known(token).filter(|known| known.peer == *peer) {
            return known.holds(now).map(|()| known);
        }
        let expected = Expected { peer, audience: &self.audience, now };
        let verified = Rc::new(verify(token, &self.keys, &expected)?);
        if let Ok(mut known) = self.known.try_borrow_mut() {
            make_room(&mut known, &verified, now);
            if let Err(place) = search(&known, token) {
                known.insert(place, Known { token: token.into(), verified: Rc::clone(&verified) });
            }
        }
        Ok(verified)
    }

    fn known(&self, token: &[u8]) -> Option<Rc<Verified>> {
        let known = self.known.try_borrow().ok()?;
        let found = known.get(search(&known, token).ok()?)?;
        Some(Rc::clone(&found.verified))
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.known.borrow().len()
    }
}

fn search(known: &[Known], token: &[u8]) -> Result<usize, usize> {
    known.binary_search_by(|known| known.token.as_ref().cmp(token))
}

/// Makes room for one more: of the same peer and cluster what ends first goes; among all, what no longer holds, or
/// else what ends first.
fn make_room(known: &mut Vec<Known>, new: &Verified, now: u64) {
    let alike = |other: &Known| other.verified.peer == new.peer && other.verified.cluster == new.cluster;
    if known.iter().filter(|other| alike(other)).count() >= EACH {
        forget_first(known, alike);
    } else if known.len() >= REMEMBERED {
        known.retain(|other| other.verified.holds(now).is_ok());
        if known.len() >= REMEMBERED {
            forget_first(known, |_| true);
        }
    }
}

fn forget_first(known: &mut Vec<Known>, of: impl Fn(&Known) -> bool) {
    let some = known.iter().enumerate().filter(|(_, other)| of(other));
    if let Some((place, _)) = some.min_by_key(|(_, other)| other.verified.ends) {
        known.remove(place);
    }
}
