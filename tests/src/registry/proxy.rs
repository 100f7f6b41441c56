//! What stands between a client and a registry, and breaks what it is told to.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer instead of the registry's, with these headers.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// No answer, as long as the client waits.
    Hang,
    /// The connection is cut before the registry gets the request.
    Cut,
    /// The connection is cut when a part of what is sent has arrived; the registry gets nothing.
    CutInside,
    /// The registry gets the request, and the connection is cut before its answer arrives.
    CutAfter,
    /// Of the answer, only a half arrives, and then the connection is cut.
    Half,
    /// Of the answer, only a half arrives, and it looks whole.
    Short,
    /// The answer arrives with another last byte.
    Lie,
}

/// A proxy over plain HTTP, which ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    state: Arc<State>,
    // Its tasks end with it.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// How often a fault still happens to requests whose method and path contain a word; `None`: always.
    faults: Mutex<Vec<(String, Fault, Option<usize>)>>,
    seen: Mutex<Vec<(Instant, String)>>,
    shown: Mutex<Vec<(String, Option<String>)>>,
}

impl Proxy {
    /// A proxy before what answers at this host and port.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            shown: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What happens to the next so many requests whose method and path contain this, after what was said before.
    pub fn times(&self, count: usize, what: &str, fault: Fault) {
        self.state.faults.lock().expect("a list").push((what.to_owned(), fault, Some(count)));
    }

    /// What happens to all requests whose method and path contain this.
    pub fn always(&self, what: &str, fault: Fault) {
        self.state.faults.lock().expect("a list").push((what.to_owned(), fault, None));
    }

    /// From now on nothing happens to any.
    pub fn heal(&self) {
        self.state.faults.lock().expect("a list").clear();
    }

    /// When which methods and paths were asked for since this was asked last, whatever became of them.
    pub fn seen(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.state.seen.lock().expect("a list"))
    }

    /// What was shown as `Authorization` with which methods and paths since this was asked last.
    pub fn shown(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.state.shown.lock().expect("a list"))
    }
}

impl State {
    fn note(&self, line: &str, request: &Request<Incoming>) {
        self.seen.lock().expect("a list").push((Instant::now(), line.to_owned()));
        let shown =
            request.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned());
        self.shown.lock().expect("a list").push((line.to_owned(), shown));
    }

    fn fault(&self, line: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("a list");
        let (_, fault, left) =
            faults.iter_mut().find(|(what, _, left)| line.contains(&**what) && *left != Some(0))?;
        if let Some(left) = left {
            *left -= 1;
        }
        Some(fault.clone())
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        connections.spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| answer(request, &state));
    // A connection that is cut, by either side, is what this is for.
    let _cut = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_err();
}

/// An error as an answer cuts the connection.
async fn answer(mut request: Request<Incoming>, state: &State) -> Result<Response<Part>, &'static str> {
    let line = format!("{} {}", request.method(), request.uri());
    let fault = state.fault(&line);
    state.note(&line, &request);
    match fault {
        None => forward(request, state).await.map(|answer| answer.map(Part::whole)),
        Some(Fault::Answer(code, headers, text)) => {
            let mut answer = Response::builder().status(code);
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            Ok(answer.body(Part::whole(text.into())).expect("an answer"))
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Cut) => Err("cut"),
        Some(Fault::CutInside) => {
            request.body_mut().frame().await.expect("a part").expect("of a body");
            Err("cut")
        }
        Some(Fault::CutAfter) => forward(request, state).await.and(Err("cut")),
        Some(Fault::Half) => forward(request, state).await.map(|answer| answer.map(|body| Part::half(&body))),
        Some(Fault::Short) => {
            let mut answer = forward(request, state).await?;
            answer.headers_mut().remove("content-length");
            Ok(answer.map(|body| Part::whole(body.slice(..body.len() / 2))))
        }
        Some(Fault::Lie) => Ok(forward(request, state).await?.map(|body| {
            let mut body = body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            Part::whole(body.into())
        })),
    }
}

/// The registry's answer. It sees the name that the client used, as it says itself where uploads go.
async fn forward(request: Request<Incoming>, state: &State) -> Result<Response<Bytes>, &'static str> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_gone| "the client has gone")?.to_bytes();
    let path = head.uri.path_and_query().expect("a path").clone();
    head.uri = format!("http://{}{path}", state.upstream).parse().expect("a URL");
    let Ok(answer) = state.client.request(Request::from_parts(head, Full::new(body))).await else {
        let down = Response::builder().status(StatusCode::BAD_GATEWAY).body(Bytes::new());
        return Ok(down.expect("an answer"));
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_gone| "the registry has gone")?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// What arrives of a body.
struct Part {
    bytes: Option<Bytes>,
    size: u64,
}

impl Part {
    fn whole(bytes: Bytes) -> Self {
        Self { size: bytes.len() as u64, bytes: Some(bytes) }
    }

    fn half(bytes: &Bytes) -> Self {
        Self { size: bytes.len() as u64, bytes: Some(bytes.slice(..bytes.len() / 2)) }
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let rest = self.size;
        Poll::Ready(match self.bytes.take() {
            Some(bytes) if bytes.is_empty() && rest == 0 => None,
            Some(bytes) => {
                self.size -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            None if rest > 0 => Some(Err("cut")),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size == 0 && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size)
    }
}
