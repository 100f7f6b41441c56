//! The load: connections that each have a request under way, all in one thread.
//!
//! Answers are taken in turn: while one is waited for the others come in, so that it takes no readiness to keep
//! sixteen requests under way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Outcome;

/// How many connections there are.
pub(super) const CONNECTIONS: usize = 16;

/// No answer takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that is kept.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An answer: what came, to the byte.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Connection {
    /// Connects, and shows a certificate where there is one.
    pub(super) fn open(to: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Outcome<Self> {
        let tcp = TcpStream::connect(to)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Ok(match tls {
            None => Self::Plain(tcp),
            Some(config) => {
                let tls = ClientConnection::new(Arc::clone(config), "sidecar".try_into()?)?;
                Self::Tls(Box::new(StreamOwned::new(tls, tcp)))
            }
        })
    }

    /// Many connections to one place.
    pub(super) fn open_all(to: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Outcome<Vec<Self>> {
        (0..CONNECTIONS).map(|_| Self::open(to, tls)).collect()
    }

    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut **tls,
        }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: &[u8]) -> Outcome<()> {
        let stream = self.stream();
        stream.write_all(request)?;
        Ok(stream.flush()?)
    }

    /// Takes one whole answer.
    pub(super) fn receive(&mut self) -> Outcome<Answer> {
        let mut held = [0; 8192];
        let mut length = 0;
        loop {
            let read = self.stream().read(&mut held[length..])?;
            length += read;
            let came = std::str::from_utf8(&held[..length])?;
            if let Some(status) = whole(came)? {
                return Ok(Answer { status, text: came.to_owned() });
            }
            if read == 0 {
                return Err(format!("the answer broke off after {came:?}").into());
            }
        }
    }

    /// Sends a request and takes its answer.
    pub(super) fn ask(&mut self, request: &[u8]) -> Outcome<Answer> {
        self.send(request)?;
        self.receive()
    }
}

/// The status of an answer, once it is whole.
fn whole(came: &str) -> Outcome<Option<u16>> {
    let Some((head, body)) = came.split_once("\r\n\r\n") else { return Ok(None) };
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    let said = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = said.ok_or_else(|| format!("an answer without a length: {came:?}"))?.parse()?;
    match body.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(status)),
        std::cmp::Ordering::Greater => Err(format!("more than an answer: {came:?}").into()),
    }
}

/// Loads the connections for a while; how many answers there were, each of this status.
pub(super) fn slice(
    connections: &mut [Connection],
    request: &[u8],
    status: u16,
    time: Duration,
) -> Outcome<u64> {
    let end = Instant::now() + time;
    for connection in connections.iter_mut() {
        connection.send(request)?;
    }
    let mut answers = 0;
    loop {
        let is_last = Instant::now() >= end;
        for connection in connections.iter_mut() {
            let answer = connection.receive()?;
            if answer.status != status {
                return Err(format!("{status} was expected, and this came: {}", answer.text).into());
            }
            answers += 1;
            if !is_last {
                connection.send(request)?;
            }
        }
        if is_last {
            return Ok(answers);
        }
    }
}

/// A request with the headers that an ordinary client sends.
pub(super) fn request(host: &str, path: &str, agent: &str, tags: &[(&str, &str)]) -> Vec<u8> {
    let tags: String = tags.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: application/json\r\n\
         accept-encoding: gzip, deflate, br\r\naccept-language: en-GB,en;q=0.5\r\n\
         x-request-id: 8d9b1f0e-3c1d-4c55-9a4e-1f6d9d1f6b1c\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         cookie: session=5f0c2d3b9a; theme=dark\r\n{tags}\r\n"
    )
    .into_bytes()
}
