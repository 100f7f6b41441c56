//! Scripts: what a probe calls in each of its callbacks, and the traffic it sees. See tests/probe/README.md.

use std::collections::{BTreeMap, BTreeSet};

/// A probe and its traffic.
#[derive(Debug, Clone, Default)]
pub(super) struct Scenario {
    /// The name of its file and its own: `headers.reads`.
    pub(super) name: String,
    pub(super) exchanges: Vec<Exchange>,
    /// What it does in each callback, by the callback's name.
    pub(super) callbacks: BTreeMap<String, Vec<Step>>,
    pub(super) marks: BTreeSet<Mark>,
    /// Its clients speak TLS: with a certificate, or without.
    pub(super) tls: Option<bool>,
    /// How many bytes of a body Envoy buffers.
    pub(super) limit: Option<u32>,
    /// What becomes of streams when the module traps: `OPEN`, `CLOSED` or `RELOAD`.
    pub(super) policy: Option<String>,
    /// A module of another language, in place of one that is made of the script.
    pub(super) module: Option<Vec<u8>>,
    /// Other plugins of its VM, each at a listener of its own: their root ids and configurations.
    pub(super) plugins: Vec<(String, Vec<u8>)>,
}

/// What is special about a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Its contexts are not deleted: the guest traps.
    Traps,
    /// The client gets no answer, and leaves.
    Hangs,
    /// Its connections stay open for ever.
    Stays,
    /// Its clients speak HTTP/2.
    Http2,
    /// Envoy has two workers.
    Workers,
    /// Envoy does not take its configuration, and ends.
    Ends,
}

impl Mark {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "traps" => Self::Traps,
            "hangs" => Self::Hangs,
            "stays" => Self::Stays,
            "http2" => Self::Http2,
            "workers" => Self::Workers,
            "ends" => Self::Ends,
            _ => return None,
        })
    }
}

impl Scenario {
    pub(super) fn is(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// Whether it is a filter of connections.
    pub(super) fn is_tcp(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.connection.is_some())
    }

    /// Whether its plugin's configuration changes.
    pub(super) fn changes(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.update.is_some())
    }

    /// Whether its module calls a service by gRPC.
    pub(super) fn calls_grpc(&self) -> bool {
        self.exchanges.iter().any(|exchange| !exchange.calls.is_empty())
    }

    /// Whether its timer fires, or a queue is filled.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = &str> {
        ["tick", "queue_ready"].into_iter().filter(|name| self.callbacks.contains_key(*name))
    }

    /// What the log says when a stream is over.
    pub(super) fn last_words(&self) -> &'static str {
        if self.module.is_some() { ": end\n" } else { ": delete: " }
    }

    /// Whether its allocator says something, which Envoy logs for the VM and for no plugin.
    pub(super) fn logs_in_malloc(&self) -> bool {
        let steps = self.callbacks.get("malloc").into_iter().flatten();
        steps.into_iter().any(|step| matches!(step, Step::Call(call) if call.name == "log"))
    }
}

/// A request on a connection of its own, and the response that an upstream has for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    pub(super) request: Message,
    pub(super) response: Message,
    /// What the module's own requests are answered meanwhile.
    pub(super) callouts: Vec<Message>,
    /// What a service answers to the module's calls by gRPC.
    pub(super) calls: Vec<Message>,
    /// It is sent again until it is not answered with 503.
    pub(super) eventually: bool,
    /// Instead of all this: what the two ends of a TCP connection send.
    pub(super) connection: Option<Vec<Move>>,
    /// Instead of all this: what the plugin is configured with from now on.
    pub(super) update: Option<Vec<u8>>,
    /// It goes to the worker that did not get the first one.
    pub(super) to_another: bool,
    /// It passes this one of the scenario's other plugins.
    pub(super) through: Option<String>,
}

/// Bytes from one end of a TCP connection, or its end.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) from_client: bool,
    /// Nothing stands for the end.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Move {
    fn read(line: &str) -> Option<Self> {
        let (from, what) = line.split_once(' ')?;
        let bytes = if what == "end" { None } else { Some(bytes(what)?) };
        Some(Self { from_client: from == ">", bytes })
    }
}

/// One direction: the first line without its version, and what follows.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) first: String,
    pub(super) headers: Fields,
    /// The body; each part is sent when the one before has arrived.
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) trailers: Fields,
}

pub(super) type Fields = Vec<(String, String)>;

impl Message {
    /// A line of a script: `+ "a chunk"`, `~ trailer: value`, or `header: value`.
    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(chunk) = line.strip_prefix("+ ") {
            self.chunks.push(bytes(chunk)?);
            return Some(());
        }
        let (fields, line) = match line.strip_prefix("~ ") {
            Some(line) => (&mut self.trailers, line),
            None => (&mut self.headers, line),
        };
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_owned(), value.trim().to_owned()));
        Some(())
    }
}

