//! A running guest: every call into it, and what Envoy does after each.

mod end;
mod event;
mod failing;
mod http;
mod l4;

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::{FrameInfo, Store, StoreLimitsBuilder, WasmBacktrace, WasmResults};

use super::abi::Restriction;
use super::callout::Callouts;
use super::connection::Plugin;
use super::context::{Context, Life, Root};
use super::error::{Trap, Trapped};
use super::exports::{Export, Exports, Parameters, Which};
use super::expression::Expressions;
use super::failure::FailurePolicy;
use super::log::LogLine;
use super::message::Side;
use super::module::{ALLOCATORS, Module, TABLE_LIMIT};
use super::shown::Shown;
use super::state::{Deferred, State, Steer};
use super::stream::Held;

/// A guest and the host's state for it.
pub(crate) struct Instance {
    store: Store<State>,
    exports: Exports,
    fuel: u64,
    failed: Option<Trapped>,
    /// Whether the test is told of traps, and not Envoy's streams.
    pub(crate) reports: bool,
}

/// Why a root context did not start.
#[derive(Debug)]
pub(crate) enum RootFault {
    Refused(&'static str),
    Trapped(Trapped),
}

impl From<Trapped> for RootFault {
    fn from(trapped: Trapped) -> Self {
        Self::Trapped(trapped)
    }
}

impl Instance {
    /// Instantiates `module` and lets it initialize itself; on a trap, what it logged comes along.
    pub(crate) fn new(module: &Module, state: State) -> Result<Self, (Trapped, Vec<LogLine>)> {
        let linked = module.linked();
        let fuel = module.fuel();
        let mut store = Store::new(linked.module().engine(), state);
        store.data_mut().functions = module.functions().clone();
        store.data_mut().limits =
            StoreLimitsBuilder::new().memory_size(module.memory_limit()).table_elements(TABLE_LIMIT).build();
        store.limiter(|state| &mut state.limits);
        store.data_mut().restriction = Restriction::Starting;
        let exports = store
            .set_fuel(fuel)
            .and_then(|()| linked.instantiate(&mut store))
            .and_then(|instance| find_exports(&instance, &mut store));
        match exports {
            Ok(exports) => {
                let mut guest = Self { store, exports, fuel, failed: None, reports: false };
                guest.initialize().map_err(|trapped| (trapped, guest.take_logs()))?;
                guest.state_mut().restriction = Restriction::None;
                Ok(guest)
            }
            Err(error) => {
                Err((trapped("instantiation", &error, fuel), std::mem::take(&mut store.data_mut().logs)))
            }
        }
    }

    pub(crate) fn state(&self) -> &State {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// The size of the guest's memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.state().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    pub(crate) fn take_logs(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.state_mut().logs)
    }

    /// The trap that ended this guest, if one did.
    pub(crate) fn alive(&self) -> Result<(), Trapped> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Whether the guest has this callback.
    pub(crate) fn has<P, R>(&self, export: Which<P, R>) -> bool {
        export(&self.exports).func.is_some()
    }

    /// Creates a root context for `plugin`, starts and configures it.
    pub(crate) fn start_root(&mut self, plugin: Arc<Plugin>) -> Result<u32, RootFault> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (vm_size, size) = (size(&self.state().vm_configuration), size(&plugin.configuration));
        self.reports |= plugin.failure_policy == FailurePolicy::Report;
        let root = Root {
            plugin,
            life: Life::Serving,
            tick_period: std::time::Duration::ZERO,
            next_tick: None,
            callouts: Callouts::default(),
            declared: HashMap::new(),
            expressions: Expressions::default(),
            shown: Shown::Nothing,
        };
        let id = self.state_mut().insert(Context::Root(Box::new(root)));
        // What is configured can be read when its context is made, then not before `on_configure`.
        self.state_mut().configuring = Some(id);
        let created = self.callback(id, |exports| &exports.on_context_create, (id, 0));
        self.state_mut().configuring = None;
        created?;
        let started = self.callback(id, |exports| &exports.on_vm_start, (id, vm_size))?;
        if started == Some(0) {
            return Err(self.refuse_root(id, |exports| &exports.on_vm_start));
        }
        self.state_mut().configuring = Some(id);
        let configured = self.call(id, |exports| &exports.on_configure, (id, size));
        self.state_mut().configuring = None;
        let configured = configured?;
        self.settle()?;
        if configured == Some(0) {
            return Err(self.refuse_root(id, |exports| &exports.on_configure));
        }
        Ok(id)
    }

