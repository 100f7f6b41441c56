//! Why a lab did not come up or did not answer, and what its istiods could not take.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::blueprint::BlueprintError;
use super::http::RequestError;
use crate::cert::CertError;

/// Why a lab did not come up, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The blueprint does not hold together.
    #[error("the blueprint does not hold together")]
    Blueprint {
        /// What is wrong.
        source: BlueprintError,
    },
    /// Every lab number is taken, on this machine, now.
    #[error("every range of loopback addresses is taken by another lab")]
    NoAddresses,
    /// A file or directory of the lab could not be read or written.
    #[error("cannot read or write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates could not be made.
    #[error("cannot make the lab's certificates")]
    Certificates {
        /// Why.
        source: CertError,
    },
    /// A cluster's plugins could not be translated.
    #[error("a plugin cannot be translated")]
    Plugin {
        /// Why.
        source: PluginError,
    },
    /// Envoy could not be run.
    #[error("cannot run {envoy}")]
    Run {
        /// The binary.
        envoy: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An Envoy ended by itself.
    #[error("the Envoy of {proxy} ended by itself:\n{log}")]
    Ended {
        /// The proxy.
        proxy: String,
        /// The end of its log.
        log: String,
    },
    /// A proxy did not get ready in time.
    #[error("{proxy} was not ready after {} s; last seen: {last}", .waited.as_secs())]
    NotReady {
        /// The proxy.
        proxy: String,
        /// For how long it was waited for.
        waited: Duration,
        /// What it said last.
        last: String,
    },
    /// There is no such proxy or client in this lab.
    #[error("the lab has no {name}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A request got no answer.
    #[error("{proxy} gave no answer")]
    Request {
        /// The proxy.
        proxy: String,
        /// Why.
        source: RequestError,
    },
    /// A line of an access log is not JSON.
    #[error("a line of {path} is not JSON")]
    AccessLog {
        /// The log.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Processes that did not end when told to.
    #[error("still running: {}", .proxies.join(", "))]
    Stragglers {
        /// The proxies they are.
        proxies: Vec<String>,
    },
}

/// What a cluster's istiod could not take; its proxies keep what they had.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A file or directory could not be read or written.
    #[error("cannot read or write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not YAML")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What the parser said.
        source: Box<serde_saphyr::Error>,
    },
    /// An object has a shape that the API server would refuse, or that the lab does not play.
    #[error("{object} is nothing that the lab can play")]
    Shape {
        /// Which.
        object: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A VirtualService of no host, or of several.
    #[error("{object}: the lab plays one host for each")]
    Hosts {
        /// Which.
        object: String,
    },
    /// Two objects of one kind speak of a host.
    #[error("{object} speaks of {host}, and another does")]
    TwoForHost {
        /// One of them.
        object: String,
        /// The host.
        host: String,
    },
    /// A module is not a local file; the lab fetches nothing.
    #[error("plugin {plugin} has url {url:?}: the lab takes file:// only")]
    Url {
        /// The plugin.
        plugin: String,
        /// Its URL.
        url: String,
    },
    /// Two plugins of one namespace reach a proxy, which has one slot for them.
    #[error("plugins {first} and {second} both reach {proxy}")]
    TwoPlugins {
        /// The proxy.
        proxy: String,
        /// One plugin.
        first: String,
        /// The other.
        second: String,
    },
}
