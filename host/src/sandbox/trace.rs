//! What callbacks cost, and which hostcalls they made.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// A callback that ran while the VM was [recording](super::Vm::record).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callback {
    /// The export that ran.
    pub name: &'static str,
    /// The context it ran for; 0 is the VM.
    pub context: u32,
    /// The hostcalls it made, in order.
    pub hostcalls: Vec<Hostcall>,
    /// The instructions it ran, those of its allocator among them.
    pub fuel: u64,
    /// The size of the guest's memory when it returned.
    pub memory_bytes: usize,
}

/// A hostcall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hostcall {
    /// Its name, such as `proxy_get_property`.
    pub name: &'static str,
    /// What it answered: a status of the ABI, or an errno of WASI. `None` if it trapped.
    pub status: Option<u32>,
    /// What it read of the guest's memory, one piece for each pointer.
    pub read: Vec<Vec<u8>>,
    /// How many bytes it handed over, each time in memory that the guest's allocator made for them.
    pub given: Vec<usize>,
}

/// What callbacks cost together. Take it of all, or of those that matter: costs add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many callbacks.
    pub callbacks: usize,
    /// How many hostcalls they made.
    pub hostcalls: usize,
    /// How many bytes the host copied, out of the guest and into it.
    pub copied_bytes: usize,
    /// How often the guest's allocator ran for the host.
    pub allocations: usize,
    /// How many instructions ran.
    pub fuel: u64,
}

impl Callback {
    /// What it cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let copied = |call: &Hostcall| {
            call.read.iter().map(Vec::len).sum::<usize>() + call.given.iter().sum::<usize>()
        };
        Cost {
            callbacks: 1,
            hostcalls: self.hostcalls.len(),
            copied_bytes: self.hostcalls.iter().map(copied).sum(),
            allocations: self.hostcalls.iter().map(|call| call.given.len()).sum(),
            fuel: self.fuel,
        }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            callbacks: self.callbacks + more.callbacks,
            hostcalls: self.hostcalls + more.hostcalls,
            copied_bytes: self.copied_bytes + more.copied_bytes,
            allocations: self.allocations + more.allocations,
            fuel: self.fuel + more.fuel,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

impl<'a> Sum<&'a Callback> for Cost {
    fn sum<I: Iterator<Item = &'a Callback>>(callbacks: I) -> Self {
        callbacks.map(Callback::cost).sum()
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of context {}: {} instructions", self.name, self.context, self.fuel)?;
        self.hostcalls.iter().try_for_each(|call| write!(f, "\n  {call}"))
    }
}

impl fmt::Display for Hostcall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read: Vec<String> = self.read.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
        write!(f, "{}({})", self.name, read.join(", "))?;
        match self.status {
            Some(status) => write!(f, " = {status}")?,
            None => write!(f, " trapped")?,
        }
        self.given.iter().try_for_each(|bytes| write!(f, ", gave {bytes} bytes"))
    }
}

/// Notes callbacks and their hostcalls.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    callbacks: Vec<Callback>,
    /// The hostcalls that run: more than one while an allocator calls back.
    running: Vec<usize>,
}

impl Recorder {
    pub(crate) fn enter(&mut self, name: &'static str, context: u32) {
        self.running.clear();
        self.callbacks.push(Callback { name, context, ..Callback::default() });
    }

    pub(crate) fn leave(&mut self, fuel: u64, memory_bytes: usize) {
        if let Some(callback) = self.callbacks.last_mut() {
            (callback.fuel, callback.memory_bytes) = (fuel, memory_bytes);
        }
    }

    pub(crate) fn call(&mut self, name: &'static str) {
        if let Some(callback) = self.callbacks.last_mut() {
            self.running.push(callback.hostcalls.len());
            callback.hostcalls.push(Hostcall { name, ..Hostcall::default() });
        }
    }

    pub(crate) fn answered(&mut self, status: u32) {
        if let Some(call) = self.running() {
            call.status = Some(status);
        }
        self.running.pop();
    }

    /// The call that runs traps, and says nothing.
    pub(crate) fn refused(&mut self) {
        self.running.pop();
    }

    pub(crate) fn read(&mut self, bytes: &[u8]) {
        if let Some(call) = self.running() {
            call.read.push(bytes.to_vec());
        }
    }

    pub(crate) fn gave(&mut self, bytes: usize) {
        if let Some(call) = self.running() {
            call.given.push(bytes);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Callback> {
        std::mem::take(&mut self.callbacks)
    }

    fn running(&mut self) -> Option<&mut Hostcall> {
        self.callbacks.last_mut()?.hostcalls.get_mut(*self.running.last()?)
    }
}
