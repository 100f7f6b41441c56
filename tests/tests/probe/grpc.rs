//! A gRPC service that answers the calls of a scenario in turn, and what the sandbox is told instead.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};

use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use isthmus::sandbox::{GrpcAnswer, GrpcCall, Headers, Vm};
use tokio::task::JoinSet;

use super::script::{Exchange, Fields, Message};

/// What stands before each message: it is not compressed, and so long.
const PREFIX: usize = 5;

pub(super) struct Service {
    pub(super) at: SocketAddr,
    /// The calls, as they came.
    pub(super) reached: Receiver<String>,
}

impl Service {
    pub(super) fn serve(listener: TcpListener, exchanges: &[Exchange]) -> Self {
        let at = listener.local_addr().expect("an address");
        let (tell, reached) = channel();
        let answers = exchanges.iter().flat_map(|exchange| exchange.calls.clone()).collect();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, answers, &tell));
        });
        Self { at, reached }
    }
}

/// Envoy keeps one connection to the service.
async fn serve(listener: TcpListener, mut answers: VecDeque<Message>, tell: &Sender<String>) {
    listener.set_nonblocking(true).expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let Ok((stream, _)) = listener.accept().await else { return };
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let mut answering = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let answer = answers.pop_front().unwrap_or_default();
        let tell = tell.clone();
        answering.spawn(async move {
            // Nobody listens once the test has failed.
            let _told = tell.send(answered(request, respond, &answer).await);
        });
    }
}

/// Answers a call once its first message is there; what it was is the answer.
async fn answered(
    mut request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: &Message,
) -> String {
    let message = request.body_mut().data().await.and_then(Result::ok).unwrap_or_default();
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response.headers_mut().extend(map(&answer.headers));
    let alone = answer.chunks.is_empty() && answer.trailers.is_empty();
    if let Ok(mut stream) = respond.send_response(response, alone)
        && !alone
    {
        for chunk in &answer.chunks {
            let length = u32::try_from(chunk.len()).expect("a length").to_be_bytes();
            let _sent = stream.send_data([&[0][..], &length, chunk].concat().into(), false);
        }
        let _sent = stream.send_trailers(map(&answer.trailers));
    }
    let own = request.headers().iter().filter(|(name, _)| is_own(name.as_str()));
    let own = own.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    shown(request.uri().path(), &own.collect::<Vec<_>>(), message.get(PREFIX..).unwrap_or_default())
}

fn map(fields: &Fields) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    fields.iter().filter_map(pair).collect()
}

/// Whether a module has set it: Envoy adds its own.
fn is_own(name: &str) -> bool {
    name.starts_with("x-") && !name.starts_with("x-envoy") && !name.starts_with("x-forwarded")
}

fn shown(path: &str, own: &[(String, String)], message: &[u8]) -> String {
    let own: Vec<String> = own.iter().map(|(name, value)| format!("{name}: {value}; ")).collect();
    format!("service: {path}; {}{:?}", own.concat(), String::from_utf8_lossy(message))
}

/// Answers the calls of a module in the sandbox; the answer is what they were.
pub(super) fn called(vm: &Vm, exchange: &Exchange) -> Vec<String> {
    let mut got = Vec::new();
    for answer in &exchange.calls {
        let Some(call) = vm.grpc_calls().into_iter().find(|call| !call.messages.is_empty()) else { break };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let own = call.metadata.iter().map(|(name, value)| (text(name), text(value)));
        let own: Vec<_> = own.filter(|(name, _)| is_own(name)).collect();
        let path = format!("/{}/{}", call.service, call.method);
        got.push(shown(&path, &own, call.messages.first().map(Vec::as_slice).unwrap_or_default()));
        for answer in answers(&call, answer) {
            // A trap is in the lines.
            let _answered = vm.answer_grpc(call.token, answer);
        }
    }
    got
}

/// What a service does that answers so, as the sandbox is told.
fn answers(call: &GrpcCall, answer: &Message) -> Vec<GrpcAnswer> {
    let alone = answer.chunks.is_empty() && answer.trailers.is_empty();
    let end = if alone { &answer.headers } else { &answer.trailers };
    let find = |name: &str| end.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let status: u32 = find("grpc-status").and_then(|status| status.parse().ok()).unwrap_or_default();
    let close = GrpcAnswer::Close { status, message: find("grpc-message").unwrap_or_default() };
    let messages = answer.chunks.iter().cloned().map(GrpcAnswer::Message);
    if !call.streaming {
        return if status == 0 { messages.take(1).collect() } else { vec![close] };
    }
    let mut initial = Headers::from([(":status", "200"), ("content-type", "application/grpc")]);
    for (name, value) in &answer.headers {
        initial.add(name, value.as_str());
    }
    let trailing: Headers = end.iter().map(|(name, value)| (name, value.as_str())).collect();
    let mut all = vec![GrpcAnswer::InitialMetadata(initial)];
    all.extend(messages);
    all.extend([GrpcAnswer::TrailingMetadata(trailing), close]);
    all
}
