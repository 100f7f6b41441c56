//! Marks on connections, so that a peer that was read once need not be asked for again.
//!
//! To read any attribute costs Envoy a call back into the module, for memory to write to; to ask whether an empty value is
//! there does not, and costs a fifth. So a connection whose peer was read gets an empty value into its filter state, under a
//! name that stands for that peer. Which name to ask for, the request's `x-forwarded-client-cert` says. That is a
//! guess and nothing more: in an Envoy that forwards the header unchanged, a peer may write there what it likes, and
//! then asks for a mark that its own connection does not have.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use policy::map::Map;
use policy::source::Source;

use crate::caller::Caller;
use crate::host::Host;

/// So many callers have a name of a mark, each for as long as the configuration holds: a name that changed hands
/// would give one peer's connections to another. Further ones are asked for by the number of their connection.
const NAMES: usize = 256;

/// The names of the filter state that say the source of a connection.
const SOURCE: [&str; 2] = ["isthmus.source_cluster", "isthmus.source_level"];

/// The callers that have a mark.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Names that no configuration before this one has used.
    prefix: u64,
    /// How many names may last as long as a connection.
    declared: Cell<usize>,
    by_digest: RefCell<Map<Box<[u8]>, Vec<Marked>>>,
    used: Cell<usize>,
}

#[derive(Debug)]
struct Marked {
    name: Box<str>,
    caller: Rc<Caller>,
}

impl Marks {
    pub(crate) fn new(host: &impl Host) -> Self {
        let used = Cell::default();
        Self { prefix: host.now(), declared: Cell::default(), by_digest: RefCell::default(), used }
    }

    /// Declares all names; each plugin must, of those that it writes.
    pub(crate) fn declare(&self, host: &impl Host) {
        SOURCE.iter().for_each(|name| _ = host.declare_lasting(name));
        let lasting = |number: &usize| host.declare_lasting(&name(self.prefix, *number));
        self.declared.set((0..NAMES).take_while(lasting).count());
    }

    /// The caller of this connection, if it is marked as one of those that showed this certificate.
    pub(crate) fn find(&self, digest: &[u8], host: &impl Host) -> Option<Rc<Caller>> {
        let known = self.by_digest.try_borrow().ok()?;
        let marked = known.get(digest)?.iter().find(|marked| host.has_mark(&marked.name))?;
        Some(Rc::clone(&marked.caller))
    }

    /// Marks this connection as one of a caller.
    pub(crate) fn set(&self, digest: &[u8], caller: &Rc<Caller>, host: &impl Host) {
        let Ok(mut known) = self.by_digest.try_borrow_mut() else { return };
        let alike = |marked: &&Marked| marked.caller.port == caller.port;
        if let Some(marked) = known.get(digest).and_then(|all| all.iter().find(alike)) {
            host.set_state(&marked.name, "");
        } else if self.used.get() < self.declared.get() {
            let name = name(self.prefix, self.used.get()).into_boxed_str();
            self.used.set(self.used.get() + 1);
            host.set_state(&name, "");
            let marked = Marked { name, caller: Rc::clone(caller) };
            match known.get_mut(digest) {
                Some(all) => all.push(marked),
                None => drop(known.insert(digest.into(), vec![marked])),
            }
        }
    }

    /// Says the source of this connection in its filter state, for the access log of each of its requests.
    pub(crate) fn tell(&self, source: Source<'_>, host: &impl Host) {
        let [cluster, level] = SOURCE;
        if let Source::Verified(location, _) = source {
            host.set_state(cluster, location.name.as_str());
        }
        host.set_state(level, source.level());
    }
}

fn name(prefix: u64, number: usize) -> String {
    format!("isthmus.peer.{prefix:x}.{number}")
}

/// The hash that the last element of `x-forwarded-client-cert` gives: that of this peer's certificate, where Envoy has
/// written it.
pub(crate) fn hash(xfcc: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"Hash=";
    const LENGTH: usize = 64;
    let at = xfcc.windows(KEY.len()).rposition(|window| window == KEY)?;
    xfcc.get(at + KEY.len()..)?.get(..LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hash_counts() {
        let [one, two] = ["a", "b"].map(|digit| digit.repeat(64));
        let element = |hash: &str| format!("By=spiffe://x;Hash={hash};Subject=\"O=lab\";URI=spiffe://y");
        assert_eq!(hash(element(&one).as_bytes()), Some(one.as_bytes()));
        assert_eq!(hash(format!("{},{}", element(&one), element(&two)).as_bytes()), Some(two.as_bytes()));
        for none in ["", "Hash=", "Hash=abc", "By=x;URI=y"] {
            assert_eq!(hash(none.as_bytes()), None, "{none}");
        }
    }
}