/// One thing that a probe does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Call(Call),
    Return(i32),
    Trap,
    /// Traps if the call before gave this status.
    TrapIf(i32),
    /// Answers this if the callback's second parameter is as great as that.
    ReturnIf(i32, u32),
}

/// A hostcall with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// As the script has it: what observations are compared by.
    pub(super) text: String,
    /// Without `proxy_`.
    pub(super) name: String,
    pub(super) arguments: Vec<Argument>,
    /// What the number that it gives is called from then on.
    pub(super) keeps: Option<String>,
    /// Where it shall put what it gives, if not where there is room for it.
    pub(super) to: Option<u32>,
}

/// An argument that stands in a script.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    Number(i64),
    Bytes(Vec<u8>),
    /// An address and a length, wherever that is.
    Span(u32, u32),
    /// `me`, `root`, or what a call before gave.
    Name(String),
}

/// Reads the scenarios of a file.
pub(super) fn read(file: &str, text: &str) -> Vec<Scenario> {
    let mut reader = Reader::default();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("tests/probe/{file}.txt:{}: {line}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let done = match line.strip_prefix("  ") {
            Some(inner) => reader.inner(inner.trim()),
            None => reader.outer(file, line.trim()),
        };
        done.unwrap_or_else(|| panic!("{}", place()));
    }
    reader.scenarios
}

#[derive(Default)]
struct Reader {
    scenarios: Vec<Scenario>,
    words: BTreeMap<String, String>,
    block: Block,
}

#[derive(Default)]
enum Block {
    #[default]
    None,
    Request,
    Response,
    Callout,
    Call,
    Connection,
    Callback(String),
}

impl Reader {
    fn outer(&mut self, file: &str, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "let" {
            let (name, words) = rest.split_once(" = ")?;
            self.words.insert(format!("${name}"), format!("{{{words}}}"));
            return Some(());
        }
        if word == "update" {
            let exchange = Exchange { update: Some(bytes(rest)?), ..Exchange::default() };
            self.scenarios.last_mut()?.exchanges.push(exchange);
            self.block = Block::None;
            return Some(());
        }
        if word == "scenario" {
            self.scenarios.push(Scenario { name: format!("{file}.{rest}"), ..Scenario::default() });
            self.block = Block::None;
            return Some(());
        }
        let scenario = self.scenarios.last_mut()?;
        scenario.marks.extend(Mark::of(word));
        match word {
            word if Mark::of(word).is_some() => {}
            "request" => {
                let request = Message { first: rest.to_owned(), ..Message::default() };
                scenario.exchanges.push(Exchange { request, ..Exchange::default() });
                self.block = Block::Request;
            }
            "response" => {
                scenario.exchanges.last_mut()?.response.first = rest.to_owned();
                self.block = Block::Response;
            }
            "callout" => {
                let response = Message { first: rest.to_owned(), ..Message::default() };
                scenario.exchanges.last_mut()?.callouts.push(response);
                self.block = Block::Callout;
            }
            "calls" => {
                scenario.exchanges.last_mut()?.calls.push(Message::default());
                self.block = Block::Call;
            }
            "connect" => {
                scenario.exchanges.push(Exchange { connection: Some(Vec::new()), ..Exchange::default() });
                self.block = Block::Connection;
            }
            "on" => {
                scenario.callbacks.insert(rest.to_owned(), Vec::new());
                self.block = Block::Callback(rest.to_owned());
            }
            "to" if rest == "another" => scenario.exchanges.last_mut()?.to_another = true,
            "through" => scenario.exchanges.last_mut()?.through = Some(rest.to_owned()),
            "plugin" => {
                let (root_id, configuration) = rest.split_once(' ')?;
                scenario.plugins.push((root_id.to_owned(), bytes(configuration)?));
            }
            "tls" => scenario.tls = Some(rest == "certificate"),
            "limit" => scenario.limit = Some(rest.parse().ok()?),
            "policy" => scenario.policy = Some(rest.to_owned()),
            "eventually" => scenario.exchanges.last_mut()?.eventually = true,
            _ => return None,
        }
        Some(())
    }

    fn inner(&mut self, line: &str) -> Option<()> {
        let scenario = self.scenarios.last_mut()?;
        match &self.block {
            Block::None => return None,
            Block::Request => scenario.exchanges.last_mut()?.request.take(line)?,
            Block::Response => scenario.exchanges.last_mut()?.response.take(line)?,
            Block::Callout => scenario.exchanges.last_mut()?.callouts.last_mut()?.take(line)?,
            Block::Call => scenario.exchanges.last_mut()?.calls.last_mut()?.take(line)?,
            Block::Connection => {
                scenario.exchanges.last_mut()?.connection.as_mut()?.push(Move::read(line)?);
            }
            Block::Callback(name) => {
                let full =
                    self.words.iter().fold(line.to_owned(), |line, (name, words)| line.replace(name, words));
                for line in expanded(&full) {
                    scenario.callbacks.get_mut(name)?.push(step(&line)?);
                }
            }
        }
        Some(())
    }
}