    /// Takes no new streams from now on, and ends after the last.
    pub(crate) fn drain_root(&mut self, id: u32) -> Result<(), Trapped> {
        if let Some(root) = self.state_mut().root_mut(id) {
            root.life = Life::Draining;
        }
        self.end_drained_root(id)
    }

    /// Ends a root that drains, if it has no stream left.
    pub(crate) fn end_drained_root(&mut self, id: u32) -> Result<(), Trapped> {
        let state = self.state();
        let busy =
            || state.contexts.keys().any(|of| state.stream_of(*of).is_some_and(|stream| stream.root == id));
        match state.root(id).map(|root| root.life) {
            Some(Life::Draining) if !busy() => self.end_root(id),
            Some(Life::Serving | Life::Draining | Life::Ending) | None => Ok(()),
        }
    }

    /// Runs a callback that answers with an action, and does what hostcalls asked for meanwhile. Without the
    /// callback the answer is 0, continue; after a local reply it is beyond every action, the strongest stop.
    pub(crate) fn answer<P: Parameters>(
        &mut self,
        id: u32,
        export: Which<P, u32>,
        params: P,
    ) -> Result<u32, Trapped> {
        self.state_mut().stopped = false;
        let answer = match self.call(id, export, params) {
            Ok(None) => 0,
            // A connection has no local reply, and does not stop for one.
            Ok(Some(_)) if self.state().stopped && self.state().l4(id).is_none() => u32::MAX,
            Ok(Some(answer)) => answer,
            Err(trapped) => self.fail(id, trapped)?,
        };
        self.state_mut().stopped = false;
        self.settle()?;
        Ok(answer)
    }

    /// Runs a callback, and does what hostcalls asked for meanwhile.
    pub(crate) fn callback<P: Parameters, R: WasmResults>(
        &mut self,
        id: u32,
        export: Which<P, R>,
        params: P,
    ) -> Result<Option<R>, Trapped> {
        let answer = match self.call(id, export, params) {
            Err(trapped) if self.policy(id) == FailurePolicy::Report => return Err(trapped),
            answer => answer.unwrap_or_default(),
        };
        self.settle()?;
        Ok(answer)
    }

    /// Runs a callback for the context `id`, if the guest exports it. A trap is the end of this guest.
    pub(crate) fn call<P: Parameters, R: WasmResults>(
        &mut self,
        id: u32,
        export: Which<P, R>,
        params: P,
    ) -> Result<Option<R>, Trapped> {
        self.alive()?;
        let export = export(&self.exports);
        let state = self.store.data_mut();
        if !state.dead.is_empty() && state.dead.contains(&id) {
            return Err(Trapped { callback: export.name, cause: Trap::Earlier, frames: Box::default() });
        }
        let Some(func) = &export.func else { return Ok(None) };
        let before = (state.current, state.effective);
        (state.current, state.effective) = (id, 0);
        let params = params.after(state.before);
        state.record(|recorder| recorder.enter(export.name, id.after(state.before)));
        let result = self.store.set_fuel(self.fuel).and_then(|()| func.call(&mut self.store, params));
        let state = self.store.data_mut();
        let fallen = state.fallen.take();
        (state.current, state.effective) = before;
        if state.recorder.is_some() {
            self.record_cost();
        }
        result.and_then(|answer| fallen.map_or(Ok(answer), Err)).map(Some).map_err(|error| {
            let trapped = trapped(export.name, &error, self.fuel);
            self.failed = Some(trapped.clone());
            trapped
        })
    }

    fn record_cost(&self) {
        let fuel = self.fuel.saturating_sub(self.store.get_fuel().unwrap_or_default());
        self.state().record(|recorder| recorder.leave(fuel, self.memory_bytes()));
    }

