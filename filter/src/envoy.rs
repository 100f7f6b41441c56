//! The ABI of proxy-wasm 0.2.1: [`Host`] over raw hostcalls, and the callbacks that Envoy calls. The only unsafe
//! code of the project.
//!
//! A callback that is not exported is not called, and each that is costs every request; so there are no more than
//! do something. The SDK exports them all, and its hostcalls panic on any status that they do not expect, and a
//! panic kills the VM with every request in it. These give `None`, or nothing, instead
//! (docs/adr/0007-our-own-hostcalls-and-callbacks.md).
#![expect(unsafe_code, reason = "hostcalls are foreign functions, and what they hand back is raw memory")]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ptr::null_mut;

use crate::abi;
use crate::contexts::Contexts;
use crate::host::{Headers, Host, Kind, Level, Metric, Reply};
use crate::pairs;
use crate::place::Next;

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
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
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
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
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

/// The memory that the host copies into: taken bit by bit from one block, and all free again when the next callback
/// begins, so that a value read from the host costs no allocation.
struct Arena {
    used: Cell<usize>,
    /// What did not fit.
    large: RefCell<Vec<Box<[u8]>>>,
    /// How many callbacks are under way. One calls no other, but if it did, nothing would be taken from it.
    depth: Cell<usize>,
}

/// The block. It is all zero, and by itself, so that it takes no room in the module.
struct Block(UnsafeCell<[u8; Arena::SIZE]>);

// SAFETY: a module has one thread; wasm32-unknown-unknown without atomics knows no other.
unsafe impl Sync for Arena {}
// SAFETY: as above.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; Arena::SIZE]));

static ARENA: Arena = Arena { used: Cell::new(0), large: RefCell::new(Vec::new()), depth: Cell::new(0) };

impl Arena {
    /// More than the headers of nearly every request take.
    const SIZE: usize = 16 * 1024;

    fn take(&self, size: usize) -> *mut u8 {
        let used = self.used.get();
        match used.checked_add(size).filter(|end| *end <= Self::SIZE) {
            Some(end) => {
                self.used.set(end);
                // SAFETY: `used` is within the block.
                unsafe { BLOCK.0.get().cast::<u8>().add(used) }
            }
            None => {
                let Ok(mut large) = self.large.try_borrow_mut() else { return null_mut() };
                let mut memory = vec![0; size].into_boxed_slice();
                let start = memory.as_mut_ptr();
                large.push(memory);
                start
            }
        }
    }

    fn reset(&self) {
        self.used.set(0);
        if let Ok(mut large) = self.large.try_borrow_mut() {
            large.clear();
        }
    }
}

/// The Envoy that runs this module, for the length of one callback: what it hands out is good for as long.
struct Envoy(());

impl Envoy {
    /// Begins a callback.
    fn enter() -> Self {
        if ARENA.depth.replace(ARENA.depth.get() + 1) == 0 {
            ARENA.reset();
        }
        Self(())
    }

    /// What the plugin is configured with, while `on_configure` runs. A large one is handed over with the memory that it
    /// is in, which is better used again as soon as it was read.
    fn configuration(&self) -> Box<[u8]> {
        let given = self.taken(|data, size| {
            // SAFETY: both pointers are to locals of `taken`, valid for writes.
            unsafe { proxy_get_buffer_bytes(abi::PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) }
        });
        let given = given.unwrap_or_default();
        let is_it = |last: &mut Box<[u8]>| last.as_ptr() == given.as_ptr();
        let own = ARENA.large.try_borrow_mut().ok().and_then(|mut large| large.pop_if(is_it));
        own.unwrap_or_else(|| given.into())
    }

    /// Takes over what a hostcall hands out. The empty value, for which Envoy allocates nothing, is `None`.
    fn taken(&self, call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<&[u8]> {
        let mut data: *mut u8 = null_mut();
        let mut size = 0_usize;
        if call(&raw mut data, &raw mut size) != abi::OK || data.is_null() || size == 0 {
            return None;
        }
        // SAFETY: the host got this memory from `malloc`, which gives every byte of the arena once, and wrote all of
        // it. Nothing writes there again before the arena is reset, which no callback does while `self` lives.
        Some(unsafe { std::slice::from_raw_parts(data, size) })
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        ARENA.depth.set(ARENA.depth.get().saturating_sub(1));
    }
}

impl Headers {
    fn id(self) -> u32 {
        match self {
            Self::Request => abi::REQUEST_HEADERS,
            Self::Response => abi::RESPONSE_HEADERS,
        }
    }
}

impl Host for Envoy {
    fn headers(&self, map: Headers) -> &[u8] {
        let given = self.taken(|data, size| {
            // SAFETY: both pointers are to locals of `taken`, valid for writes.
            unsafe { proxy_get_header_map_pairs(map.id(), data, size) }
        });
        given.unwrap_or_default()
    }

