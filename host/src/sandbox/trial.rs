//! What Envoy does with a plugin in its main thread before a worker has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest as _, Sha256};

use super::connection::{Node, Plugin};
use super::error::{StartError, Trapped};
use super::guest::Guest;
use super::module::Module;
use super::process::Process;

/// The main thread of a process: the plugins that it has, each of which lives as long as a worker that has it too.
#[derive(Debug, Default)]
pub(crate) struct MainThread(Mutex<Vec<Weak<Tried>>>);

/// A plugin that has been tried, and the guest that the main thread keeps for it as a worker does.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Where the code is: the same bytes are the same code.
    code: usize,
    plugin: Arc<Plugin>,
    guest: Mutex<Guest>,
    /// What canaries said of plugins: Envoy asks none twice.
    verdicts: Mutex<BTreeMap<Key, Verdict>>,
}

/// The plugins of a VM that Envoy takes for the same have the same key.
type Key = [u8; 32];

/// What a canary has said, without what it has logged.
#[derive(Debug)]
enum Verdict {
    Taken,
    Refused(&'static str),
    Trapped(Trapped),
}

impl MainThread {
    /// Tries `plugin`, unless that has been done. A canary comes first, and is thrown away without a word to it; then
    /// the main thread gets a guest like every worker. What either of them wrote to `process` stays.
    pub(crate) fn tried(
        &self,
        module: &Module,
        node: &Arc<Node>,
        plugin: &Arc<Plugin>,
        process: &Process,
    ) -> Result<Arc<Tried>, StartError> {
        let mut all = lock(&self.0);
        all.retain(|tried| tried.strong_count() > 0);
        let code = module.linked().module().image_range().start as usize;
        let known = all.iter().filter_map(Weak::upgrade);
        if let Some(tried) = known.into_iter().find(|tried| tried.code == code && tried.plugin == *plugin) {
            return Ok(tried);
        }
        let start = || Guest::start(module.clone(), Arc::clone(node), Arc::clone(plugin), process.clone());
        let canary = start()?;
        let guest = start()?;
        guest.logged_before(canary.take_logs());
        let verdicts = BTreeMap::from([(key(plugin), Verdict::Taken)]).into();
        let tried = Arc::new(Tried { code, plugin: Arc::clone(plugin), guest: guest.into(), verdicts });
        all.push(Arc::downgrade(&tried));
        Ok(tried)
    }
}

impl Tried {
    /// The guest in the main thread.
    pub(crate) fn guest(&self) -> MutexGuard<'_, Guest> {
        lock(&self.guest)
    }

    /// The same, unless it has trapped: then it is of no use to anyone, and nobody there is waiting for it.
    pub(crate) fn living(&self) -> Option<MutexGuard<'_, Guest>> {
        Some(self.guest()).filter(|guest| guest.instance.borrow().alive().is_ok())
    }

    /// What was said of such a plugin before, if anything was. Who is refused again has logged nothing.
    pub(crate) fn known(&self, plugin: &Plugin) -> Option<Result<(), StartError>> {
        let logs = Vec::new();
        Some(match lock(&self.verdicts).get(&key(plugin))? {
            Verdict::Taken => Ok(()),
            Verdict::Refused(callback) => Err(StartError::Refused { callback, logs }),
            Verdict::Trapped(source) => Err(StartError::Trapped { source: source.clone(), logs }),
        })
    }

    pub(crate) fn note(&self, plugin: &Plugin, said: &Result<Guest, StartError>) {
        let verdict = match said {
            Ok(_) => Verdict::Taken,
            Err(StartError::Refused { callback, .. }) => Verdict::Refused(callback),
            Err(StartError::Trapped { source, .. }) => Verdict::Trapped(source.clone()),
            Err(StartError::Unlinked { .. }) => return,
        };
        lock(&self.verdicts).insert(key(plugin), verdict);
    }
}

fn key(plugin: &Plugin) -> Key {
    let mut digest = Sha256::new();
    for part in [plugin.name.as_bytes(), plugin.root_id.as_bytes(), &plugin.configuration] {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
