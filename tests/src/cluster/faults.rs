//! What stands between a client and an API server, and breaks what it is told to.

use std::collections::VecDeque;
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
    hang_at: Mutex<Option<String>>,
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

    /// Nothing happens to requests any more.
    pub fn clear(&self) {
        self.state.faults.lock().expect("a queue").clear();
    }

    /// The next request whose method and path contain this gets no answer.
    pub fn hang_at(&self, what: &str) {
        *self.state.hang_at.lock().expect("a word") = Some(what.to_owned());
    }

    /// When which methods and paths were asked for since this was asked last, whatever became of them.
    pub fn seen(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.state.seen.lock().expect("a list"))
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
    let hang = state.hang_at.lock().expect("a word").take_if(|what| line.contains(&**what)).is_some();
    state.seen.lock().expect("a list").push((Instant::now(), line));
    let fault = if hang { Some(Fault::Hang) } else { state.faults.lock().expect("a queue").pop_front() };
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
        Some(Fault::CutAfter) => {
            forward(request, &client).await;
            Err("cut")
        }
        Some(Fault::Pass) | None => Ok(forward(request, &client).await),
    }
}

async fn forward(request: Request<Incoming>, client: &Client) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
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
