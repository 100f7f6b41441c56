//! A running guest: every call into it, and what Envoy does after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::{Store, WasmParams, WasmResults};

use super::connection::Plugin;
use super::error::{Trap, Trapped};
use super::exports::{Export, Exports};
use super::log::LogLine;
use super::module::{ALLOCATORS, Module};
use super::outcome::{Action, LocalReply};
use super::reply;
use super::state::{Context, Deferred, Held, Life, Message, Phase, Root, State};

/// A guest and the host's state for it.
pub(crate) struct Instance {
    store: Store<State>,
    pub(crate) exports: Exports,
    fuel: u64,
    failed: Option<Trapped>,
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
        store.limiter(|state| &mut state.limits);
        store.data_mut().restricted = true;
        let exports = store
            .set_fuel(fuel)
            .and_then(|()| linked.instantiate(&mut store))
            .and_then(|instance| find_exports(&instance, &mut store));
        match exports {
            Ok(exports) => {
                let mut guest = Self { store, exports, fuel, failed: None };
                guest.initialize().map_err(|trapped| (trapped, guest.take_logs()))?;
                guest.state_mut().restricted = false;
                Ok(guest)
            }
            Err(error) => {
                let cause = cause(&error, fuel);
                Err((
                    Trapped { callback: "instantiation", cause },
                    std::mem::take(&mut store.data_mut().logs),
                ))
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

    /// Creates a root context for `plugin`, starts and configures it.
    pub(crate) fn start_root(&mut self, plugin: Arc<Plugin>) -> Result<u32, RootFault> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (vm_size, size) = (size(&self.state().vm_configuration), size(&plugin.configuration));
        let root = Root {
            plugin,
            life: Life::Serving,
            tick_period: std::time::Duration::ZERO,
            declared: BTreeMap::new(),
        };
        let id = self.state_mut().insert(Context::Root(root));
        self.call(id, self.exports.on_context_create.clone(), (id, 0))?;
        let started = self.call(id, self.exports.on_vm_start.clone(), (id, vm_size))?;
        self.settle()?;
        if started == Some(0) {
            return self.refuse_root(id, self.exports.on_vm_start.name);
        }
        self.state_mut().configuring = Some(id);
        let configured = self.call(id, self.exports.on_configure.clone(), (id, size));
        self.state_mut().configuring = None;
        let configured = configured?;
        self.settle()?;
        if configured == Some(0) {
            return self.refuse_root(id, self.exports.on_configure.name);
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
            state.contexts.keys().any(|of| state.stream_of(*of).is_some_and(|stream| stream.root == id));
        match state.root(id).map(|root| root.life) {
            Some(Life::Draining) if !busy => self.end_root(id),
            Some(Life::Serving | Life::Draining | Life::Ending) | None => Ok(()),
        }
    }

    /// Runs a callback that answers with an action. A local reply sent in it makes the answer a pause.
    pub(crate) fn action<P: WasmParams>(
        &mut self,
        id: u32,
        export: Export<P, u32>,
        params: P,
    ) -> Result<Action, Trapped> {
        let answer = self.call(id, export, params)?;
        let replied = self.state().has_deferred_reply();
        // 2 is "continue and end the stream" in Envoy's wider enumeration; all else holds the message back.
        Ok(match answer {
            None | Some(0 | 2) if !replied => Action::Continue,
            None | Some(_) => Action::Pause,
        })
    }

    /// Runs a callback for the context `id`, if the guest exports it. A trap is the end of this guest.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        id: u32,
        export: Export<P, R>,
        params: P,
    ) -> Result<Option<R>, Trapped> {
        self.alive()?;
        let Some(func) = export.func else { return Ok(None) };
        let state = self.state_mut();
        let before = (state.current, state.effective);
        (state.current, state.effective) = (id, 0);
        let result = self.store.set_fuel(self.fuel).and_then(|()| func.call(&mut self.store, params));
        let state = self.state_mut();
        (state.current, state.effective) = before;
        result.map(Some).map_err(|error| {
            let trapped = Trapped { callback: export.name, cause: cause(&error, self.fuel) };
            self.failed = Some(trapped.clone());
            trapped
        })
    }

    /// Does what hostcalls asked for, now that their callback has returned.
    pub(crate) fn settle(&mut self) -> Result<(), Trapped> {
        while let Some((id, action)) = self.state_mut().deferred.pop_front() {
            match action {
                Deferred::Reply(reply) => self.reply(id, reply)?,
                Deferred::DeleteRoot => self.delete(id)?,
                Deferred::Steer(steer) => self.state_mut().steer(id, steer),
            }
        }
        Ok(())
    }

    /// Shows the filter the response headers it now holds.
    pub(crate) fn response_headers(&mut self, id: u32, end_of_stream: bool) -> Result<(), Trapped> {
        let count = self.state().http(id).map_or(0, |http| http.response.headers.len());
        let params = (id, u32::try_from(count).unwrap_or(u32::MAX), u32::from(end_of_stream));
        let action = self.action(id, self.exports.on_response_headers.clone(), params)?;
        self.settle()?;
        if let Some(http) = self.state_mut().http_mut(id)
            && action == Action::Continue
        {
            http.response.held = Held::Passed;
        }
        Ok(())
    }

    /// Runs `on_delete` and forgets the context.
    pub(crate) fn delete(&mut self, id: u32) -> Result<(), Trapped> {
        let deleted = self.call(id, self.exports.on_delete.clone(), id);
        self.state_mut().contexts.remove(&id);
        deleted.map(|_| ())
    }

    /// A module has `main` or not, whatever language made it; without `_initialize` it is a command.
    fn initialize(&mut self) -> Result<(), Trapped> {
        if self.call(0, self.exports.initialize.clone(), ())?.is_none() {
            self.call(0, self.exports.start.clone(), ())?;
        } else if self.call(0, self.exports.main.clone(), (0, 0))?.is_none() {
            self.call(0, self.exports.main_void.clone(), ())?;
        }
        Ok(())
    }

    fn refuse_root(&mut self, id: u32, callback: &'static str) -> Result<u32, RootFault> {
        self.end_root(id)?;
        Err(RootFault::Refused(callback))
    }

    /// `on_done`, then `on_delete` unless the guest asks for time.
    fn end_root(&mut self, id: u32) -> Result<(), Trapped> {
        // Before the call: a guest may well say that it is done within it.
        if let Some(root) = self.state_mut().root_mut(id) {
            root.life = Life::Ending;
        }
        let done = self.call(id, self.exports.on_done.clone(), id)?;
        self.settle()?;
        if done == Some(0) { Ok(()) } else { self.delete(id) }
    }

    /// A local reply before any response passes this same filter's response callback; one that takes the
    /// place of a response does not, and one after it can only reset the stream.
    fn reply(&mut self, id: u32, reply: LocalReply) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        let Some(http) = stream.http_mut() else { return Ok(()) };
        // Envoy leaves the client waiting for ever after a second reply; the outcome is then a pause.
        if http.reset || http.reply.is_some() {
            return Ok(());
        }
        let headers = reply::response_headers(&reply, http.grpc);
        let end_of_stream = reply.body.is_empty() || http.grpc;
        match http.response.held {
            Held::Awaited => {
                http.response = Message { headers, held: Held::Filter };
                http.reply = Some(reply);
                stream.phase = Phase::Response;
                self.response_headers(id, end_of_stream)
            }
            Held::Filter => {
                http.response = Message { headers, held: Held::Passed };
                http.reply = Some(reply);
                Ok(())
            }
            Held::Passed => {
                http.reset = true;
                Ok(())
            }
        }
    }
}

fn find_exports(instance: &wasmtime::Instance, store: &mut Store<State>) -> wasmtime::Result<Exports> {
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    let [malloc, allocate] = ALLOCATORS;
    let malloc = match Export::find(malloc, instance, store)?.func {
        None => Export::find(allocate, instance, store)?.func,
        found => found,
    };
    store.data_mut().malloc = malloc;
    Exports::find(instance, store)
}

fn cause(error: &wasmtime::Error, fuel: u64) -> Trap {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::OutOfFuel) => Trap::OutOfFuel { fuel },
        _ => Trap::Guest { reason: error.root_cause().to_string() },
    }
}
