//! One call to a registry: shown who we are, sent, answered in time or not, tried again where that can help.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::Value;
use tokio::time::Instant;

use super::auth::{self, Challenge};
use super::http::Answer;
use super::{Access, Problem, Registry, onward};
use crate::push::credentials::Credentials;

/// How often a call is tried, and about how long it waits before the second time; each time after waits twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// How often a registry may send us on.
const HOPS: usize = 5;

/// What is asked of a registry.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    uri: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, uri: String) -> Self {
        Self { method, uri, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn get(uri: String) -> Self {
        Self::new(Method::GET, uri)
    }

    pub(super) fn accept(self, types: &str) -> Self {
        self.header(ACCEPT, types)
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: &[u8]) -> Self {
        self.body = Bytes::copy_from_slice(body);
        self
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Problem> {
        let agent = concat!("isthmus/", env!("CARGO_PKG_VERSION"));
        let mut request =
            Request::builder().method(&self.method).uri(uri(&self.uri)?).header(USER_AGENT, agent);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(|error| Problem::Astray { to: self.uri.clone(), why: error.to_string() })
    }
}

/// A URL that a request can have.
pub(super) fn uri(text: &str) -> Result<Uri, Problem> {
    text.parse().map_err(|error: InvalidUri| Problem::Astray { to: text.to_owned(), why: error.to_string() })
}

/// Does something again where that can help, and gives up when its time is over.
pub(in crate::push) async fn again<T>(
    timeout: Duration,
    attempt: impl AsyncFn() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let deadline = Instant::now() + timeout;
    let mut pause = PAUSE;
    let mut tried = 0;
    loop {
        tried += 1;
        let problem = match tokio::time::timeout_at(deadline, attempt()).await {
            Err(_) => return Err(Problem::TimedOut { after: timeout }),
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(problem)) => problem,
        };
        let Some(wait) = problem.wait(scattered(pause)) else { return Err(problem) };
        // What it would wait for cannot come in time; what went wrong says more than that time is over.
        if tried == TRIES || Instant::now() + wait >= deadline {
            return Err(problem);
        }
        tokio::time::sleep(wait).await;
        pause *= 2;
    }
}

