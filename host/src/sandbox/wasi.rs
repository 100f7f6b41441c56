//! WASI, as far as Envoy has it: standard output is the log, and there are no files.

use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use super::call::{Call, Slot, Span, permitted};
use super::log::{Level, LogLine};
use super::state::State;
use super::status::Status;

/// The modules a guest imports WASI from: by today's name, or by the one before it.
pub(crate) const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// What a function answers that the plugin may not call.
pub(crate) const NOT_CAPABLE: u32 = 76;

const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const NO_ENTRY: u32 = 44;
const NO_SYSTEM: u32 = 52;
const NOT_SUPPORTED: u32 = 58;

/// Envoy hands out at most this many random bytes at once.
const MOST_RANDOM: u32 = 64 * 1024;

/// What does nothing: the parameters (`i` has 32 bits, `l` 64) and the answer. The parameters are those of Envoy, also
/// where WASI has more: a guest that imports the others does not link there either.
const IDLE: [(&str, &str, u32); 34] = [
    ("args_get", "ii", 0),
    ("clock_res_get", "ii", NO_SYSTEM),
    ("fd_advise", "illi", NO_SYSTEM),
    ("fd_allocate", "ill", NO_SYSTEM),
    ("fd_close", "i", 0),
    ("fd_datasync", "i", NO_SYSTEM),
    ("fd_fdstat_set_flags", "ii", NO_SYSTEM),
    ("fd_fdstat_set_rights", "ill", NO_SYSTEM),
    ("fd_filestat_get", "ii", NO_SYSTEM),
    ("fd_filestat_set_size", "il", NO_SYSTEM),
    ("fd_filestat_set_times", "illi", NO_SYSTEM),
    ("fd_pread", "iiili", NO_SYSTEM),
    ("fd_prestat_dir_name", "iii", NO_SYSTEM),
    ("fd_prestat_get", "ii", BAD_FILE),
    ("fd_pwrite", "iiili", NO_SYSTEM),
    ("fd_read", "iiii", NO_SYSTEM),
    ("fd_readdir", "iiili", NO_SYSTEM),
    ("fd_renumber", "ii", NO_SYSTEM),
    ("fd_seek", "ilii", 0),
    ("fd_sync", "i", NO_SYSTEM),
    ("fd_tell", "ii", NO_SYSTEM),
    ("path_create_directory", "iii", NO_SYSTEM),
    ("path_filestat_get", "iiiii", NO_SYSTEM),
    ("path_filestat_set_times", "iiiilli", NO_SYSTEM),
    ("path_link", "iiiiii", NO_SYSTEM),
    ("path_open", "iiiiillii", NO_ENTRY),
    ("path_readlink", "iiiiii", NO_SYSTEM),
    ("path_remove_directory", "iii", NO_SYSTEM),
    ("path_rename", "iiiiii", NO_SYSTEM),
    ("path_symlink", "iiii", NO_SYSTEM),
    ("path_unlink_file", "iii", NO_SYSTEM),
    ("sched_yield", "", 0),
    ("sock_accept", "iii", NO_SYSTEM),
    ("sock_shutdown", "ii", NO_SYSTEM),
];

/// Why a function of WASI did not succeed, as its errno.
type Errno = Result<(), u32>;

/// Gives `linker` the function `name` of WASI; the answer is whether there is one.
pub(crate) fn define(linker: &mut Linker<State>, module: &str, name: &str) -> wasmtime::Result<bool> {
    match name {
        "fd_write" => linker.func_wrap(
            module,
            name,
            |caller: Caller<'_, State>, fd: u32, at: u32, count: u32, ret: u32| {
                answer(caller, "fd_write", |call| write(call, fd, (at, count), ret))
            },
        ),
        "fd_fdstat_get" => linker.func_wrap(module, name, |caller: Caller<'_, State>, fd: u32, ret: u32| {
            answer(caller, "fd_fdstat_get", |call| file_status(call, fd, ret))
        }),
        "environ_sizes_get" => {
            linker.func_wrap(module, name, |caller: Caller<'_, State>, count: u32, size: u32| {
                answer(caller, "environ_sizes_get", |call| environment_sizes(call, Slot(count, size)))
            })
        }
        "environ_get" => {
            linker.func_wrap(module, name, |caller: Caller<'_, State>, entries: u32, bytes: u32| {
                answer(caller, "environ_get", |call| environment(call, entries, bytes))
            })
        }
        "args_sizes_get" => {
            linker.func_wrap(module, name, |caller: Caller<'_, State>, count: u32, size: u32| {
                answer(caller, "args_sizes_get", |call| put(call, count, 0).and_then(|()| put(call, size, 0)))
            })
        }
        "clock_time_get" => linker.func_wrap(
            module,
            name,
            |caller: Caller<'_, State>, clock: u32, _precision: u64, ret: u32| {
                answer(caller, "clock_time_get", |call| time(call, clock, ret))
            },
        ),
        "random_get" => linker.func_wrap(module, name, |caller: Caller<'_, State>, at: u32, size: u32| {
            answer(caller, "random_get", |call| random(call, at, size))
        }),
        "poll_oneoff" => {
            linker.func_wrap(module, name, |caller: Caller<'_, State>, _: u32, _: u32, _: u32, ret: u32| {
                answer(caller, "poll_oneoff", |call| put(call, ret, 0))
            })
        }
        // Envoy notes that it was called, and lets the guest run on.
        "proc_exit" => linker.func_wrap(module, name, |_: Caller<'_, State>, _code: u32| {}),
        _ => return define_idle(linker, module, name),
    }
    .map(|_| true)
}

