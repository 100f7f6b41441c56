//! Who we are to a registry: what `docker login` has left, in the configuration of docker or with a helper.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::command;

/// How long a helper may take: some ask a person.
const HELPER: Duration = Duration::from_secs(60);

/// The user that a helper names to say that the secret is a token.
const TOKEN: &str = "<token>";

/// What a registry is shown.
#[derive(Clone)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// Never printed.
        password: Zeroizing<String>,
    },
    /// A token that the registry's own service changes for others.
    Identity(Zeroizing<String>),
    /// A token that the registry takes as it is.
    Bearer(Zeroizing<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::Identity(_) => "Identity(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

/// What was found for a registry, and how to say where.
#[derive(Debug, Clone)]
pub struct Found {
    /// `None`: it is asked as nobody.
    pub credentials: Option<Credentials>,
    /// Where they are from, or where none were.
    pub place: String,
}

/// The credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The configuration cannot be read.
    #[error("cannot read the credentials in {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The helper that the configuration names does not do its work.
    #[error("{helper}, which {path} names for {host}, gives no credentials: {why}")]
    Helper {
        /// The program.
        helper: String,
        /// The configuration.
        path: PathBuf,
        /// The registry.
        host: String,
        /// What went wrong.
        why: String,
    },
}

/// Docker's `config.json`.
#[derive(Debug)]
pub struct Keychain {
    path: Option<PathBuf>,
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Config").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identitytoken: Option<Zeroizing<String>>,
    registrytoken: Option<Zeroizing<String>>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: Zeroizing<String>,
}

impl Keychain {
    /// The configuration in the directory that `DOCKER_CONFIG` says, else in `.docker` in the home directory; a file that
    /// is not there has nothing.
    pub fn read(directory: Option<&OsStr>, home: Option<&Path>) -> Result<Self, CredentialsError> {
        let directory = match directory.filter(|directory| !directory.is_empty()) {
            Some(directory) => Some(PathBuf::from(directory)),
            None => home.map(|home| home.join(".docker")),
        };
        let path = directory.map(|directory| directory.join("config.json"));
        let Some(file) = path.as_ref().filter(|path| path.exists()) else {
            return Ok(Self { path, config: Config::default() });
        };
        let fail = |why: String| CredentialsError::File { path: file.clone(), why };
        let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| fail(error.to_string()))?);
        // Its message could quote a secret.
        let config = serde_json::from_str(&text).map_err(|error| {
            fail(format!("it is no JSON of docker's, at line {}, column {}", error.line(), error.column()))
        })?;
        Ok(Self { path, config })
    }

    /// What there is for a registry.
    pub fn find(&self, host: &str) -> Result<Found, CredentialsError> {
        let Some(path) = &self.path else {
            return Ok(nobody("there is no DOCKER_CONFIG and no home to look for credentials in"));
        };
        let file = path.display();
        let keys = keys(host);
        let config = &self.config;
        let helper = keys.iter().find_map(|key| config.cred_helpers.get(key)).or(config.creds_store.as_ref());
        if let Some(helper) = helper.filter(|helper| !helper.is_empty()) {
            let program = format!("docker-credential-{helper}");
            if let Some(credentials) = self.ask(&program, host, &keys)? {
                let place = format!("the credentials are those that {program} has for {host}");
                return Ok(Found { credentials: Some(credentials), place });
            }
        }
        let entry = keys.iter().find_map(|key| config.auths.get(key));
        let found = entry.and_then(|entry| credentials(entry, path).transpose()).transpose()?;
        Ok(match found {
            Some(found) => Found {
                credentials: Some(found),
                place: format!("the credentials are those that {file} has for {host}"),
            },
            None => nobody(&format!(
                "{file} has no credentials for {host}: `docker login {host}` puts them there"
            )),
        })
    }

    /// What a helper has; `None`: nothing.
    fn ask(
        &self,
        helper: &str,
        host: &str,
        keys: &[String],
    ) -> Result<Option<Credentials>, CredentialsError> {
        let fail = |why: String| CredentialsError::Helper {
            helper: helper.to_owned(),
            path: self.path.clone().unwrap_or_default(),
            host: host.to_owned(),
            why,
        };
        let key = keys.first().map_or(host, String::as_str);
        let output = command::answer_within(Command::new(helper).arg("get"), key.as_bytes(), HELPER)
            .map_err(|error| fail(format!("cannot run it: {error}")))?;
        let answer = Zeroizing::new(output.stdout);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&answer).trim().to_owned();
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(fail(if said.is_empty() {
                format!("it ended with {}", output.status)
            } else {
                said
            }));
        }
        let helped: Helped = serde_json::from_slice(&answer)
            .map_err(|_secret| fail("its answer is no JSON of a helper".to_owned()))?;
        Ok(match helped.username.as_str() {
            "" => None,
            TOKEN => Some(Credentials::Identity(helped.secret)),
            _ => Some(Credentials::Password { user: helped.username, password: helped.secret }),
        })
    }
}

fn nobody(place: &str) -> Found {
    Found { credentials: None, place: place.to_owned() }
}

/// What a registry is called in the configuration: Docker Hub by a URL of old, others by their host or by a URL.
fn keys(host: &str) -> Vec<String> {
    let host = match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"].map(str::to_owned).into();
        }
        host => host,
    };
    let urls = ["", "/", "/v1/", "/v2/"];
    let urls =
        ["https://", "http://"].iter().flat_map(|scheme| urls.map(|path| format!("{scheme}{host}{path}")));
    std::iter::once(host.to_owned()).chain(urls).collect()
}

/// What an entry says: a user and a password in one, or apart, or a token.
fn credentials(entry: &Entry, path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let given = |token: &Option<Zeroizing<String>>| token.clone().filter(|token| !token.is_empty());
    if let Some(token) = given(&entry.registrytoken) {
        return Ok(Some(Credentials::Bearer(token)));
    }
    if let Some(token) = given(&entry.identitytoken) {
        return Ok(Some(Credentials::Identity(token)));
    }
    if let Some(auth) = given(&entry.auth) {
        let both = Base64::decode_vec(auth.trim()).ok().map(Zeroizing::new);
        let both = both.as_ref().and_then(|both| std::str::from_utf8(both).ok()?.split_once(':'));
        let (user, password) = both.ok_or_else(|| CredentialsError::File {
            path: path.to_owned(),
            why: "an `auth` in it is no user:password in base64".to_owned(),
        })?;
        let password = Zeroizing::new(password.trim_end_matches('\0').to_owned());
        return Ok(Some(Credentials::Password { user: user.to_owned(), password }));
    }
    Ok(match (&entry.username, given(&entry.password)) {
        (Some(user), Some(password)) if !user.is_empty() => {
            Some(Credentials::Password { user: user.clone(), password })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
