//! One stock Envoy with one worker.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use isthmus::lab::Process;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::Outcome;
use super::compile::resident_bytes;
use super::ground::{Ground, cpu, process_of};

/// A module is compiled for each listener, before any of them listens.
const START: Duration = Duration::from_secs(120);

/// A running Envoy; dropping it ends it.
#[derive(Debug)]
pub(super) struct Proxy {
    _process: Process,
    number: u32,
}

impl Proxy {
    /// Starts Envoy and waits until it listens everywhere.
    pub(super) fn start(
        ground: &Ground,
        name: &str,
        (bootstrap, listening): (&Value, &[SocketAddr]),
    ) -> Outcome<Self> {
        let file = |end: &str| ground.dir.path().join(format!("{name}.{end}"));
        std::fs::write(file("json"), bootstrap.to_string())?;
        let mut process = Process::start(&ground.envoy, &file("json"), &file("log"))?;
        let number = process_of(&ground.envoy, &file("json"))?;
        let deadline = Instant::now() + START;
        for address in listening {
            while TcpStream::connect(address).is_err() {
                if process.has_ended() {
                    return Err(format!("Envoy ended by itself:\n{}", process.log_tail()).into());
                }
                if Instant::now() > deadline {
                    return Err(format!("Envoy does not listen:\n{}", process.log_tail()).into());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(Self { _process: process, number })
    }

    /// The CPU time that it has used, in nanoseconds.
    pub(super) fn cpu(&self) -> Outcome<u64> {
        cpu(self.number)
    }

    /// What it holds of memory.
    pub(super) fn resident_bytes(&self) -> Outcome<u64> {
        Ok(resident_bytes(&self.number.to_string()).ok_or("no VmRSS")?)
    }

    /// Gives Envoy a core and the load another, as long as the guard lives; where there is one core, nothing.
    pub(super) fn apart(&self) -> Outcome<Option<Apart>> {
        let all = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
        let [ours, .., its] = cores[..] else { return Ok(None) };
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.number))? {
            let number = thread?.file_name().to_str().and_then(|name| name.parse().ok());
            sched_setaffinity(number.and_then(Pid::from_raw), &only(its))?;
        }
        sched_setaffinity(None, &only(ours))?;
        Ok(Some(Apart { all }))
    }
}

/// The load runs on a core of its own until this is gone.
pub(super) struct Apart {
    all: CpuSet,
}

impl Drop for Apart {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.all).expect("what was so before");
    }
}

/// So many addresses on loopback that nobody listens on.
pub(super) fn addresses(count: usize) -> Outcome<Vec<SocketAddr>> {
    let held = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<Vec<_>, _>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
