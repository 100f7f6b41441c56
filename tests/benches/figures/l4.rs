//! `filter.l4`: what a filter adds to the CPU time that an east-west gateway takes for a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use isthmus::plugin;
use policy::plan::Role;
use rustls::ClientConnection;

use super::Outcome;
use super::certificates::Certificates;
use super::figure::Report;
use super::ground::Ground;
use super::listener::{bootstrap, tcp, upstream, wasm};
use super::proxy::{Proxy, addresses};
use super::rounds::Measured;
use super::world::exposed;

const ROUNDS: usize = 15;
/// So many at once, so many times.
const CONNECTIONS: usize = 16;
const TIMES: usize = 40;

/// What the upstream says to everyone.
const GREETING: &[u8] = b"ok";
const PATIENCE: Duration = Duration::from_secs(20);

/// Microseconds of CPU a connection.
const UNIT: &str = "us/con";
const SHOWN: &str = "outbound_.80_._.s0.shop0.svc.cluster.local";
const HIDDEN: &str = "outbound_.80_._.s1.shop0.svc.cluster.local";

/// Connections by SNI, each new.
pub(super) fn connections(report: &mut Report) -> Outcome<()> {
    let ground = Ground::find()?;
    let certificates = Certificates::make(ground.dir.path())?;
    let hello = |sni| hello(&certificates, sni);
    let configuration =
        plugin::configuration(Role::Gateway, &exposed()?.at(Role::Gateway, &"shop0".parse()?))?;
    let ours = wasm("network", "l4", &ground.isthmus, &serde_json::to_string(&configuration)?);
    let noop = wasm("network", "l4_noop", &ground.noop, "network");
    let filters = [None, None, Some(&noop), Some(&ours)];
    let at = addresses(filters.len())?;
    let behind = Upstream::start()?;
    let listeners: Vec<_> = at.iter().zip(filters).map(|(at, filter)| tcp(*at, filter)).collect();
    let proxy = Proxy::start(&ground, "l4", (&bootstrap(&listeners, &[upstream(behind.address)]), &at))?;
    let _apart = proxy.apart()?;
    let (shown, hidden) = (hello(SHOWN)?, hello(HIDDEN)?);
    let answer = said(at[3], &hidden)?;
    if !answer.is_empty() {
        return Err(format!("the gateway should hide {HIDDEN}, and it says {answer:?}").into());
    }
    let measured = Measured::alternating(ROUNDS, filters.len(), |lane| {
        let before = proxy.cpu()?;
        for _ in 0..TIMES {
            pass(at[lane], &shown)?;
        }
        Ok((proxy.cpu()? - before) as f64 / (TIMES * CONNECTIONS) as f64 / 1e3)
    })?;
    measured.report_nothing(report, "filter.l4_none", UNIT);
    let [noop, ours] = [2, 3].map(|lane| measured.added(lane));
    report.put("filter.l4_noop.added_us", noop, UNIT);
    report.put("filter.l4.added_us", ours, UNIT);
    report.at_most("filter.l4.over_noop", ours / noop, "ratio", 1.5);
    Ok(())
}

/// What a client of TLS says first.
fn hello(certificates: &Certificates, sni: &'static str) -> Outcome<Vec<u8>> {
    let mut client = ClientConnection::new(certificates.client("ns0")?, sni.try_into()?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

fn open(at: SocketAddr, hello: &[u8]) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(hello)?;
    Ok(stream)
}

/// What comes through a new connection until it ends; a gateway that closes at once has not read what it was sent,
/// so the system resets the connection.
fn said(at: SocketAddr, hello: &[u8]) -> Outcome<Vec<u8>> {
    let mut came = Vec::new();
    match open(at, hello)?.read_to_end(&mut came) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        Ok(_) | Err(_) => Ok(came),
    }
}

/// Passes a few connections, all of which must reach the upstream.
fn pass(at: SocketAddr, hello: &[u8]) -> Outcome<()> {
    let streams = (0..CONNECTIONS).map(|_| open(at, hello)).collect::<Outcome<Vec<_>>>()?;
    for mut stream in streams {
        let mut came = Vec::new();
        stream.read_to_end(&mut came)?;
        if came != GREETING {
            return Err(format!("the upstream was not reached: {came:?}").into());
        }
    }
    Ok(())
}

/// Takes a client's first words, answers and closes.
struct Upstream {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that breaks here is one that its client reports.
                drop(stream.and_then(greet));
            }
        });
        Ok(Self { address, is_over, thread: Some(thread) })
    }
}

/// Reads one record of TLS to its end, so that closing resets nothing.
fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [_, _, _, high, low] = head;
    stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([high, low]))])?;
    stream.write_all(GREETING)
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // One more connection, for it to notice.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