fn define_idle(linker: &mut Linker<State>, module: &str, name: &str) -> wasmtime::Result<bool> {
    let Some((name, parameters, errno)) = IDLE.iter().copied().find(|(idle, ..)| *idle == name) else {
        return Ok(false);
    };
    let parameters = parameters.chars().map(|wide| if wide == 'l' { ValType::I64 } else { ValType::I32 });
    let ty = FuncType::new(linker.engine(), parameters, [ValType::I32]);
    linker.func_new(module, name, ty, move |caller, _, results| {
        permitted(&caller, name)?;
        caller.data().record(|recorder| recorder.answered(errno));
        results.fill(Val::I32(errno.cast_signed()));
        Ok(())
    })?;
    Ok(true)
}

fn answer(
    caller: Caller<'_, State>,
    name: &'static str,
    body: impl FnOnce(&mut Call<'_>) -> Errno,
) -> wasmtime::Result<u32> {
    permitted(&caller, name)?;
    let mut call = Call::of(caller);
    let errno = body(&mut call).err().unwrap_or(0);
    call.record(|recorder| recorder.answered(errno));
    Ok(errno)
}

/// What a program prints is logged: standard output at info, standard error at error, without the last line's end.
fn write(call: &mut Call<'_>, fd: u32, (vectors, count): (u32, u32), written: u32) -> Errno {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Error,
        _ => return Err(BAD_FILE),
    };
    let mut text = Vec::new();
    for nth in 0..count {
        let vector = call.read(Span(vectors.saturating_add(nth.saturating_mul(8)), 8)).or(Err(FAULT))?;
        let word = |at: usize| vector.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let span = word(0).zip(word(4)).map(|(at, length)| Span(at, length)).ok_or(FAULT)?;
        text.extend_from_slice(call.read(span).or(Err(FAULT))?);
    }
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    if size > 0 {
        let message = String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned();
        call.state_mut().logs.push(LogLine { level, message });
    }
    put(call, written, size)
}

/// Only standard output and error are there, and all they allow is writing.
fn file_status(call: &mut Call<'_>, fd: u32, ret: u32) -> Errno {
    const WRITE: u64 = 64;
    if !matches!(fd, 1 | 2) {
        return Err(BAD_FILE);
    }
    let words = [0, WRITE, 0].map(u64::to_le_bytes);
    fault(call.write(ret, words.as_flattened()))
}

fn environment_sizes(call: &mut Call<'_>, ret: Slot) -> Errno {
    let entries = entries(call);
    let size = entries.iter().map(String::len).sum::<usize>();
    let sized = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    put(call, ret.0, sized(entries.len()))?;
    put(call, ret.1, sized(size))
}

fn environment(call: &mut Call<'_>, mut entry: u32, mut bytes: u32) -> Errno {
    for text in entries(call) {
        put(call, entry, bytes)?;
        fault(call.write(bytes, text.as_bytes()))?;
        entry = entry.saturating_add(4);
        bytes = bytes.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    Ok(())
}

/// The environment as C has it: a name, an equals sign, the value and a NUL.
fn entries(call: &Call<'_>) -> Vec<String> {
    call.state().environment.iter().map(|(name, value)| format!("{name}={value}\0")).collect()
}

/// Envoy tells the time of day whether it is asked for that or for a clock that never goes back. No clock says 0, and
/// Go does not start on one that does.
fn time(call: &mut Call<'_>, clock: u32, ret: u32) -> Errno {
    if clock > 1 {
        return Err(NOT_SUPPORTED);
    }
    let now = u64::try_from(call.state().now.as_nanos()).unwrap_or(u64::MAX).max(1);
    fault(call.write_u64(ret, now))
}

fn random(call: &mut Call<'_>, at: u32, size: u32) -> Errno {
    if size > MOST_RANDOM {
        return Err(INVALID);
    }
    let bytes = call.state_mut().random.bytes(size as usize);
    fault(call.write(at, &bytes))
}

fn put(call: &mut Call<'_>, at: u32, word: u32) -> Errno {
    fault(call.write_u32(at, word))
}

fn fault(written: Result<(), Status>) -> Errno {
    written.or(Err(FAULT))
}
