//! The guest's callbacks.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::abi::Abi;
use super::state::State;

/// A callback, if the guest exports it.
pub(crate) struct Export<P, R> {
    pub(crate) name: &'static str,
    pub(crate) func: Option<TypedFunc<P, R>>,
}

/// Which callback to make: a copy of one would cost as much as a call.
pub(crate) type Which<P, R> = fn(&Exports) -> &Export<P, R>;

impl<P: WasmParams, R: WasmResults> Export<P, R> {
    /// Looks `name` up; an export of another type is an error, as it is in Envoy.
    pub(crate) fn find(
        name: &'static str,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Self> {
        let func = instance.get_func(&mut *store, name);
        let other = |error| {
            wasmtime::Error::msg(format!("the export {name} is of another type than in the ABI: {error}"))
        };
        let func = func.map(|func| func.typed(&*store)).transpose().map_err(other)?;
        Ok(Self { name, func })
    }
}

/// The parameters of a callback, the first of which is a context.
pub(crate) trait Parameters: WasmParams {
    /// The same as a guest numbers contexts that came after `before` others.
    fn after(self, before: u32) -> Self;
}

impl Parameters for () {
    fn after(self, _before: u32) -> Self {}
}

impl Parameters for u32 {
    fn after(self, before: u32) -> Self {
        self.saturating_sub(before)
    }
}

macro_rules! parameters {
    ($($rest:ident)*) => {
        impl Parameters for (u32, $(parameters!(@ $rest)),*) {
            fn after(self, before: u32) -> Self {
                let (context, $($rest),*) = self;
                (context.after(before), $($rest),*)
            }
        }
    };
    (@ $rest:ident) => { u32 };
}

parameters!(one);
parameters!(one two);
parameters!(one two three four);

macro_rules! exports {
    ($($field:ident($params:ty) -> $result:ty = $name:literal $(since $since:ident)? $(until $until:ident)?;)*) => {
        /// The callbacks this host makes. One that is not exported is not called.
        pub(crate) struct Exports {
            $(pub(crate) $field: Export<$params, $result>,)*
        }

        impl Exports {
            pub(crate) fn find(instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Self> {
                let abi = store.data().abi;
                Ok(Self {
                    $($field: if !store.data().denies($name) $(&& abi >= Abi::$since)? $(&& abi <= Abi::$until)? {
                        Export::find($name, instance, store)?
                    } else {
                        Export { name: $name, func: None }
                    },)*
                })
            }
        }
    };
}

exports! {
    initialize(()) -> () = "_initialize";
    start(()) -> () = "_start";
    main((u32, u32)) -> u32 = "main";
    main_void(()) -> u32 = "__main_void";
    on_context_create((u32, u32)) -> () = "proxy_on_context_create";
    on_vm_start((u32, u32)) -> u32 = "proxy_on_vm_start";
    on_configure((u32, u32)) -> u32 = "proxy_on_configure";
    on_tick(u32) -> () = "proxy_on_tick";
    on_old_request_headers((u32, u32)) -> u32 = "proxy_on_request_headers" until V0_1_0;
    on_request_headers((u32, u32, u32)) -> u32 = "proxy_on_request_headers" since V0_2_0;
    on_request_body((u32, u32, u32)) -> u32 = "proxy_on_request_body";
    on_request_trailers((u32, u32)) -> u32 = "proxy_on_request_trailers";
    on_old_response_headers((u32, u32)) -> u32 = "proxy_on_response_headers" until V0_1_0;
    on_response_headers((u32, u32, u32)) -> u32 = "proxy_on_response_headers" since V0_2_0;
    on_response_body((u32, u32, u32)) -> u32 = "proxy_on_response_body";
    on_response_trailers((u32, u32)) -> u32 = "proxy_on_response_trailers";
    on_new_connection(u32) -> u32 = "proxy_on_new_connection";
    on_downstream_data((u32, u32, u32)) -> u32 = "proxy_on_downstream_data";
    on_upstream_data((u32, u32, u32)) -> u32 = "proxy_on_upstream_data";
    on_downstream_close((u32, u32)) -> () = "proxy_on_downstream_connection_close";
    on_upstream_close((u32, u32)) -> () = "proxy_on_upstream_connection_close";
    on_queue_ready((u32, u32)) -> () = "proxy_on_queue_ready";
    on_http_call_response((u32, u32, u32, u32, u32)) -> () = "proxy_on_http_call_response";
    on_grpc_initial_metadata((u32, u32, u32)) -> () = "proxy_on_grpc_receive_initial_metadata";
    on_grpc_message((u32, u32, u32)) -> () = "proxy_on_grpc_receive";
    on_grpc_trailing_metadata((u32, u32, u32)) -> () = "proxy_on_grpc_receive_trailing_metadata";
    on_grpc_close((u32, u32, u32)) -> () = "proxy_on_grpc_close";
    on_log(u32) -> () = "proxy_on_log";
    on_done(u32) -> u32 = "proxy_on_done";
    on_delete(u32) -> () = "proxy_on_delete";
}
