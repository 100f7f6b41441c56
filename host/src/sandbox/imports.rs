//! The hostcalls: what a guest can import from `env`.

mod callouts;
mod flow;
mod foreign;
mod headers;
mod values;

use wasmtime::{Caller, Linker};

use super::call::{Call, Slot, Span, answer};
use super::state::State;
use super::status::Status;

/// What a hostcall's body comes to.
type Answer = Result<(), Status>;

/// Defines each hostcall: its name, the parameters of the ABI, and the call they make.
macro_rules! hostcalls {
    ($($name:literal ($($arg:ident: $ty:ty),*) => $body:expr;)*) => {
        /// Gives `linker` the hostcall `name`; the answer is whether there is one.
        pub(crate) fn define(linker: &mut Linker<State>, name: &str) -> wasmtime::Result<bool> {
            match name {
                $($name => linker.func_wrap("env", $name, |caller: Caller<'_, State>, $($arg: $ty),*| {
                    answer(caller, $name, |call| {
                        let body: fn(&mut Call<'_>, $($ty),*) -> Answer = $body;
                        body(call, $($arg),*)
                    })
                }).map(|_| true),)*
                _ => Ok(false),
            }
        }
    };
}

hostcalls! {
    "proxy_log"(level: u32, at: u32, len: u32) =>
        |call, level, at, len| values::log(call, level, Span(at, len));
    "proxy_get_log_level"(ret: u32) => |call, ret| {
        let level = call.state().log_level as u32;
        call.write_u32(ret, level)
    };
    "proxy_get_current_time_nanoseconds"(ret: u32) => |call, ret| {
        let now = u64::try_from(call.state().now.as_nanos()).unwrap_or(u64::MAX);
        call.write_u64(ret, now)
    };
    "proxy_set_tick_period_milliseconds"(ms: u32) => values::set_tick_period;
    "proxy_get_buffer_bytes"(buffer: u32, start: u32, max: u32, at: u32, len: u32) =>
        |call, buffer, start, max, at, len| {
            values::buffer_bytes(call, buffer, (start, max), Slot(at, len))
        };
    "proxy_set_buffer_bytes"(buffer: u32, start: u32, length: u32, at: u32, len: u32) =>
        |call, buffer, start, length, at, len| {
            values::set_buffer_bytes(call, buffer, (start, length), Span(at, len))
        };
    "proxy_get_buffer_status"(buffer: u32, len: u32, flags: u32) => values::buffer_status;
    "proxy_get_property"(path: u32, path_len: u32, at: u32, len: u32) => |call, path, path_len, at, len| {
        values::property(call, Span(path, path_len), Slot(at, len))
    };
    "proxy_set_property"(path: u32, path_len: u32, at: u32, len: u32) => |call, path, path_len, at, len| {
        values::set_property(call, Span(path, path_len), Span(at, len))
    };
    "proxy_get_shared_data"(key: u32, key_len: u32, at: u32, len: u32, cas: u32) =>
        |call, key, key_len, at, len, cas| {
            values::shared_data(call, Span(key, key_len), Slot(at, len), cas)
        };
    "proxy_set_shared_data"(key: u32, key_len: u32, at: u32, len: u32, cas: u32) =>
        |call, key, key_len, at, len, cas| {
            values::set_shared_data(call, Span(key, key_len), Span(at, len), cas)
        };
    "proxy_define_metric"(kind: u32, at: u32, len: u32, ret: u32) => |call, kind, at, len, ret| {
        values::define_metric(call, kind, Span(at, len), ret)
    };
    "proxy_increment_metric"(id: u32, offset: i64) => |call, id, offset| {
        call.state().metrics.increment(id, offset)
    };
    "proxy_record_metric"(id: u32, value: u64) =>
        |call, id, value| call.state().metrics.record(id, value);
    "proxy_get_metric"(id: u32, ret: u32) => |call, id, ret| {
        let value = call.state().metrics.get(id)?;
        call.write_u64(ret, value)
    };
    "proxy_register_shared_queue"(name: u32, name_len: u32, ret: u32) => |call, name, name_len, ret| {
        callouts::register_queue(call, Span(name, name_len), ret)
    };
    "proxy_resolve_shared_queue"(vm: u32, vm_len: u32, name: u32, name_len: u32, ret: u32) =>
        |call, vm, vm_len, name, name_len, ret| {
            callouts::resolve_queue(call, Span(vm, vm_len), Span(name, name_len), ret)
        };
    "proxy_enqueue_shared_queue"(token: u32, at: u32, len: u32) =>
        |call, token, at, len| callouts::enqueue(call, token, Span(at, len));
    "proxy_dequeue_shared_queue"(token: u32, at: u32, len: u32) =>
        |call, token, at, len| callouts::dequeue(call, token, Slot(at, len));
    "proxy_http_call"(
        cluster: u32, cluster_len: u32, headers: u32, headers_len: u32, body: u32, body_len: u32,
        trailers: u32, trailers_len: u32, timeout: u32, ret: u32
    ) =>
        |call, cluster, cluster_len, headers, headers_len, body, body_len, trailers, trailers_len, timeout, ret| {
            let request = callouts::Request {
                cluster: Span(cluster, cluster_len),
                headers: Span(headers, headers_len),
                body: Span(body, body_len),
                trailers: Span(trailers, trailers_len),
            };
            callouts::http_call(call, &request, timeout, ret)
        };
    "proxy_grpc_call"(
        cluster: u32, cluster_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
        metadata: u32, metadata_len: u32, message: u32, message_len: u32, timeout: u32, ret: u32
    ) =>
        |call, cluster, cluster_len, service, service_len, method, method_len, metadata, metadata_len,
         message, message_len, timeout, ret| {
            let target = callouts::Target {
                cluster: Span(cluster, cluster_len),
                service: Span(service, service_len),
                method: Span(method, method_len),
                metadata: Span(metadata, metadata_len),
            };
            callouts::grpc_call(call, &target, Span(message, message_len), timeout, ret)
        };
    "proxy_grpc_stream"(
        cluster: u32, cluster_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
        metadata: u32, metadata_len: u32, ret: u32
    ) =>
        |call, cluster, cluster_len, service, service_len, method, method_len, metadata, metadata_len, ret| {
            let target = callouts::Target {
                cluster: Span(cluster, cluster_len),
                service: Span(service, service_len),
                method: Span(method, method_len),
                metadata: Span(metadata, metadata_len),
            };
            callouts::grpc_stream(call, &target, ret)
        };
    "proxy_grpc_send"(token: u32, at: u32, len: u32, end: u32) =>
        |call, token, at, len, end| callouts::grpc_send(call, token, Span(at, len), end);
    "proxy_grpc_cancel"(token: u32) => callouts::grpc_cancel;
    "proxy_grpc_close"(token: u32) => callouts::grpc_close;
    "proxy_get_status"(code: u32, at: u32, len: u32) =>
        |call, code, at, len| callouts::status(call, code, Slot(at, len));
    "proxy_get_header_map_size"(map: u32, ret: u32) => headers::size;
    "proxy_get_header_map_pairs"(map: u32, at: u32, len: u32) =>
        |call, map, at, len| headers::pairs(call, map, Slot(at, len));
    "proxy_set_header_map_pairs"(map: u32, at: u32, len: u32) =>
        |call, map, at, len| headers::set_pairs(call, map, Span(at, len));
    "proxy_get_header_map_value"(map: u32, key: u32, key_len: u32, at: u32, len: u32) =>
        |call, map, key, key_len, at, len| {
            headers::value(call, map, Span(key, key_len), Slot(at, len))
        };
    "proxy_add_header_map_value"(map: u32, key: u32, key_len: u32, at: u32, len: u32) =>
        |call, map, key, key_len, at, len| {
            headers::add(call, map, Span(key, key_len), Span(at, len))
        };
    "proxy_replace_header_map_value"(map: u32, key: u32, key_len: u32, at: u32, len: u32) =>
        |call, map, key, key_len, at, len| {
            headers::replace(call, map, Span(key, key_len), Span(at, len))
        };
    "proxy_remove_header_map_value"(map: u32, key: u32, key_len: u32) => |call, map, key, key_len| {
        headers::remove(call, map, Span(key, key_len))
    };
    "proxy_send_local_response"(
        code: u32, details: u32, details_len: u32, body: u32, body_len: u32, pairs: u32, pairs_len: u32, grpc: i32
    ) =>
        |call, code, details, details_len, body, body_len, pairs, pairs_len, grpc| {
            let (details, body) = (Span(details, details_len), Span(body, body_len));
            flow::send_local_response(call, (code, grpc), details, body, Span(pairs, pairs_len))
        };
    "proxy_continue_stream"(stream: u32) => flow::continue_stream;
    "proxy_continue_request"() => |call| flow::continue_stream(call, flow::REQUEST);
    "proxy_continue_response"() => |call| flow::continue_stream(call, flow::RESPONSE);
    "proxy_clear_route_cache"() => flow::clear_route_cache;
    "proxy_get_configuration"(at: u32, len: u32) => |call, at, len| values::configuration(call, Slot(at, len));
    "proxy_close_stream"(stream: u32) => flow::close_stream;
    "proxy_set_effective_context"(id: u32) => flow::set_effective_context;
    "proxy_done"() => flow::done;
    "proxy_call_foreign_function"(name: u32, name_len: u32, arg: u32, arg_len: u32, at: u32, len: u32) =>
        |call, name, name_len, arg, arg_len, at, len| {
            foreign::call(call, Span(name, name_len), Span(arg, arg_len), Slot(at, len))
        };
}