    fn header(&self, map: Headers, name: &str) -> Option<&[u8]> {
        self.taken(|data, size| {
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

    fn add_header(&self, map: Headers, name: &str, value: &str) {
        // SAFETY: both texts are valid for reads of their lengths.
        unsafe {
            proxy_add_header_map_value(map.id(), name.as_ptr(), name.len(), value.as_ptr(), value.len());
        }
    }

    fn remove_header(&self, map: Headers, name: &str) {
        // SAFETY: the name is valid for reads of its length.
        unsafe {
            proxy_remove_header_map_value(map.id(), name.as_ptr(), name.len());
        }
    }

    fn property(&self, path: &str) -> Option<&[u8]> {
        self.taken(|data, size| {
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

    fn declare_lasting(&self, name: &str) -> bool {
        const DECLARE: &str = "declare_property";
        let argument = declaration(name);
        // SAFETY: both texts are valid for reads of their lengths, and null asks for no result.
        let status = unsafe {
            proxy_call_foreign_function(
                DECLARE.as_ptr(),
                DECLARE.len(),
                argument.as_ptr(),
                argument.len(),
                null_mut(),
                null_mut(),
            )
        };
        status == abi::OK
    }

    fn has_mark(&self, name: &str) -> bool {
        let (mut data, mut size) = (null_mut(), 0);
        // SAFETY: the name is valid for reads of its length, `data` and `size` for writes. Should the value not be
        // empty, it stays in the arena unread.
        let status = unsafe { proxy_get_property(name.as_ptr(), name.len(), &raw mut data, &raw mut size) };
        status == abi::OK
    }

    fn metric(&self, kind: Kind, name: &str) -> Option<Metric> {
        let kind = match kind {
            Kind::Counter => abi::COUNTER,
            Kind::Gauge => abi::GAUGE,
        };
        let mut id = 0;
        // SAFETY: the name is valid for reads of its length, `id` for a write.
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) };
        (status == abi::OK).then_some(Metric(id))
    }

    fn count(&self, metric: Metric) {
        // SAFETY: no memory is handed over.
        unsafe {
            proxy_increment_metric(metric.0, 1);
        }
    }

    fn gauge(&self, metric: Metric, value: u64) {
        // SAFETY: no memory is handed over.
        unsafe {
            proxy_record_metric(metric.0, value);
        }
    }

    fn reply(&self, reply: &Reply<'_>) {
        let headers = pairs::encode(reply.headers);
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
                reply.grpc.map_or(abi::NO_GRPC_STATUS, i32::from),
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
            proxy_close_stream(abi::DOWNSTREAM);
        }
    }

    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Info => abi::INFO,
            Level::Warn => abi::WARN,
            Level::Error => abi::ERROR,
        };
        // SAFETY: the message is valid for reads of its length.
        unsafe {
            proxy_log(level, message.as_ptr(), message.len());
        }
    }
}

/// `DeclarePropertyArguments` of Envoy: the name (1) and the life span (5), which is the downstream connection's (2).
fn declaration(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or_default() & 0x7f;
    [&[0x0a, length], name.as_bytes(), &[0x28, 2]].concat()
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// Runs a callback on what the module knows. Callbacks never meet, so it is always there.
fn with<T: Default>(callback: impl FnOnce(&mut Contexts, &Envoy) -> T) -> T {
    let envoy = Envoy::enter();
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => callback(&mut contexts, &envoy),
        Err(_under_way) => T::default(),
    })
}

fn action(next: Next) -> u32 {
    match next {
        Next::Continue => abi::CONTINUE,
        Next::Stop => abi::PAUSE,
    }
}

/// The ABI that this module speaks; never called.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for the host to write into.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    ARENA.take(size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    with(|contexts, _| contexts.create(id, parent));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, _size: u32) -> u32 {
    with(|contexts, envoy| u32::from(contexts.configure(id, envoy.configuration(), envoy)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _count: u32, _end: u32) -> u32 {
    with(|contexts, envoy| action(contexts.request(id, envoy)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _count: u32, _end: u32) -> u32 {
    with(|contexts, envoy| contexts.answer(id, envoy));
    action(Next::Continue)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(id: u32) -> u32 {
    with(|contexts, envoy| action(contexts.connection(id, envoy)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    with(|contexts, _| contexts.delete(id));
}
