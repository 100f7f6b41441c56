//! A real registry, Debian's, on loopback; and what stands before it and breaks things.
#![expect(clippy::expect_used, reason = "a fixture that fails fails its test")]

mod proxy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use isthmus::lab::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use proxy::{Fault, Proxy};

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// What a registry asks of who comes, and lets them do.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The realm of its passwords, and lines of htpasswd, with bcrypt: who may come.
    pub htpasswd: Option<[String; 2]>,
    /// Whose tokens it takes: realm, service, issuer, and the file of the issuer's certificate.
    pub token: Option<[String; 4]>,
    /// The files of its certificate and key.
    pub tls: Option<[PathBuf; 2]>,
    /// It takes nothing.
    pub read_only: bool,
}

/// A registry that ends with this value, or with the process that holds it.
#[derive(Debug)]
pub struct Registry {
    setup: Setup,
    directory: TempDir,
    address: String,
    process: Option<Process>,
}

impl Registry {
    /// Starts one; `None` where no registry can be had, which is said aloud.
    pub async fn start(setup: Setup) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let mut registry = Self { setup, directory, address: "127.0.0.1:0".to_owned(), process: None };
        registry.resume().await.then_some(registry)
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it keeps what it has.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// Ends it; what it has stays, and so does its port.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// From now on it takes nothing, or takes things again.
    pub async fn restart(&mut self, read_only: bool) {
        self.stop();
        self.setup.read_only = read_only;
        assert!(self.resume().await, "it was there a moment ago");
    }

    /// Starts it again after [`Self::stop`]; false where there is none to start.
    pub async fn resume(&mut self) -> bool {
        let program = match path_from(".ci/docker-registry") {
            Ok(program) => program,
            Err(why) => {
                tell("a real registry", &why);
                return false;
            }
        };
        let config = self.directory.path().join("config.yml");
        std::fs::write(&config, self.config().to_string()).expect("a file");
        let log = self.directory.path().join("log");
        let arguments = vec!["serve".to_owned(), config.display().to_string()];
        let mut process = Process::run(&program, arguments, &log).expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        self.address = loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = listening(&text) {
                break address;
            }
            assert!(!process.has_ended(), "the registry ended:\n{}", process.log_tail());
            assert!(Instant::now() < deadline, "the registry does not come up:\n{text}");
            tokio::time::sleep(TICK).await;
        };
        self.process = Some(process);
        true
    }

    /// JSON is YAML.
    fn config(&self) -> Value {
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": self.storage()},
                "maintenance": {"readonly": {"enabled": self.setup.read_only}},
            },
            "http": {"addr": self.address},
        });
        let entries = config.as_object_mut().expect("an object");
        if let Some([realm, users]) = &self.setup.htpasswd {
            let path = self.directory.path().join("htpasswd");
            std::fs::write(&path, users).expect("a file");
            entries.insert("auth".to_owned(), json!({"htpasswd": {"realm": realm, "path": path}}));
        }
        if let Some([realm, service, issuer, certificate]) = &self.setup.token {
            let token =
                json!({"realm": realm, "service": service, "issuer": issuer, "rootcertbundle": certificate});
            entries.insert("auth".to_owned(), json!({"token": token}));
        }
        if let Some([certificate, key]) = &self.setup.tls {
            let tls = json!({"certificate": certificate, "key": key});
            entries.insert("http".to_owned(), json!({"addr": self.address, "tls": tls}));
        }
        config
    }
}

/// The address in the last line that says where it listens.
fn listening(log: &str) -> Option<String> {
    let (_, rest) = log.rsplit_once("listening on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':')))?;
    rest.get(..end).map(str::to_owned)
}

/// Istio's own fetcher as a judge; `None` where it cannot be had, which is said aloud.
pub fn fetcher() -> Option<PathBuf> {
    path_from("tests/fetcher/build").map_err(|why| tell("Istio's fetcher", &why)).ok()
}

fn tell(what: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no {what}: {why}");
    writeln!(std::io::stderr(), "NOT RUN against {what}: {why}").expect("stderr");
}

/// What a script of the repository prints, which is a path; why not, otherwise.
fn path_from(script: &str) -> Result<PathBuf, String> {
    let script = crate::repository().join(script);
    let output = Command::new(script).output().expect("bash runs");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(Path::new(printed.trim()).to_owned()) } else { Err(said.into_owned()) }
}