impl Registry {
    /// Sends a call that may be sent twice, again where that can help, and gives up when its time is over.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, Problem> {
        again(self.timeout, async || self.once(call).await).await
    }

    /// Sends a call once, with what the registry wants to see, and goes on to where it sends us.
    pub(super) async fn once(&self, call: &Call) -> Result<Answer, Problem> {
        let mut call = call.clone();
        for _ in 0..HOPS {
            let answer = self.shown(&call).await?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            match answer.header(LOCATION.as_str()) {
                Some(location) if answer.status.is_redirection() && call.method == Method::GET => {
                    call.uri = onward(&call.uri, location)?;
                }
                _ => return Err(self.problem(&answer)),
            }
        }
        Err(Problem::Astray { to: call.uri, why: "it goes round in circles".to_owned() })
    }

    /// Sends a call; where the registry challenges us, once more with what it wants to see.
    async fn shown(&self, call: &Call) -> Result<Answer, Problem> {
        // Where its files lie elsewhere, what it is shown is nobody's business.
        let ours = is_at(&self.base, &call.uri);
        let mut request = call.request()?;
        let shown = self.shown.lock().await.clone().filter(|_| ours);
        if let Some(shown) = &shown {
            request.headers_mut().insert(AUTHORIZATION, shown.clone());
        }
        let answer = self.http.send(request).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !ours {
            return Ok(answer);
        }
        let Some(challenge) = Challenge::read(answer.headers.get_all(WWW_AUTHENTICATE).iter()) else {
            return Ok(answer);
        };
        *self.doubt.lock().await = challenge.doubt();
        let Some(met) = self.meet(&challenge).await? else { return Ok(answer) };
        if shown.as_ref() == Some(&met) {
            return Ok(answer);
        }
        let mut request = call.request()?;
        request.headers_mut().insert(AUTHORIZATION, met.clone());
        let answer = self.http.send(request).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            *self.shown.lock().await = Some(met);
        }
        Ok(answer)
    }

    /// What meets a challenge; `None`: we have nothing that does.
    async fn meet(&self, challenge: &Challenge) -> Result<Option<hyper::header::HeaderValue>, Problem> {
        let credentials = self.found.credentials.as_ref();
        let (realm, service) = match (challenge, credentials) {
            (Challenge::Basic { .. }, credentials) => return Ok(credentials.and_then(auth::basic)),
            (Challenge::Bearer { .. }, Some(Credentials::Bearer(token))) => return Ok(auth::token(token)),
            (Challenge::Bearer { realm, service }, _) => (realm, service.as_deref().unwrap_or_default()),
        };
        // A password goes there: the same rule as for where we are sent on.
        let realm = onward(&self.base, realm)?;
        let what = if self.access == Access::Push { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{what}", self.repository);
        let (request, asked) = match credentials {
            Some(Credentials::Identity(token)) => {
                let form = auth::query(&[
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "isthmus"),
                    ("scope", &scope),
                    ("refresh_token", token),
                ]);
                let call = Call::new(Method::POST, realm.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.as_bytes());
                (call.request()?, realm)
            }
            _ => {
                let mark = if realm.contains('?') { '&' } else { '?' };
                let query = auth::query(&[("service", service), ("scope", &scope)]);
                let mut request = Call::get(format!("{realm}{mark}{query}")).request()?;
                if let Some(basic) = credentials.and_then(auth::basic) {
                    request.headers_mut().insert(AUTHORIZATION, basic);
                }
                (request, realm)
            }
        };
        let answer = self.http.send(request).await?;
        if !answer.status.is_success() {
            return Err(self.problem(&answer));
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| json.get(*key).and_then(Value::as_str));
        match token.and_then(auth::token) {
            Some(header) => Ok(Some(header)),
            None => Err(Problem::NotARegistry { why: format!("{asked} gives tokens for it, and gave none") }),
        }
    }

    /// What an answer that is no success means.
    fn problem(&self, answer: &Answer) -> Problem {
        let (codes, message) = said(answer);
        let looked = self.found.place.clone();
        let retry_after = answer.header(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok());
        let has = |code: &str| codes.iter().any(|said| said == code);
        match answer.status.as_u16() {
            401 if has("DENIED") => Problem::Denied { looked, message },
            401 => Problem::Unauthorized { looked, message },
            403 => Problem::Denied { looked, message },
            404 => Problem::NotFound { message },
            429 => Problem::Throttled { retry_after: retry_after.map(Duration::from_secs), message },
            405 | 507 => Problem::ReadOnly { message },
            // What a registry on a disk says when the disk is full.
            500.. if message.contains("no space left") || message.contains("\"Err\":28") => {
                Problem::ReadOnly { message: "no space is left".to_owned() }
            }
            503 if retry_after.is_some() => {
                Problem::Throttled { retry_after: retry_after.map(Duration::from_secs), message }
            }
            code @ 500.. => Problem::Server { code, message },
            code => Problem::Refused { code, message },
        }
    }
}

/// Whether a URL leads to the same server as another, by the same protocol.
fn is_at(base: &str, there: &str) -> bool {
    let server = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        let port = uri.port_u16().or_else(|| match uri.scheme_str()? {
            "https" => Some(443),
            _ => Some(80),
        });
        Some((uri.scheme_str()?.to_owned(), uri.host()?.to_ascii_lowercase(), port))
    };
    server(base).is_some_and(|base| server(there) == Some(base))
}

/// Between half as long and half as long again: who was cut off together does not come again together.
fn scattered(pause: Duration) -> Duration {
    let chance = getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + chance)
}

/// The codes and messages that an answer has, in the form that registries have for it, or as it came.
fn said(answer: &Answer) -> (Vec<String>, String) {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Some(errors) = json.get("errors").and_then(Value::as_array) else {
        let text = String::from_utf8_lossy(&answer.body);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        return (Vec::new(), line.chars().filter(|c| !c.is_control()).take(200).collect());
    };
    let text = |error: &Value, key: &str| match error.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let tell = |error: &Value| {
        let parts = [text(error, "code"), text(error, "message"), text(error, "detail")];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(": ").chars().take(300).collect::<String>()
    };
    let codes = errors.iter().map(|error| text(error, "code")).collect();
    (codes, errors.iter().map(tell).collect::<Vec<_>>().join("; "))
}
