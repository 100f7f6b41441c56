//! What stands between a client and an API server, and breaks what it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to a request instead of reaching the server.
#[derive(Debug, Clone)]
pub enum Fault {
    /// None: the server answers.
    Pass,
    /// This answer, with a `Retry-After` of so many seconds.
    Answer(StatusCode, Option<u64>, &'static str),
    /// No answer, as long as the client waits.
    Hang,
    /// The connection is cut before the server gets the request.
    Cut,
    /// The server gets the request, and the connection is cut before its answer arrives.
    CutAfter,
    /// The server gets the request and does it, and nobody hears of its answer. When it is done, so is seen.
    HangAfter,
    /// The server gets an object whose plan says so many bytes more.
    Grow(usize),
    /// The server answers somebody else.
    As(Somebody),
}

/// Whoever a client is to the server.
#[derive(Clone)]
pub struct Somebody(pub Client);

impl fmt::Debug for Somebody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client has credentials.
        out.write_str("Somebody")
    }
}

/// To which requests a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// To the first whose method and path contain a text.
    Once,
    /// To all of them.
    Each,
    /// To the first of them, and to whatever comes after it.
    Onward,
    /// To whatever comes after the first of them, which passes.
    After,
}

/// A proxy over plain HTTP, which ends with this value. Requests take the faults in turn; when there are none left, the
/// server answers.
#[derive(Debug)]
pub struct Faulty {
    url: String,
    state: Arc<State>,
    // Its tasks end with it.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Mutex<Vec<(String, Span, Fault)>>,
    faults: Mutex<VecDeque<Fault>>,
    seen: Mutex<Vec<(Instant, String)>>,
}

impl Faulty {
    /// A proxy before the server that this client reaches.
    pub async fn before(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, client, Arc::clone(&state)));
        Self { url, state, _tasks: tasks }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What happens to the next requests.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.lock().expect("a queue").extend(faults);
    }

    /// What happens to requests whose method and path contain this, before those that [`Self::next`] is about.
    pub fn at(&self, what: &str, span: Span, fault: Fault) {
        self.state.waiting.lock().expect("a list").push((what.to_owned(), span, fault));
    }

    /// Nothing happens to requests any more.
    pub fn clear(&self) {
        self.state.faults.lock().expect("a queue").clear();
        self.state.waiting.lock().expect("a list").clear();
    }

    /// The next request whose method and path contain this gets no answer.
    pub fn hang_at(&self, what: &str) {
        self.at(what, Span::Once, Fault::Hang);
    }

    /// When which methods and paths were asked for since this was asked last, whatever became of them.
    pub fn seen(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.state.seen.lock().expect("a list"))
    }
}

impl State {
    /// What happens to a request.
    fn fault(&self, line: &str) -> Option<Fault> {
        let mut waiting = self.waiting.lock().expect("a list");
        let found = waiting.iter_mut().enumerate().find(|(_, (what, ..))| line.contains(&**what));
        let Some((number, (what, span, fault))) = found else {
            return self.faults.lock().expect("a queue").pop_front();
        };
        let fault = fault.clone();
        match span {
            Span::Once => drop(waiting.remove(number)),
            Span::Each => {}
            // Every line contains it.
            Span::Onward => what.clear(),
            Span::After => {
                what.clear();
                *span = Span::Each;
                return Some(Fault::Pass);
            }
        }
        Some(fault)
    }
}

async fn accept(listener: TcpListener, client: Client, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        connections.spawn(serve(stream, client.clone(), Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, client: Client, state: Arc<State>) {
    let service = service_fn(|request| answer(request, client.clone(), &state));
    // A connection that is cut, by either side, is what this is for.
    let _cut = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_err();
}

/// An error as an answer cuts the connection.
async fn answer(
    request: Request<Incoming>,
    client: Client,
    state: &State,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let line = format!("{} {}", request.method(), request.uri());
    let fault = state.fault(&line);
    let see = |line: String| state.seen.lock().expect("a list").push((Instant::now(), line));
    see(line.clone());
    match fault {
        Some(Fault::Cut) => Err("cut"),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Answer(code, retry_after, text)) => {
            let answer = Response::builder().status(code);
            let answer = match retry_after {
                Some(seconds) => answer.header("retry-after", seconds),
                None => answer,
            };
            Ok(answer.body(Full::from(text)).expect("an answer"))
        }
        Some(Fault::As(Somebody(other))) => Ok(forward(request, &other, 0).await),
        Some(Fault::Grow(bytes)) => Ok(forward(request, &client, bytes).await),
        Some(Fault::HangAfter) => {
            forward(request, &client, 0).await;
            see(format!("done: {line}"));
            std::future::pending().await
        }
        Some(Fault::CutAfter) => {
            forward(request, &client, 0).await;
            Err("cut")
        }
        Some(Fault::Pass) | None => Ok(forward(request, &client, 0).await),
    }
}

/// Has the server answer, after its object has grown by so many bytes.
async fn forward(request: Request<Incoming>, client: &Client, more: usize) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.expect("a body").to_bytes();
    if more > 0 {
        let mut object: Value = serde_json::from_slice(&body).expect("an object");
        let plan = object.pointer_mut("/spec/pluginConfig").and_then(Value::as_object_mut);
        plan.expect("a plan").insert("more".to_owned(), "x".repeat(more).into());
        body = object.to_string().into();
    }
    let mut request =
        Request::builder().method(head.method).uri(head.uri.path_and_query().expect("a path").as_str());
    if let Some(content) = head.headers.get("content-type") {
        request = request.header("content-type", content);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let Ok(answer) = client.send(request).await else {
        let down = Response::builder().status(StatusCode::BAD_GATEWAY).body(Full::default());
        return down.expect("an answer");
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let mut answer = Response::builder().status(head.status);
    if let Some(content) = head.headers.get("content-type") {
        answer = answer.header("content-type", content);
    }
    answer.body(Full::new(body)).expect("an answer")
}
