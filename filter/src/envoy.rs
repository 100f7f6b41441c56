//! [`Host`] over raw hostcalls: the only unsafe code of the project.
//!
//! The SDK's own wrappers panic on any status that they do not expect, and a panic kills the VM with every
//! request in it. These give `None`, or nothing, instead.
#![expect(unsafe_code, reason = "hostcalls are foreign functions, and what they hand back is raw memory")]

use std::ptr::null_mut;

use crate::host::{Headers, Host, Level, Reply};

const OK: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const DOWNSTREAM: u32 = 2;
const NO_GRPC_STATUS: i32 = -1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

/// The Envoy that runs this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envoy;

/// What the plugin is configured with, while `on_configure` runs.
pub(crate) fn configuration() -> Vec<u8> {
    let given = taken(|data, size| {
        // SAFETY: both pointers are to locals of `taken`, valid for writes.
        unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) }
    });
    given.unwrap_or_default()
}

/// Takes over what a hostcall hands out. The empty value, for which Envoy allocates nothing, is `None`.
fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data: *mut u8 = null_mut();
    let mut size = 0_usize;
    if call(&raw mut data, &raw mut size) != OK || data.is_null() || size == 0 {
        return None;
    }
    // SAFETY: the host got this memory from the module's exported allocator, a `Vec<u8>` of exactly this
    // capacity that was forgotten there, and wrote all of it; it is handed over once.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

impl Headers {
    fn id(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::Response => 2,
        }
    }
}

impl Host for Envoy {
    fn header(&self, map: Headers, name: &str) -> Option<Vec<u8>> {
        taken(|data, size| {
            // SAFETY: the name is valid for reads of its length, the pointers are to locals of `taken`.
            unsafe { proxy_get_header_map_value(map.id(), name.as_ptr(), name.len(), data, size) }
        })
    }

    fn set_header(&self, map: Headers, name: &str, value: &str) {
        // SAFETY: both texts are valid for reads of their lengths.
        unsafe {
            proxy_replace_header_map_value(map.id(), name.as_ptr(), name.len(), value.as_ptr(), value.len());
        }
    }

    fn remove_header(&self, map: Headers, name: &str) {
        // SAFETY: the name is valid for reads of its length.
        unsafe {
            proxy_remove_header_map_value(map.id(), name.as_ptr(), name.len());
        }
    }

    fn property(&self, path: &str) -> Option<Vec<u8>> {
        taken(|data, size| {
            // SAFETY: the path is valid for reads of its length, the pointers are to locals of `taken`.
            unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }
        })
    }

    fn set_state(&self, name: &str, value: &str) {
        // SAFETY: both texts are valid for reads of their lengths.
        unsafe {
            proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len());
        }
    }

    fn reply(&self, reply: &Reply) {
        let headers = pairs(&reply.headers);
        // SAFETY: all four are valid for reads of their lengths; Envoy copies them before it returns.
        unsafe {
            proxy_send_local_response(
                reply.status,
                reply.details.as_ptr(),
                reply.details.len(),
                reply.body.as_ptr(),
                reply.body.len(),
                headers.as_ptr(),
                headers.len(),
                NO_GRPC_STATUS,
            );
        }
    }

    fn now(&self) -> u64 {
        let mut now = 0;
        // SAFETY: `now` is writable and outlives the call.
        unsafe {
            proxy_get_current_time_nanoseconds(&raw mut now);
        }
        now
    }

    fn close(&self) {
        // SAFETY: no memory is handed over.
        unsafe {
            proxy_close_stream(DOWNSTREAM);
        }
    }

    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Info => 2,
            Level::Error => 4,
        };
        // SAFETY: the message is valid for reads of its length.
        unsafe {
            proxy_log(level, message.as_ptr(), message.len());
        }
    }
}

/// Header pairs as the ABI encodes them: the count, all lengths, then every name and value with a NUL after it.
fn pairs(headers: &[(&'static str, String)]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap_or_default().to_le_bytes();
    let mut out = word(headers.len()).to_vec();
    for (name, value) in headers {
        out.extend(word(name.len()));
        out.extend(word(value.len()));
    }
    for (name, value) in headers {
        for text in [name.as_bytes(), value.as_bytes()] {
            out.extend(text);
            out.push(0);
        }
    }
    out
}