/// A line for each word in its braces, and for each pair of words where it has two of them.
fn expanded(line: &str) -> Vec<String> {
    let Some((before, rest)) = line.split_once('{') else { return vec![line.to_owned()] };
    let Some((words, after)) = rest.split_once('}') else { return vec![line.to_owned()] };
    let after = expanded(after);
    words
        .split_whitespace()
        .flat_map(|word| after.iter().map(move |after| format!("{before}{word}{after}")))
        .collect()
}

fn step(line: &str) -> Option<Step> {
    if line == "trap" {
        return Some(Step::Trap);
    }
    if let Some(status) = line.strip_prefix("trap if ") {
        return Some(Step::TrapIf(status.parse().ok()?));
    }
    if let Some((value, size)) = line.strip_prefix("return ").and_then(|rest| rest.split_once(" if size ")) {
        return Some(Step::ReturnIf(value.parse().ok()?, size.parse().ok()?));
    }
    if let Some(value) = line.strip_prefix("return ") {
        return Some(Step::Return(value.parse().ok()?));
    }
    let (text, keeps) = match line.rsplit_once(") as ") {
        Some((text, name)) => (format!("{text})"), Some(name.to_owned())),
        None => (line.to_owned(), None),
    };
    let (call, to) = match text.rsplit_once(") to ") {
        Some((call, at)) => (format!("{call})"), Some(number(at)?.try_into().ok()?)),
        None => (text.clone(), None),
    };
    let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
    let arguments = split(arguments).iter().map(|argument| read_argument(argument)).collect::<Option<_>>()?;
    Some(Step::Call(Call { name: name.to_owned(), arguments, keeps, to, text }))
}

/// Parts at the commas outside quotes and brackets.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut depth, mut escaped) =
        (Vec::new(), String::new(), false, 0, false);
    for sign in text.chars() {
        match sign {
            '"' if !escaped => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        escaped = sign == '\\' && !escaped;
        part.push(sign);
    }
    parts.push(part);
    let parts: Vec<String> = parts.iter().map(|part| part.trim().to_owned()).collect();
    if parts == [""] { Vec::new() } else { parts }
}

fn read_argument(text: &str) -> Option<Argument> {
    if let Some(number) = number(text) {
        return Some(Argument::Number(number));
    }
    if let Some(span) = text.strip_prefix('@') {
        let (at, length) = span.split_once('+')?;
        return Some(Argument::Span(number(at)?.try_into().ok()?, number(length)?.try_into().ok()?));
    }
    if let Some(name) = text.strip_prefix('%') {
        return Some(Argument::Name(name.to_owned()));
    }
    bytes(text).map(Argument::Bytes)
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Bytes: `"quoted"`, `"x" * 70000`, `pairs[a=b; c=d]`, `message[1="a"; 2=b]`, `key(rsa.pem)`, or a path of words with
/// dots between.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if let Some((text, times)) = text.split_once(" * ") {
        return Some(bytes(text)?.repeat(times.parse().ok()?));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        return unescaped(quoted.strip_suffix('"')?);
    }
    if let Some(list) = text.strip_prefix("pairs[") {
        let pairs = list.strip_suffix(']')?.split("; ").map(|pair| pair.split_once('='));
        return Some(block(&pairs.collect::<Option<Vec<_>>>()?));
    }
    if let Some(list) = text.strip_prefix("message[") {
        let fields = list.strip_suffix(']')?.split("; ").map(|field| {
            let (number, value) = field.split_once('=')?;
            Some((number.parse::<u8>().ok()?, bytes(value)?))
        });
        return Some(message(&fields.collect::<Option<Vec<_>>>()?));
    }
    if let Some(name) = text.strip_prefix("key(") {
        return super::keys::of(name.strip_suffix(')')?);
    }
    Some(text.replace('.', "\0").into_bytes())
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'0' => 0,
            b'n' => b'\n',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(bytes)
}

/// A message of protobuf, all of whose fields are bytes.
fn message(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, value) in fields {
        let high = u8::try_from(value.len() >> 7).expect("a value that is not so long");
        let low = u8::try_from(value.len() & 0x7f).expect("seven bits");
        message.extend([number << 3 | 2, low | 0x80, high]);
        message.extend(value);
    }
    message
}

/// The ABI's block of pairs.
fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut sizes = size(pairs.len()).to_vec();
    let mut texts = Vec::new();
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        sizes.extend(size(text.len()));
        texts.extend_from_slice(text.as_bytes());
        texts.push(0);
    }
    sizes.extend(texts);
    sizes
}
