//! What the host keeps for a VM: the store's data.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, StoreLimits, TypedFunc};

use super::abi::{Abi, Restriction};
use super::connection::{Node, Plugin};
use super::context::{Context, Root};
use super::functions::Functions;
use super::log::{Level, LogLine};
use super::metrics::Metrics;
use super::outcome::LocalReply;
use super::process::Process;
use super::random::Random;
use super::shown::Shown;
use super::stream::{Http, L4, Stream};
use super::trace::Recorder;

/// Everything the hostcalls of a VM work on.
pub(crate) struct State {
    pub(crate) memory: Option<Memory>,
    pub(crate) malloc: Option<Arc<TypedFunc<u32, u32>>>,
    pub(crate) limits: StoreLimits,
    pub(crate) abi: Abi,
    pub(crate) node: Arc<Node>,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) random: Random,
    /// Nanoseconds and more since the Unix epoch, as the test says.
    pub(crate) now: Duration,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) log_level: Level,
    pub(crate) metrics: Metrics,
    pub(crate) process: Process,
    /// The VM's number in its process.
    pub(crate) vm: u64,
    pub(crate) vm_id: String,
    /// How many callouts of each kind were made.
    pub(crate) callouts_made: [u32; 3],
    pub(crate) contexts: BTreeMap<u32, Context>,
    last_context: u32,
    /// How many contexts there were before this guest, which numbers its own from 1.
    pub(crate) before: u32,
    /// The streams of a guest that trapped, and whose place another has taken.
    pub(crate) dead: BTreeSet<u32>,
    /// What the test lets the guest call by name.
    pub(crate) functions: Functions,
    /// What the plugin may import and export; empty is everything.
    capabilities: BTreeSet<String>,
    /// The context of the callback that runs; 0 is the VM itself.
    pub(crate) current: u32,
    /// The context the guest chose to act for, until the callback ends; 0 is none.
    pub(crate) effective: u32,
    /// The root whose configuration can be read now.
    pub(crate) configuring: Option<u32>,
    pub(crate) restriction: Restriction,
    /// How the allocator has trapped in the callback that runs, which is the guest's last.
    pub(crate) fallen: Option<wasmtime::Error>,
    /// A local reply was sent in the callback that runs, for any stream: its verdict is then a stop.
    pub(crate) stopped: bool,
    /// Notes what callbacks do, if the test wants that.
    pub(crate) recorder: Option<RefCell<Recorder>>,
    /// What hostcalls asked for, to be done when the callback has returned.
    pub(crate) deferred: VecDeque<(u32, Deferred)>,
    /// Where what a guest is handed is put together.
    pub(crate) buffer: Vec<u8>,
}

/// What Envoy does only when the guest has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Reply(LocalReply),
    DeleteRoot,
    Steer(Steer),
}

/// What a filter can do to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steer {
    ContinueRequest,
    ContinueResponse,
    ContinueConnection,
    Reset,
    Close,
}

impl State {
    pub(crate) fn new(abi: Abi, node: Arc<Node>, plugin: &Plugin, process: Process) -> Self {
        Self {
            memory: None,
            malloc: None,
            limits: StoreLimits::default(),
            abi,
            node,
            vm_configuration: plugin.vm_configuration.clone(),
            environment: plugin.environment.clone(),
            random: Random::default(),
            now: Duration::ZERO,
            logs: Vec::new(),
            log_level: Level::Info,
            metrics: Metrics::default(),
            vm: process.next_vm(),
            vm_id: plugin.vm_id.clone(),
            process,
            callouts_made: [0; 3],
            contexts: BTreeMap::new(),
            last_context: 0,
            before: 0,
            dead: BTreeSet::new(),
            functions: Functions::default(),
            capabilities: plugin.capabilities.clone(),
            current: 0,
            effective: 0,
            configuring: None,
            restriction: Restriction::None,
            fallen: None,
            stopped: false,
            recorder: None,
            deferred: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn record(&self, note: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = &self.recorder {
            note(&mut recorder.borrow_mut());
        }
    }

    /// Whether the plugin may not have the callback `name`. Only those of the ABI are asked for.
    pub(crate) fn denies(&self, name: &str) -> bool {
        name.starts_with("proxy_") && !self.capabilities.is_empty() && !self.capabilities.contains(name)
    }

    /// Numbers contexts on from those of `before`, which the guest does not learn.
    pub(crate) fn number_after(&mut self, before: &Self) {
        self.last_context = before.last_context;
        self.before = before.last_context;
    }

    /// Registers `context` under the next id.
    pub(crate) fn insert(&mut self, context: Context) -> u32 {
        self.last_context += 1;
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    /// The context a hostcall acts for.
    pub(crate) fn context_id(&self) -> u32 {
        if self.effective == 0 { self.current } else { self.effective }
    }

    pub(crate) fn root_id(&self) -> u32 {
        let id = self.context_id();
        self.stream_of(id).map_or(id, |stream| stream.root)
    }

    /// The configuration that the context `id` has read last.
    pub(crate) fn shown(&self, id: u32) -> &[u8] {
        let (shown, root) = match self.contexts.get(&id) {
            Some(Context::Root(root)) => (root.shown, Some(root)),
            Some(Context::Stream(stream)) => (stream.shown, None),
            None => (Shown::Nothing, None),
        };
        match shown {
            Shown::Nothing => &[],
            Shown::Vm => &self.vm_configuration,
            Shown::Plugin => root.map(|root| root.plugin.configuration.as_slice()).unwrap_or_default(),
        }
    }

    pub(crate) fn show(&mut self, id: u32, shown: Shown) {
        match self.contexts.get_mut(&id) {
            Some(Context::Root(root)) => root.shown = shown,
            Some(Context::Stream(stream)) => stream.shown = shown,
            None => {}
        }
    }

    pub(crate) fn root(&self, id: u32) -> Option<&Root> {
        match self.contexts.get(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(crate) fn root_mut(&mut self, id: u32) -> Option<&mut Root> {
        match self.contexts.get_mut(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(crate) fn stream_of(&self, id: u32) -> Option<&Stream> {
        match self.contexts.get(&id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    pub(crate) fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        match self.contexts.get_mut(&id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    pub(crate) fn http(&self, id: u32) -> Option<&Http> {
        self.stream_of(id)?.http()
    }

    pub(crate) fn http_mut(&mut self, id: u32) -> Option<&mut Http> {
        self.stream_mut(id)?.http_mut()
    }

    pub(crate) fn l4(&self, id: u32) -> Option<&L4> {
        self.stream_of(id)?.l4()
    }

    pub(crate) fn l4_mut(&mut self, id: u32) -> Option<&mut L4> {
        self.stream_mut(id)?.l4_mut()
    }

    /// Takes over what outlives a guest that has trapped: its streams, which fail, and what it logged.
    pub(crate) fn outlive(&mut self, dead: &mut Self) {
        let logged = std::mem::replace(&mut self.logs, std::mem::take(&mut dead.logs));
        self.logs.extend(logged);
        self.log_level = dead.log_level;
        self.recorder = dead.recorder.take();
        let contexts = std::mem::take(&mut dead.contexts);
        for (id, context) in contexts {
            if matches!(context, Context::Stream(_)) {
                self.dead.insert(id);
                self.contexts.insert(id, context);
            }
        }
    }
}
