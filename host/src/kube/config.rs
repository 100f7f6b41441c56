//! Kubeconfig files, merged as kubectl merges them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use kube::config::{KubeConfigOptions, Kubeconfig as File, KubeconfigError as FileError};
use kube::{Client, Config};

use super::kinds::Kinds;
use super::{Cluster, ClusterError, Deed, MANAGER, Problem};
use crate::text::chain;

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file that cannot be read.
    #[error("cannot read the kubeconfig {path}: {why}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No file at all.
    #[error("there is no kubeconfig: name one with --kubeconfig, or set KUBECONFIG")]
    None,
}

/// The clusters, users and contexts of one or several files.
#[derive(Debug, Clone)]
pub struct Kubeconfig(File);

impl Kubeconfig {
    /// Reads the file that is named; else those in `list`, which is what `KUBECONFIG` says; else `.kube/config` in
    /// the home directory. As with kubectl, the first file to say a thing has the word, and files of a list that are
    /// not there are passed over.
    pub fn read(
        named: Option<&Path>,
        list: Option<&OsStr>,
        home: Option<&Path>,
    ) -> Result<Self, KubeconfigError> {
        if let Some(path) = named {
            return read(path).map(Self);
        }
        let listed: Vec<PathBuf> = match list.filter(|list| !list.is_empty()) {
            Some(list) => std::env::split_paths(list).collect(),
            None => home.map(|home| home.join(".kube/config")).into_iter().collect(),
        };
        let mut merged: Option<File> = None;
        for path in listed.iter().filter(|path| path.exists()) {
            let file = read(path)?;
            merged = Some(match merged {
                None => file,
                Some(before) => before.merge(file).map_err(|error| unreadable(path, &error))?,
            });
        }
        merged.map(Self).ok_or(KubeconfigError::None)
    }

    /// Reads the text of one file.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let unreadable = |error| unreadable(Path::new("(given as text)"), &error);
        File::from_yaml(text).map(Self).map_err(unreadable)
    }

    /// The context that is used where none is named.
    pub fn current(&self) -> Option<&str> {
        self.0.current_context.as_deref()
    }

    /// Where the API server of a context is, and the certificates in PEM by which it is known, as far as the file says.
    fn server(&self, context: &str) -> (Option<String>, Option<String>) {
        let context = self.0.contexts.iter().find(|named| named.name == context);
        let cluster = context.and_then(|named| Some(&named.context.as_ref()?.cluster));
        let named = |named: &&kube::config::NamedCluster| Some(&named.name) == cluster;
        let Some(cluster) = self.0.clusters.iter().find(named).and_then(|named| named.cluster.as_ref())
        else {
            return (None, None);
        };
        let decode = |data: &String| String::from_utf8(Base64::decode_vec(data).ok()?).ok();
        let read = |path: &String| std::fs::read_to_string(path).ok();
        let authority = cluster.certificate_authority_data.as_ref().and_then(decode);
        let authority = authority.or_else(|| cluster.certificate_authority.as_ref().and_then(read));
        (cluster.server.clone(), authority)
    }

    /// The names of the contexts.
    pub fn contexts(&self) -> impl Iterator<Item = &str> {
        self.0.contexts.iter().map(|context| context.name.as_str())
    }

    /// The cluster that a context leads to; each call to it gets so much time. A plugin that makes credentials is
    /// asked now, and again when they expire.
    pub async fn cluster(&self, context: &str, timeout: Duration) -> Result<Cluster, ClusterError> {
        let error = |problem| ClusterError {
            context: context.to_owned(),
            deed: Deed::connect(),
            problem: Box::new(problem),
        };
        if !self.contexts().any(|name| name == context) {
            let known = self.contexts().map(str::to_owned).collect();
            return Err(error(Problem::NoContext { known }));
        }
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(self.0.clone(), &options)
            .await
            .map_err(|source| error(Problem::Credentials { why: chain(&source) }))?;
        // It would wait for as long as a server says, and not say that it does.
        config.default_retry = false;
        // Plugins are waited for in place, so they get a thread that may wait.
        let connecting = tokio::task::spawn_blocking(move || Client::try_from(config));
        let client = match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(Ok(client))) => client,
            Ok(Ok(Err(source))) => return Err(error(Problem::Credentials { why: chain(&source) })),
            Ok(Err(source)) => return Err(error(Problem::Credentials { why: source.to_string() })),
            Err(_) => return Err(error(Problem::TimedOut { after: timeout })),
        };
        let (server, authority) = self.server(context);
        let (context, kinds) = (context.to_owned(), Kinds::default());
        Ok(Cluster { context, client, timeout, kinds, manager: MANAGER, server, authority })
    }
}

fn read(path: &Path) -> Result<File, KubeconfigError> {
    File::read_from(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &FileError) -> KubeconfigError {
    // A line that is no YAML may be that of a token, so only its place is shown.
    let why = if let FileError::Parse(error) = error {
        let place = |at: serde_saphyr::Location| format!("line {}, column {}", at.line(), at.column());
        let place = error.location().map_or_else(|| "it".to_owned(), place);
        format!("{place} is not as a kubeconfig has it")
    } else if let FileError::ReadConfig(error, _) = error {
        error.to_string()
    } else {
        chain(error)
    };
    KubeconfigError::Read { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests;