    /// Does what hostcalls asked for, now that their callback has returned.
    pub(crate) fn settle(&mut self) -> Result<(), Trapped> {
        while let Some((id, action)) = self.state_mut().deferred.pop_front() {
            match action {
                Deferred::Reply(reply) => self.reply(id, reply)?,
                Deferred::DeleteRoot => self.delete(id)?,
                Deferred::Steer(steer) => self.steer(id, steer)?,
            }
        }
        Ok(())
    }

    /// Steers the stream `id`; what its protocol does not have is passed over, as in Envoy.
    fn steer(&mut self, id: u32, steer: Steer) -> Result<(), Trapped> {
        match steer {
            Steer::ContinueRequest => self.resume(id, Side::Request),
            Steer::ContinueResponse => self.resume(id, Side::Response),
            Steer::Reset => {
                if let Some(http) = self.state_mut().http_mut(id) {
                    http.reset = true;
                    if http.response.held == Held::Awaited {
                        http.details = Some("wasm_close_stream".to_owned());
                    }
                }
                Ok(())
            }
            Steer::ContinueConnection => self.continue_connection(id),
            Steer::Close => self.close_connection(id, true),
        }
    }

    /// Whether the plugin of the stream `id` wants to see a body whose headers it holds back.
    pub(crate) fn allows_stop_iteration(&self, id: u32) -> bool {
        let state = self.state();
        let root = state.stream_of(id).and_then(|stream| state.root(stream.root));
        root.is_some_and(|root| root.plugin.allow_on_headers_stop_iteration)
    }

    /// Runs `on_delete` and forgets the context.
    pub(crate) fn delete(&mut self, id: u32) -> Result<(), Trapped> {
        let deleted = self.callback(id, |exports| &exports.on_delete, id);
        self.state_mut().contexts.remove(&id);
        deleted.map(|_| ())
    }

    /// A module has `main` or not, whatever language made it; without `_initialize` it is a command.
    fn initialize(&mut self) -> Result<(), Trapped> {
        if self.call(0, |exports| &exports.initialize, ())?.is_none() {
            self.call(0, |exports| &exports.start, ())?;
        } else if self.call(0, |exports| &exports.main, (0, 0))?.is_none() {
            self.call(0, |exports| &exports.main_void, ())?;
        }
        Ok(())
    }

    /// Forgets a root context that did not start: without a word to it, as Envoy does.
    fn refuse_root(&mut self, id: u32, by: Which<(u32, u32), u32>) -> RootFault {
        self.state_mut().contexts.remove(&id);
        RootFault::Refused(by(&self.exports).name)
    }

    /// `on_done`, then `on_delete` unless the guest asks for time. It cannot say within `on_done` that it is done.
    fn end_root(&mut self, id: u32) -> Result<(), Trapped> {
        let done = self.callback(id, |exports| &exports.on_done, id)?;
        if done != Some(0) {
            return self.delete(id);
        }
        if let Some(root) = self.state_mut().root_mut(id) {
            root.life = Life::Ending;
        }
        Ok(())
    }
}

fn find_exports(instance: &wasmtime::Instance, store: &mut Store<State>) -> wasmtime::Result<Exports> {
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    let [malloc, allocate] = ALLOCATORS;
    let malloc = match Export::<u32, u32>::find(malloc, instance, store)?.func {
        None => Export::find(allocate, instance, store)?.func,
        found => found,
    };
    store.data_mut().malloc = malloc.map(Arc::new);
    Exports::find(instance, store)
}

fn trapped(callback: &'static str, error: &wasmtime::Error, fuel: u64) -> Trapped {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let name = |frame: &FrameInfo| {
        frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned)
    };
    // As many as Envoy writes to its log.
    let frames = frames.iter().take(20).map(name).collect();
    Trapped { callback, cause: cause(error, fuel), frames }
}

fn cause(error: &wasmtime::Error, fuel: u64) -> Trap {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::OutOfFuel) => Trap::OutOfFuel { fuel },
        _ => Trap::Guest { reason: error.root_cause().to_string().into() },
    }
}
